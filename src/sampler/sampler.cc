#include "sampler/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "sampler/penalty_window.h"
#include "sampler/random.h"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool HasPenalties(const SamplingParams& params) {
  return params.penalty_last_n != 0 &&
         (params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
          params.frequency_penalty != 0.0f);
}

// Whether no logit ever becomes larger. Rounding keeps that: it never changes the order of results.
bool OnlyLowers(const SamplingParams& params) {
  const bool raises =
      HasPenalties(params) && (params.repetition_penalty < 1 || params.presence_penalty < 0 ||
                               params.frequency_penalty < 0);
  return !raises && std::all_of(params.logit_bias.begin(), params.logit_bias.end(),
                                [](const auto& id_and_bias) { return id_and_bias.second <= 0; });
}

// How many of the best a draw looks at, 0: all. REQUIRES: top_k leaves something out if `selects`.
int32_t NumDrawnFrom(const SamplingParams& params, bool selects) {
  if (params.temperature == 0) return 1;
  return selects && params.top_k <= kMaxCandidates ? params.top_k : 0;
}

Status CheckInRange(const char* field, float value, float low, float high) {
  if (value >= low && value <= high) return OkStatus();
  return InvalidArgument("{} is {}, expected a number from {} to {}", field, value, low, high);
}

Status CheckFinite(const char* field, float value) {
  if (std::isfinite(value)) return OkStatus();
  return InvalidArgument("{} is {}, expected a finite number", field, value);
}

}  // namespace

Status Validate(const SamplingParams& params, int32_t vocab_size) {
  if (!(params.temperature >= 0) || std::isinf(params.temperature))
    return InvalidArgument("temperature is {}, expected a finite number from 0 (greedy) up",
                           params.temperature);
  if (params.top_k < 0)
    return InvalidArgument("top_k is {}, expected at least 1, or 0 for all tokens", params.top_k);
  TIDAL_RETURN_IF_ERROR(CheckInRange("top_p", params.top_p, 0, 1));
  TIDAL_RETURN_IF_ERROR(CheckInRange("min_p", params.min_p, 0, 1));
  if (!(params.repetition_penalty > 0) || std::isinf(params.repetition_penalty))
    return InvalidArgument("repetition_penalty is {}, expected a finite number above 0 (1 is none)",
                           params.repetition_penalty);
  TIDAL_RETURN_IF_ERROR(CheckFinite("presence_penalty", params.presence_penalty));
  TIDAL_RETURN_IF_ERROR(CheckFinite("frequency_penalty", params.frequency_penalty));
  if (params.penalty_last_n < -1)
    return InvalidArgument("penalty_last_n is {}, expected at least 0, or -1 for all tokens",
                           params.penalty_last_n);
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= vocab_size)
      return InvalidArgument("logit_bias names token {}, the vocabulary has 0 to {}", id,
                             vocab_size - 1);
    if (std::isnan(bias))
      return InvalidArgument("logit_bias of token {} is {}, expected a number, inf or -inf", id,
                             bias);
  }
  return OkStatus();
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t n) {
  if (n <= 0) return {};
  std::vector<Candidate> best;
  SelectBest(logits, static_cast<size_t>(n), &best);
  if (best.empty()) return {};
  std::sort(best.begin(), best.end(), IsBetter);
  const SoftmaxNormalizer softmax = NormalizerOf(logits);
  std::vector<TokenLogprob> result;
  result.reserve(best.size());
  for (const Candidate& candidate : best)
    result.push_back({candidate.id, static_cast<float>(softmax.LogprobOf(candidate.logit))});
  return result;
}

float LogprobOf(std::span<const float> logits, int32_t id) {
  TIDAL_CHECK(id >= 0 && static_cast<size_t>(id) < logits.size(), "token {} of {} logits", id,
              logits.size());
  const float logit = logits[static_cast<size_t>(id)];
  if (!(logit > kMinusInfinity)) return kMinusInfinity;
  return static_cast<float>(NormalizerOf(logits).LogprobOf(logit));
}

std::vector<TokenLogprob> TopLogprobs(const CandidateList& list, int32_t n) {
  const std::span<const Candidate> best =
      list.best().first(static_cast<size_t>(std::clamp(n, 0, list.size)));
  std::vector<TokenLogprob> result;
  result.reserve(best.size());
  for (const Candidate& candidate : best)
    result.push_back({candidate.id, static_cast<float>(list.softmax.LogprobOf(candidate.logit))});
  return result;
}

float LogprobOf(const CandidateList& list, int32_t id) {
  for (const Candidate& candidate : list.best())
    if (candidate.id == id) return static_cast<float>(list.softmax.LogprobOf(candidate.logit));
  TIDAL_CHECK(list.size == 0, "token {} is not one of {} candidates", id, list.size);
  return kMinusInfinity;
}

struct Sampler::Impl {
  Impl(const SamplingParams& p, int32_t size)
      : params(p),
        vocab_size(size),
        has_penalties(HasPenalties(p)),
        adjusts(has_penalties || !p.logit_bias.empty()),
        only_lowers(OnlyLowers(p)),
        selects(p.top_k > 0 && p.top_k < size),
        num_drawn_from(NumDrawnFrom(p, selects)),
        window(has_penalties ? p.penalty_last_n : 0, size) {
    const auto vocab = static_cast<size_t>(size);
    if (adjusts) adjusted.reserve(vocab);
    size_t most = kMaxCandidates;
    if (params.temperature != 0) {
      const size_t slack = 2 * static_cast<size_t>(params.top_k) + kSelectSlack;
      most = std::max(most, selects ? std::min(slack, vocab) : vocab);
    }
    candidates.reserve(most);
    weights.reserve(most);
  }

  // The steps of Sample, in their order; `best` is the best logit.
  float Penalized(int32_t id, float logit) const;
  std::span<const float> Adjust(std::span<const float> logits);
  void AdjustCandidates();
  void GatherAll(std::span<const float> logits, float best);
  void KeepMinP(float best);
  void KeepTopP(float best, double total);
  int32_t Draw(float best);
  int32_t ChooseCandidate();
  int32_t Choose(std::span<const float> logits);

  SamplingParams params;
  int32_t vocab_size;
  bool has_penalties;
  bool adjusts;  // there are biases or penalties
  bool only_lowers;
  bool selects;            // top_k leaves something out
  int32_t num_drawn_from;  // of the best logits as adjusted; 0: all
  PenaltyWindow window;
  uint64_t num_draws = 0;
  // Scratch of one Sample.
  std::vector<float> adjusted;
  std::vector<Candidate> candidates;
  std::vector<double> weights;
};

// The logit of a token that occurred.
float Sampler::Impl::Penalized(int32_t id, float logit) const {
  // Dividing a negative logit would make the token likelier.
  if (logit > 0)
    logit /= params.repetition_penalty;
  else
    logit *= params.repetition_penalty;
  return logit - (params.presence_penalty +
                  params.frequency_penalty * static_cast<float>(window.count(id)));
}

// The logits with bias and penalties; the caller's own where there are none.
std::span<const float> Sampler::Impl::Adjust(std::span<const float> logits) {
  if (!adjusts) return logits;
  adjusted.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias) adjusted[static_cast<size_t>(id)] += bias;
  for (const int32_t id : window.distinct()) {
    float& logit = adjusted[static_cast<size_t>(id)];
    logit = Penalized(id, logit);
  }
  return adjusted;
}

// The same of the candidates, in their new order.
void Sampler::Impl::AdjustCandidates() {
  if (!adjusts) return;
  for (const auto& [id, bias] : params.logit_bias)
    for (Candidate& candidate : candidates)
      if (candidate.id == id) candidate.logit += bias;
  if (has_penalties)
    for (Candidate& candidate : candidates)
      if (window.count(candidate.id) > 0)
        candidate.logit = Penalized(candidate.id, candidate.logit);
  std::erase_if(candidates, [](const Candidate& c) { return !(c.logit > kMinusInfinity); });
  std::sort(candidates.begin(), candidates.end(), IsBetter);
}

// Candidates of the whole vocabulary, in the order of their ids, that top_p and min_p may keep. A
// histogram of probability by distance from the best logit tells how far down top_p can reach, so
// that only these few are gathered and sorted.
void Sampler::Impl::GatherAll(std::span<const float> logits, float best) {
  candidates.clear();
  double depth = std::numeric_limits<double>::infinity();  // exclusive, below the best logit
  double total = 0;
  if (params.top_p < 1) {
    constexpr int kBuckets = 64;
    std::array<double, kBuckets> mass{};  // by distance: [0, 1), [1, 2), ..., [63, infinity)
    for (const float raw : logits) {
      if (!(raw > kMinusInfinity)) continue;
      const double below = static_cast<double>(best) - Finite(raw);
      mass[below < kBuckets ? static_cast<size_t>(below) : kBuckets - 1] += std::exp(-below);
    }
    for (const double m : mass) total += m;
    double reached = 0;
    for (int bucket = 0; bucket < kBuckets - 1; ++bucket) {
      reached += mass[static_cast<size_t>(bucket)];
      // The slack outweighs the rounding of two sums over one set in different orders.
      if (reached < params.top_p * total * (1 + 1e-9)) continue;
      depth = bucket + 1;
      break;
    }
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    const float raw = logits[i];
    if (raw > kMinusInfinity && static_cast<double>(best) - Finite(raw) < depth)
      candidates.push_back({Finite(raw), static_cast<int32_t>(i)});
  }
  KeepMinP(best);
  if (params.top_p < 1) KeepTopP(best, total);
}

// min_p and top_p both keep the first so many of the sorted candidates, so either may go first as
// long as top_p's total is that of the candidates before min_p.
void Sampler::Impl::KeepMinP(float best) {
  if (params.min_p == 0) return;
  const double lowest = std::log(static_cast<double>(params.min_p));
  std::erase_if(candidates, [&](const Candidate& candidate) {
    return static_cast<double>(candidate.logit) - best < lowest;
  });
}

// Leaves the fewest whose weights reach top_p of `total`, sorted. Sorts in growing pieces, since
// these are few as a rule.
void Sampler::Impl::KeepTopP(float best, double total) {
  const double wanted = params.top_p * total;
  double reached = 0;
  size_t piece = 64;
  for (size_t begin = 0; begin < candidates.size();) {
    const size_t end = std::min(candidates.size(), begin + piece);
    const auto first = candidates.begin() + static_cast<ptrdiff_t>(begin);
    const auto last = candidates.begin() + static_cast<ptrdiff_t>(end);
    if (last != candidates.end()) std::nth_element(first, last, candidates.end(), IsBetter);
    std::sort(first, last, IsBetter);
    for (size_t i = begin; i < end; ++i) {
      reached += std::exp(static_cast<double>(candidates[i].logit) - best);
      if (reached < wanted) continue;
      candidates.resize(i + 1);
      return;
    }
    begin = end;
    piece *= 2;
  }
}

int32_t Sampler::Impl::Draw(float best) {
  weights.clear();
  double total = 0;
  for (const Candidate& candidate : candidates) {
    const double below = static_cast<double>(candidate.logit) - best;
    weights.push_back(std::exp(below / params.temperature));
    total += weights.back();
  }
  const double target = UniformDraw(params.seed, num_draws) * total;
  double reached = 0;
  size_t chosen = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (weights[i] == 0) continue;
    chosen = i;  // the last one that can be drawn, should rounding keep the sum below the target
    reached += weights[i];
    if (reached > target) break;
  }
  return candidates[chosen].id;
}

// Of the best, which are sorted: a draw must not depend on the order that a partial selection
// leaves.
int32_t Sampler::Impl::ChooseCandidate() {
  if (candidates.empty()) return 0;  // no logit is a number: there is nothing to prefer
  if (params.temperature == 0) return candidates.front().id;
  for (Candidate& candidate : candidates) candidate.logit = Finite(candidate.logit);
  const float best = candidates.front().logit;
  double total = 0;
  for (const Candidate& candidate : candidates)
    total += std::exp(static_cast<double>(candidate.logit) - best);
  KeepMinP(best);
  if (params.top_p < 1) KeepTopP(best, total);
  return Draw(best);
}

int32_t Sampler::Impl::Choose(std::span<const float> logits) {
  if (params.temperature == 0) return std::max(BestCandidate(logits).id, 0);
  if (selects) {
    SelectBest(logits, static_cast<size_t>(params.top_k), &candidates);
    std::sort(candidates.begin(), candidates.end(), IsBetter);
    return ChooseCandidate();
  }
  const Candidate best = BestCandidate(logits);
  if (best.id < 0) return 0;
  GatherAll(logits, Finite(best.logit));
  return Draw(Finite(best.logit));
}

Sampler::Sampler(const SamplingParams& params, int32_t vocab_size)
    : impl_(std::make_unique<Impl>(params, vocab_size)) {
  const Status status = Validate(params, vocab_size);
  TIDAL_CHECK(status.ok(), "sampling parameters were not validated: {}", status.message());
}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

int32_t Sampler::num_candidates() const {
  if (!impl_->adjusts || impl_->num_drawn_from == 0) return impl_->num_drawn_from;
  const size_t num_touched = impl_->window.distinct().size() + impl_->params.logit_bias.size();
  const size_t most = static_cast<size_t>(kMaxCandidates - impl_->num_drawn_from);
  if (!impl_->only_lowers || num_touched > most) return 0;
  return impl_->num_drawn_from + static_cast<int32_t>(num_touched);
}

void Sampler::Accept(int32_t id) {
  TIDAL_CHECK(id >= 0 && id < impl_->vocab_size, "token {} of {}", id, impl_->vocab_size);
  impl_->window.Add(id);
}

int32_t Sampler::Sample(std::span<const float> raw_logits) {
  TIDAL_CHECK(raw_logits.size() == static_cast<size_t>(impl_->vocab_size),
              "{} logits for {} tokens", raw_logits.size(), impl_->vocab_size);
  const int32_t id = impl_->Choose(impl_->Adjust(raw_logits));
  ++impl_->num_draws;
  return id;
}

int32_t Sampler::Sample(std::span<const Candidate> best) {
  TIDAL_CHECK(num_candidates() > 0, "candidates for a sampler that takes all logits");
  std::vector<Candidate>& candidates = impl_->candidates;
  candidates.assign(best.begin(), best.end());
  impl_->AdjustCandidates();
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(impl_->num_drawn_from)));
  const int32_t id = impl_->ChooseCandidate();
  ++impl_->num_draws;
  return id;
}

}  // namespace tidal
