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
  return {logits[static_cast<size_t>(best)], static_cast<int32_t>(best)};
}

void SelectBest(std::span<const float> logits, size_t k, std::vector<Candidate>* out) {
  out->clear();
  const size_t capacity = std::min(2 * k + kSelectSlack, logits.size());
  // Ids come in ascending order, so a later one that only equals the k-th best loses to it.
  float threshold = kMinusInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
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
  const Candidate candidate = BestCandidate(logits);
  TIDAL_CHECK(candidate.id >= 0, "a softmax over {} logits, none of them a number", logits.size());
  const double best = Finite(candidate.logit);
  double sum = 0;
  for (const float raw : logits)
    if (raw > kMinusInfinity) sum += std::exp(static_cast<double>(Finite(raw)) - best);
  return {best, std::log(sum)};
}

void ListBest(std::span<const float> logits, int32_t n, bool wants_softmax,
              std::vector<Candidate>* scratch, CandidateList* out) {
  TIDAL_CHECK(n >= 1 && n <= kMaxCandidates, "{} candidates", n);
  scratch->clear();
  if (n == 1) {
    const Candidate best = BestCandidate(logits);
    if (best.id >= 0) scratch->push_back(best);
  } else {
    SelectBest(logits, static_cast<size_t>(n), scratch);
    std::sort(scratch->begin(), scratch->end(), IsBetter);
  }
  std::copy(scratch->begin(), scratch->end(), out->candidates);
  out->size = static_cast<int32_t>(scratch->size());
  out->softmax = {};
  if (wants_softmax && out->size > 0) out->softmax = NormalizerOf(logits);
}

}  // namespace tidal
