#include "reference_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/float16.h"

namespace tidal {
namespace {

using Values = std::vector<double>;

constexpr int32_t kIndexPage = 64;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

int32_t BitsOf(Scorer scorer) {
  if (scorer == Scorer::kIndex4) return 4;
  return scorer == Scorer::kIndex2 ? 2 : 0;
}

bool ScoresPages(Scorer scorer) {
  return scorer == Scorer::kPagesMinMax || scorer == Scorer::kPagesMeanStd;
}

// For numbers well below 2^51.
double RoundToEven(double value) {
  constexpr double kUnitsOfOne = 6755399441055744.0;  // 1.5 * 2^52
  return (value + kUnitsOfOne) - kUnitsOfOne;
}

double Rounded(float value) { return static_cast<double>(F16ToF32(F32ToF16(value))); }

// Always-kept tokens and how many tokens a set has.
struct Frame {
  int32_t budget = 0;  // 0: by mass
  TokenMask kept;
  int32_t num_kept = 0;
};

int32_t CountOf(const TokenAmount& amount, int32_t whole) {
  if (amount.unit != TokenAmount::Unit::kPercent) return static_cast<int32_t>(amount.value);
  return static_cast<int32_t>(std::ceil(amount.value * whole / 100));
}

int32_t BudgetOf(const AttentionPlan& plan, int32_t kv_len) {
  if (plan.mass > 0) return 0;
  const int32_t budget = CountOf(plan.budget, kv_len);
  return plan.budget.unit == TokenAmount::Unit::kPercent ? std::max(budget, plan.floor) : budget;
}

int32_t RecentOf(const AttentionPlan& plan, int32_t budget, int32_t kv_len) {
  switch (plan.recent.unit) {
    case TokenAmount::Unit::kTokens:
      return static_cast<int32_t>(plan.recent.value);
    case TokenAmount::Unit::kRest:
      return budget - plan.sinks;
    case TokenAmount::Unit::kPercent:
      break;
  }
  if (plan.merge == Merge::kRank)
    return budget - static_cast<int32_t>(budget * (1 - plan.recent.value / 100)) - plan.sinks;
  return CountOf(plan.recent, budget > 0 ? budget : kv_len);
}

Frame FrameOf(const ChoiceInput& input) {
  const AttentionPlan& plan = *input.plan;
  Frame frame;
  frame.budget = BudgetOf(plan, input.kv_len);
  const int32_t recent = RecentOf(plan, frame.budget, input.kv_len);
  for (int32_t pos = 0; pos < input.kv_len; ++pos)
    frame.kept.push_back(pos < plan.sinks || pos >= input.kv_len - recent);
  if (plan.keep_newlines) {
    const int32_t room = std::max(frame.budget - plan.sinks - recent, 0);
    int32_t left = std::min(frame.budget / 2, room);
    for (const int32_t pos : input.newlines) {
      uint8_t& kept = frame.kept[static_cast<size_t>(pos)];
      if (kept != 0 || left == 0) continue;
      kept = 1;
      --left;
    }
  }
  frame.num_kept = std::accumulate(frame.kept.begin(), frame.kept.end(), 0);
  return frame;
}

// The positions that are not always kept, by descending value and ascending position.
std::vector<int32_t> Ranked(const Values& values, const TokenMask& kept) {
  std::vector<int32_t> order;
  for (size_t pos = 0; pos < values.size(); ++pos) {
    if (kept[pos] == 0) order.push_back(static_cast<int32_t>(pos));
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return order;
}

TokenMask FillTokens(const Values& values, const Frame& frame) {
  TIDAL_CHECK(frame.budget >= frame.num_kept, "{} of {} tokens are always kept", frame.num_kept,
              frame.budget);
  const std::vector<int32_t> order = Ranked(values, frame.kept);
  const auto wanted = static_cast<size_t>(frame.budget - frame.num_kept);
  TokenMask set = frame.kept;
  for (size_t i = 0; i < std::min(wanted, order.size()); ++i)
    set[static_cast<size_t>(order[i])] = 1;
  return set;
}

// Whole pages: the current token's and those with a kept token first.
TokenMask FillPages(const Values& page_values, const Frame& frame, int32_t page) {
  const size_t kv_len = frame.kept.size();
  const auto page_size = static_cast<size_t>(page);
  Values values = page_values;
  values[(kv_len - 1) / page_size] = kInfinity;
  for (size_t pos = 0; pos < kv_len; ++pos) {
    if (frame.kept[pos] != 0) values[pos / page_size] = kInfinity;
  }
  const std::vector<int32_t> order = Ranked(values, TokenMask(values.size(), 0));
  const auto wanted = static_cast<size_t>(std::max(1, frame.budget / page));
  TokenMask set(kv_len, 0);
  for (size_t i = 0; i < std::min(wanted, order.size()); ++i) {
    const size_t begin = static_cast<size_t>(order[i]) * page_size;
    for (size_t pos = begin; pos < std::min(begin + page_size, kv_len); ++pos) set[pos] = 1;
  }
  return set;
}

// `share`: of the merged probability, summing to 1.
TokenMask FillMass(const AttentionPlan& plan, const Values& values, const Values& share,
                   const Frame& frame) {
  double have = 0;
  for (size_t pos = 0; pos < share.size(); ++pos) have += frame.kept[pos] != 0 ? share[pos] : 0;
  TokenMask set = frame.kept;
  int32_t size = frame.num_kept;
  for (const int32_t pos : Ranked(values, frame.kept)) {
    if ((have >= plan.mass && size >= plan.floor) || (plan.ceil > 0 && size >= plan.ceil)) break;
    set[static_cast<size_t>(pos)] = 1;
    have += share[static_cast<size_t>(pos)];
    ++size;
  }
  return set;
}

// Every head ranks; rank by rank over the heads, duplicates dropped.
TokenMask FillRanks(const std::vector<Values>& scores, int32_t begin, int32_t end,
                    const Frame& frame) {
  TIDAL_CHECK(frame.budget >= frame.num_kept, "{} of {} tokens are always kept", frame.num_kept,
              frame.budget);
  std::vector<std::vector<int32_t>> orders;
  for (int32_t head = begin; head < end; ++head)
    orders.push_back(Ranked(scores[static_cast<size_t>(head)], frame.kept));
  TokenMask set = frame.kept;
  int32_t size = frame.num_kept;
  for (size_t rank = 0; rank < orders[0].size(); ++rank) {
    for (const std::vector<int32_t>& order : orders) {
      uint8_t& member = set[static_cast<size_t>(order[rank])];
      if (size == frame.budget) return set;
      size += member == 0 ? 1 : 0;
      member = 1;
    }
  }
  return set;
}

double PageBound(const ChoiceInput& input, int32_t head, int32_t begin, int32_t end) {
  const int32_t kv_head = head / (input.num_heads / input.kv->num_kv_heads);
  const bool min_max = input.plan->scorer == Scorer::kPagesMinMax;
  double bound = 0;
  for (int32_t channel = 0; channel < input.kv->head_dim; ++channel) {
    const double* keys = input.kv->Channel(kv_head, channel);
    const double q = input.q[int64_t{head} * input.kv->head_dim + channel];
    double sum = 0, least = kInfinity, most = -kInfinity;
    for (int32_t pos = begin; pos < end; ++pos) {
      sum += keys[pos];
      least = std::min(least, keys[pos]);
      most = std::max(most, keys[pos]);
    }
    const double mean = sum / (end - begin);
    double variance = 0;
    for (int32_t pos = begin; pos < end; ++pos)
      variance += (keys[pos] - mean) * (keys[pos] - mean) / (end - begin);
    bound += min_max ? std::max(q * most, q * least) : q * mean + std::abs(q) * std::sqrt(variance);
  }
  return bound;
}

// The largest of each page's tokens.
Values PageMaxima(const Values& values, int32_t page) {
  Values maxima((values.size() + static_cast<size_t>(page) - 1) / static_cast<size_t>(page),
                -kInfinity);
  for (size_t pos = 0; pos < values.size(); ++pos) {
    double& maximum = maxima[pos / static_cast<size_t>(page)];
    maximum = std::max(maximum, values[pos]);
  }
  return maxima;
}

int32_t NumSets(const ChoiceInput& input) {
  switch (input.plan->scope) {
    case SetScope::kShared:
      return 1;
    case SetScope::kKvHead:
      return input.kv->num_kv_heads;
    case SetScope::kHead:
      return input.num_heads;
  }
  return 0;
}

// The values of each token, by pages repeated.
Values Repeated(const Values& page_values, int32_t page, int32_t kv_len) {
  Values values;
  for (int32_t pos = 0; pos < kv_len; ++pos)
    values.push_back(page_values[static_cast<size_t>(pos / page)]);
  return values;
}

ReferenceChoice ChoosePages(const ChoiceInput& input, const Frame& frame) {
  const int32_t page = input.plan->page;
  const int32_t num_sets = NumSets(input);
  const int32_t heads_per_set = input.num_heads / num_sets;
  ReferenceChoice choice;
  for (int32_t set = 0; set < num_sets; ++set) {
    Values bounds;
    for (int32_t begin = 0; begin < input.kv_len; begin += page) {
      double most = -kInfinity;
      for (int32_t head = set * heads_per_set; head < (set + 1) * heads_per_set; ++head) {
        most = std::max(most, PageBound(input, head, begin, std::min(begin + page, input.kv_len)));
      }
      bounds.push_back(most);
    }
    choice.sets.push_back(FillPages(bounds, frame, page));
    choice.values.push_back(Repeated(bounds, page, input.kv_len));
  }
  return choice;
}

// The value of each token for heads begin .. end - 1.
Values Merged(Merge merge, const std::vector<Values>& scores, const std::vector<Values>& probs,
              int32_t begin, int32_t end) {
  if (merge == Merge::kScore) {
    TIDAL_CHECK(end == begin + 1, "{} heads share a score", end - begin);
    return scores[static_cast<size_t>(begin)];
  }
  Values merged(scores[0].size(), 0.0);
  for (int32_t head = begin; head < end; ++head) {
    const Values& prob = probs[static_cast<size_t>(head)];
    for (size_t pos = 0; pos < merged.size(); ++pos)
      merged[pos] =
          merge == Merge::kMax ? std::max(merged[pos], prob[pos]) : merged[pos] + prob[pos];
  }
  return merged;
}

}  // namespace

ReferenceKv::ReferenceKv(int32_t kv_heads, int32_t dim, int32_t max_tokens, bool has_values)
    : num_kv_heads(kv_heads),
      head_dim(dim),
      capacity(max_tokens),
      keys(static_cast<size_t>(int64_t{kv_heads} * dim * max_tokens)),
      values(has_values ? keys.size() : 0) {}

std::vector<double> ScoresOf(const ReferenceKv& kv, int32_t kv_head, const double* q,
                             int32_t kv_len) {
  Values scores(static_cast<size_t>(kv_len), 0.0);
  for (int32_t channel = 0; channel < kv.head_dim; ++channel) {
    const double* keys = kv.Channel(kv_head, channel);
    const double factor = q[channel];
    for (int32_t pos = 0; pos < kv_len; ++pos)
      scores[static_cast<size_t>(pos)] += factor * keys[pos];
  }
  const double scale = 1 / std::sqrt(static_cast<double>(kv.head_dim));
  for (double& score : scores) score *= scale;
  return scores;
}

std::vector<double> Softmax(const std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  Values probs(scores.size());
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) sum += probs[i] = std::exp(scores[i] - largest);
  for (double& prob : probs) prob /= sum;
  return probs;
}

ReferenceKv IndexedKeys(const ReferenceKv& kv, int32_t kv_len, int32_t bits) {
  ReferenceKv indexed(kv.num_kv_heads, kv.head_dim, kv_len, false);
  const auto levels = static_cast<float>((1 << bits) - 1);
  for (int32_t kv_head = 0; kv_head < kv.num_kv_heads; ++kv_head) {
    for (int32_t channel = 0; channel < kv.head_dim; ++channel) {
      const double* keys = kv.Channel(kv_head, channel);
      double* codes = indexed.Channel(kv_head, channel);
      std::copy_n(keys, kv_len, codes);
      for (int32_t begin = 0; begin + kIndexPage <= kv_len; begin += kIndexPage) {
        const auto [least, most] = std::minmax_element(keys + begin, keys + begin + kIndexPage);
        const double minimum = Rounded(static_cast<float>(*least));
        const double step = Rounded(static_cast<float>(*most - minimum) / levels);
        for (int32_t pos = begin; pos < begin + kIndexPage; ++pos) {
          const double code = step > 0 ? std::clamp(RoundToEven(static_cast<double>(
                                                        static_cast<float>(keys[pos] - minimum) /
                                                        static_cast<float>(step))),
                                                    0.0, static_cast<double>(levels))
                                       : 0;
          codes[pos] = minimum + code * step;
        }
      }
    }
  }
  return indexed;
}

std::vector<Values> ScoresByScorer(const ChoiceInput& input) {
  const int32_t bits = BitsOf(input.plan->scorer);
  const int32_t gqa_ratio = input.num_heads / input.kv->num_kv_heads;
  std::vector<Values> scores;
  if (ScoresPages(input.plan->scorer) || input.plan->scorer == Scorer::kNone) return scores;
  const auto score_all = [&](const ReferenceKv& kv) {
    for (int32_t head = 0; head < input.num_heads; ++head)
      scores.push_back(
          ScoresOf(kv, head / gqa_ratio, input.q + int64_t{head} * kv.head_dim, input.kv_len));
  };
  if (bits == 0) {
    score_all(*input.kv);
  } else {
    score_all(IndexedKeys(*input.kv, input.kv_len, bits));
  }
  return scores;
}

ReferenceChoice ChooseSets(const ChoiceInput& input, const std::vector<Values>& scores) {
  const AttentionPlan& plan = *input.plan;
  const Frame frame = FrameOf(input);
  if (plan.scorer == Scorer::kNone) return {.sets = {frame.kept}, .values = {}};
  if (ScoresPages(plan.scorer)) return ChoosePages(input, frame);
  std::vector<Values> probs;
  for (const Values& head_scores : scores) probs.push_back(Softmax(head_scores));
  const int32_t num_sets = NumSets(input);
  const int32_t heads_per_set = input.num_heads / num_sets;
  ReferenceChoice choice;
  for (int32_t set = 0; set < num_sets; ++set) {
    const int32_t begin = set * heads_per_set;
    const int32_t end = begin + heads_per_set;
    if (plan.merge == Merge::kRank) {
      choice.sets.push_back(FillRanks(scores, begin, end, frame));
      continue;
    }
    Values values = Merged(plan.merge, scores, probs, begin, end);
    if (plan.mass > 0) {
      Values share = Merged(Merge::kMass, scores, probs, begin, end);
      for (double& part : share) part /= heads_per_set;
      choice.sets.push_back(FillMass(plan, values, share, frame));
    } else if (plan.page > 1) {
      const Values maxima = PageMaxima(values, plan.page);
      choice.sets.push_back(FillPages(maxima, frame, plan.page));
      values = Repeated(maxima, plan.page, input.kv_len);
    } else {
      choice.sets.push_back(FillTokens(values, frame));
    }
    choice.values.push_back(std::move(values));
  }
  return choice;
}

double SelectedMass(const std::vector<Values>& scores, const std::vector<TokenMask>& sets) {
  if (scores.empty()) return NAN;
  const size_t heads_per_set = scores.size() / sets.size();
  double sum = 0;
  for (size_t head = 0; head < scores.size(); ++head) {
    const Values probs = Softmax(scores[head]);
    const TokenMask& set = sets[head / heads_per_set];
    for (size_t pos = 0; pos < probs.size(); ++pos) sum += set[pos] != 0 ? probs[pos] : 0;
  }
  return sum / static_cast<double>(scores.size());
}

}  // namespace tidal
