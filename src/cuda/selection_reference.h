// For tests: what a selection layer chooses, written plainly in double precision from the
// definitions in docs/attention_plans.md, and how a device's sets are held against it.
#ifndef TIDAL_CUDA_SELECTION_REFERENCE_H_
#define TIDAL_CUDA_SELECTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "attention/attention_plan.h"
#include "base/float16.h"

namespace tidal {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One layer of one sequence.
struct ReferenceInput {
  const AttentionPlan* plan = nullptr;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t kv_len = 0;
  int32_t index_bits = 0;     // of the layer's index; 0: it has none
  std::vector<float> q;       // [num_heads][head_dim]
  std::vector<float> keys;    // [num_kv_heads][kv_len][head_dim], as stored
  std::vector<int32_t> keep;  // newest first

  double Key(int32_t kv_head, int32_t pos, int32_t channel) const {
    return static_cast<double>(
        keys[static_cast<size_t>((int64_t{kv_head} * kv_len + pos) * head_dim + channel)]);
  }
  double Query(int32_t head, int32_t channel) const {
    return static_cast<double>(q[static_cast<size_t>(int64_t{head} * head_dim + channel)]);
  }
};

using Doubles = std::vector<double>;

// What sets are judged by.
struct ReferenceValues {
  std::vector<Doubles> values;  // [num_sets][units]: what units are ranked by
  std::vector<Doubles> shares;  // [num_sets][kv_len]: mean probability of the set's heads
  std::vector<Doubles> scores;  // [num_heads][kv_len]
  std::vector<uint8_t> always;  // [kv_len]
  int32_t num_always = 0;
  int32_t budget = 0;
  double score_error = 0;  // what float arithmetic of `epsilon` may be off in a score
};

// A key as the index of its page gives it back.
inline void IndexKeys(const ReferenceInput& in, std::vector<float>* keys) {
  const auto top = static_cast<float>((1 << in.index_bits) - 1);
  const auto at = [&](int32_t kv_head, int32_t pos, int32_t channel) -> float& {
    return (
        *keys)[static_cast<size_t>((int64_t{kv_head} * in.kv_len + pos) * in.head_dim + channel)];
  };
  for (int32_t kv_head = 0; kv_head < in.num_kv_heads; ++kv_head) {
    for (int32_t page = 0; (page + 1) * 64 <= in.kv_len; ++page) {
      for (int32_t d = 0; d < in.head_dim; ++d) {
        float low = at(kv_head, page * 64, d);
        float high = low;
        for (int32_t t = 0; t < 64; ++t) {
          low = std::min(low, at(kv_head, page * 64 + t, d));
          high = std::max(high, at(kv_head, page * 64 + t, d));
        }
        const float minimum = F16ToF32(F32ToF16(low));
        const float step = F16ToF32(F32ToF16((high - minimum) / top));
        for (int32_t t = 0; t < 64; ++t) {
          float& key = at(kv_head, page * 64 + t, d);
          const float code =
              step > 0 ? std::clamp(std::nearbyint((key - minimum) / step), 0.0f, top) : 0.0f;
          key = minimum + code * step;
        }
      }
    }
  }
}

inline bool HasProbabilities(Scorer scorer) {
  return scorer == Scorer::kExact || scorer == Scorer::kIndex4 || scorer == Scorer::kIndex2;
}

inline int32_t NumSetsOf(const ReferenceInput& in) {
  if (in.plan->scope == SetScope::kShared) return 1;
  return in.plan->scope == SetScope::kKvHead ? in.num_kv_heads : in.num_heads;
}

inline Doubles SoftmaxOf(const Doubles& scores) {
  const double most = *std::max_element(scores.begin(), scores.end());
  Doubles probs(scores.size());
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) sum += probs[i] = std::exp(scores[i] - most);
  for (double& prob : probs) prob /= sum;
  return probs;
}

inline void FillAlways(const ReferenceInput& in, ReferenceValues* out) {
  const AttentionPlan& plan = *in.plan;
  const SetSizes sizes = plan.SizesAt(in.kv_len);
  out->budget = sizes.token_budget;
  out->always.assign(static_cast<size_t>(in.kv_len), 0);
  for (int32_t pos = 0; pos < in.kv_len; ++pos)
    out->always[static_cast<size_t>(pos)] =
        pos < sizes.sinks || pos >= in.kv_len - sizes.recent ? 1 : 0;
  int32_t left = sizes.max_keep;
  for (const int32_t pos : in.keep) {
    uint8_t& always = out->always[static_cast<size_t>(pos)];
    if (!plan.keep_newlines || always != 0 || left == 0) continue;
    always = 1;
    --left;
  }
  out->num_always = std::accumulate(out->always.begin(), out->always.end(), 0);
}

inline void FillScores(const ReferenceInput& in, double epsilon, ReferenceValues* out) {
  ReferenceInput keyed = in;
  const bool by_index = in.plan->scorer != Scorer::kExact && in.index_bits != 0;
  if (by_index) IndexKeys(in, &keyed.keys);
  const double scale = 1 / std::sqrt(static_cast<double>(in.head_dim));
  for (int32_t head = 0; head < in.num_heads; ++head) {
    const int32_t kv_head = head / (in.num_heads / in.num_kv_heads);
    Doubles scores;
    for (int32_t pos = 0; pos < in.kv_len; ++pos) {
      double sum = 0;
      double magnitude = 0;
      for (int32_t d = 0; d < in.head_dim; ++d) {
        const double part = in.Query(head, d) * keyed.Key(kv_head, pos, d) * scale;
        sum += part;
        magnitude += std::abs(part);
      }
      scores.push_back(sum);
      out->score_error = std::max(out->score_error, magnitude * epsilon);
    }
    out->scores.push_back(std::move(scores));
  }
}

inline double BoundOfUnit(const ReferenceInput& in, int32_t head, int32_t begin, int32_t end) {
  const int32_t kv_head = head / (in.num_heads / in.num_kv_heads);
  double bound = 0;
  for (int32_t d = 0; d < in.head_dim; ++d) {
    const double x = in.Query(head, d) / std::sqrt(static_cast<double>(in.head_dim));
    double low = kInfinity, high = -kInfinity, sum = 0, squares = 0;
    for (int32_t pos = begin; pos < end; ++pos) {
      const double key = in.Key(kv_head, pos, d);
      low = std::min(low, key);
      high = std::max(high, key);
      sum += key;
    }
    const double mean = sum / (end - begin);
    for (int32_t pos = begin; pos < end; ++pos)
      squares += std::pow(in.Key(kv_head, pos, d) - mean, 2) / (end - begin);
    bound += in.plan->scorer == Scorer::kPagesMinMax ? std::max(x * low, x * high)
                                                     : x * mean + std::abs(x) * std::sqrt(squares);
  }
  return bound;
}

// `epsilon`: relative error of a product in the arithmetic under test.
inline ReferenceValues ValuesOf(const ReferenceInput& in, double epsilon) {
  ReferenceValues out;
  FillAlways(in, &out);
  const AttentionPlan& plan = *in.plan;
  const int32_t num_sets = NumSetsOf(in);
  const int32_t heads_per_set = in.num_heads / num_sets;
  const int32_t page = plan.page;
  if (plan.scorer == Scorer::kPagesMinMax || plan.scorer == Scorer::kPagesMeanStd) {
    for (int32_t set = 0; set < num_sets; ++set) {
      Doubles bounds;
      for (int32_t begin = 0; begin < in.kv_len; begin += page) {
        double most = -kInfinity;
        for (int32_t i = 0; i < heads_per_set; ++i)
          most = std::max(most, BoundOfUnit(in, set * heads_per_set + i, begin,
                                            std::min(begin + page, in.kv_len)));
        bounds.push_back(most);
        out.score_error = std::max(out.score_error, std::abs(most) * epsilon + 1e-4);
      }
      out.values.push_back(std::move(bounds));
    }
    return out;
  }
  if (!HasProbabilities(plan.scorer)) return out;
  FillScores(in, epsilon, &out);
  for (int32_t set = 0; set < num_sets; ++set) {
    Doubles share(static_cast<size_t>(in.kv_len), 0);
    Doubles most(static_cast<size_t>(in.kv_len), 0);
    for (int32_t i = 0; i < heads_per_set; ++i) {
      const Doubles probs = SoftmaxOf(out.scores[static_cast<size_t>(set * heads_per_set + i)]);
      for (size_t pos = 0; pos < probs.size(); ++pos) {
        share[pos] += probs[pos] / heads_per_set;
        most[pos] = std::max(most[pos], probs[pos]);
      }
    }
    Doubles values = plan.merge == Merge::kMax ? most : share;
    if (plan.merge == Merge::kScore) values = out.scores[static_cast<size_t>(set)];
    if (page > 1) {
      Doubles units;
      for (int32_t begin = 0; begin < in.kv_len; begin += page)
        units.push_back(*std::max_element(values.begin() + begin,
                                          values.begin() + std::min(begin + page, in.kv_len)));
      values = std::move(units);
    }
    out.values.push_back(std::move(values));
    out.shares.push_back(std::move(share));
  }
  return out;
}

// Rank by rank over the heads of a set; the set as a mask.
inline std::vector<uint8_t> RankedSet(const ReferenceInput& in, const ReferenceValues& ref,
                                      int32_t set) {
  const int32_t heads_per_set = in.num_heads / NumSetsOf(in);
  std::vector<std::vector<int32_t>> orders;
  for (int32_t i = 0; i < heads_per_set; ++i) {
    std::vector<int32_t> order;
    for (int32_t pos = 0; pos < in.kv_len; ++pos)
      if (ref.always[static_cast<size_t>(pos)] == 0) order.push_back(pos);
    const Doubles& scores = ref.scores[static_cast<size_t>(set * heads_per_set + i)];
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
    orders.push_back(std::move(order));
  }
  std::vector<uint8_t> mask = ref.always;
  int32_t size = ref.num_always;
  for (size_t rank = 0; rank < orders[0].size(); ++rank) {
    for (const std::vector<int32_t>& order : orders) {
      if (size >= ref.budget) return mask;
      uint8_t& member = mask[static_cast<size_t>(order[rank])];
      size += member == 0 ? 1 : 0;
      member = 1;
    }
  }
  return mask;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_REFERENCE_H_
