#include "sampler/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "sampler/candidates.h"
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

struct Sampler::Impl {
  Impl(const SamplingParams& p, int32_t size)
      : params(p),
        vocab_size(size),
        has_penalties(HasPenalties(p)),
        selects(p.top_k > 0 && p.top_k < size),
        window(has_penalties ? p.penalty_last_n : 0, size) {
    const auto vocab = static_cast<size_t>(size);
    if (has_penalties || !params.logit_bias.empty()) adjusted.reserve(vocab);
    if (params.temperature == 0) return;
    const size_t most =
        selects ? std::min(2 * static_cast<size_t>(params.top_k) + kSelectSlack, vocab) : vocab;
    candidates.reserve(most);
    weights.reserve(most);
  }

  // The steps of Sample, in their order; `best` is the best logit.
  std::span<const float> Adjust(std::span<const float> logits);
  void GatherAll(std::span<const float> logits, float best);
  void KeepMinP(float best);
  void KeepTopP(float best, double total);
  int32_t Draw(float best);
  int32_t Choose(std::span<const float> logits);

  SamplingParams params;
  int32_t vocab_size;
  bool has_penalties;
  bool selects;  // top_k leaves something out
  PenaltyWindow window;
  uint64_t num_draws = 0;
  // Scratch of one Sample.
  std::vector<float> adjusted;
  std::vector<Candidate> candidates;
  std::vector<double> weights;
};

// The logits with bias and penalties; the caller's own where there are none.
std::span<const float> Sampler::Impl::Adjust(std::span<const float> logits) {
  if (!has_penalties && params.logit_bias.empty()) return logits;
  adjusted.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias) adjusted[static_cast<size_t>(id)] += bias;
  for (const int32_t id : window.distinct()) {
    float& logit = adjusted[static_cast<size_t>(id)];
    // Dividing a negative logit would make the token likelier.
    if (logit > 0)
      logit /= params.repetition_penalty;
    else
      logit *= params.repetition_penalty;
    logit -=
        params.presence_penalty + params.frequency_penalty * static_cast<float>(window.count(id));
  }
  return adjusted;
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

int32_t Sampler::Impl::Choose(std::span<const float> logits) {
  const Candidate best = BestCandidate(logits);
  if (best.id < 0) return 0;  // no logit is a number: there is nothing to prefer
  if (params.temperature == 0) return best.id;
  if (!selects) {
    GatherAll(logits, best.logit);
    return Draw(best.logit);
  }
  SelectBest(logits, static_cast<size_t>(params.top_k), &candidates);
  // Sorted, so that a draw does not depend on the order that a partial selection leaves.
  std::sort(candidates.begin(), candidates.end(), IsBetter);
  double total = 0;
  for (const Candidate& candidate : candidates)
    total += std::exp(static_cast<double>(candidate.logit) - best.logit);
  KeepMinP(best.logit);
  if (params.top_p < 1) KeepTopP(best.logit, total);
  return Draw(best.logit);
}

Sampler::Sampler(const SamplingParams& params, int32_t vocab_size)
    : impl_(std::make_unique<Impl>(params, vocab_size)) {
  const Status status = Validate(params, vocab_size);
  TIDAL_CHECK(status.ok(), "sampling parameters were not validated: {}", status.message());
}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

bool Sampler::is_greedy() const {
  return impl_->params.temperature == 0 && !impl_->has_penalties &&
         impl_->params.logit_bias.empty();
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

}  // namespace tidal
