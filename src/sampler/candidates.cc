#include "sampler/candidates.h"

#include <algorithm>
#include <cmath>

#include "base/arg_max.h"
#include "base/check.h"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void KeepBest(size_t k, std::vector<Candidate>* candidates) {
  if (candidates->size() <= k) return;
  std::nth_element(candidates->begin(), candidates->begin() + static_cast<ptrdiff_t>(k - 1),
                   candidates->end(), IsBetter);
  candidates->resize(k);
}

}  // namespace

Candidate BestCandidate(std::span<const float> logits) {
  const int64_t best = ArgMax(logits);
  if (best < 0) return {kMinusInfinity, -1};
  return {Finite(logits[static_cast<size_t>(best)]), static_cast<int32_t>(best)};
}

void SelectBest(std::span<const float> logits, size_t k, std::vector<Candidate>* out) {
  out->clear();
  const size_t capacity = std::min(2 * k + kSelectSlack, logits.size());
  // Ids come in ascending order, so a later one that only equals the k-th best loses to it.
  float threshold = kMinusInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = Finite(logits[i]);
    if (!(logit > threshold)) continue;
    if (out->size() == capacity) {
      KeepBest(k, out);
      threshold = (*out)[k - 1].logit;
      if (!(logit > threshold)) continue;
    }
    out->push_back({logit, static_cast<int32_t>(i)});
  }
  KeepBest(k, out);
}

SoftmaxNormalizer NormalizerOf(std::span<const float> logits) {
  const Candidate best = BestCandidate(logits);
  TIDAL_CHECK(best.id >= 0, "a softmax over {} logits, none of them a number", logits.size());
  double sum = 0;
  for (const float raw : logits)
    if (raw > kMinusInfinity) sum += std::exp(static_cast<double>(Finite(raw)) - best.logit);
  return {best.logit, std::log(sum)};
}

}  // namespace tidal
