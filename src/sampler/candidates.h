// The best of a row of logits without sorting the row.
#ifndef TIDAL_SAMPLER_CANDIDATES_H_
#define TIDAL_SAMPLER_CANDIDATES_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tidal {

// A token that may be drawn.
struct Candidate {
  float logit;  // never NaN, never minus infinity
  int32_t id;
};

// The order of every choice here: the larger logit, among equals the smaller id.
inline bool IsBetter(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// What a logit counts as in probabilities. Plus infinity ("always this one") becomes the largest
// finite value, so that differences of logits stay numbers. NaN and minus infinity are no
// candidates: a comparison `logit > -infinity` leaves both out.
inline float Finite(float logit) { return std::min(logit, std::numeric_limits<float>::max()); }

// The best candidate; id -1 where there is none (every logit is NaN or minus infinity).
Candidate BestCandidate(std::span<const float> logits);

// The k best (fewer where there are fewer candidates) in no particular order. Linear in
// logits.size() for any order of the logits; `out` grows to at most 2k + kSelectSlack entries.
// REQUIRES: k >= 1.
inline constexpr size_t kSelectSlack = 64;
void SelectBest(std::span<const float> logits, size_t k, std::vector<Candidate>* out);

// The softmax over all candidates, in double: a candidate's natural-log probability is
// (logit - best) - log_sum. Two terms, since their sum would lose log_sum beside a large logit.
struct SoftmaxNormalizer {
  double best = 0;
  double log_sum = 0;
  double LogprobOf(float logit) const { return (Finite(logit) - best) - log_sum; }
};
// REQUIRES: there is a candidate.
SoftmaxNormalizer NormalizerOf(std::span<const float> logits);

// What is left of a row of logits where nothing but its best is looked at.
inline constexpr int32_t kMaxCandidates = 128;
struct CandidateList {
  int32_t size = 0;
  Candidate candidates[kMaxCandidates];  // best first, the first `size` of them
  SoftmaxNormalizer softmax;  // over the whole row, where that was asked for and size > 0

  std::span<const Candidate> best() const { return {candidates, static_cast<size_t>(size)}; }
};
// The n best (fewer where there are fewer candidates). `scratch` is SelectBest's. REQUIRES: 1 <= n
// <= kMaxCandidates.
void ListBest(std::span<const float> logits, int32_t n, bool wants_softmax,
              std::vector<Candidate>* scratch, CandidateList* out);

}  // namespace tidal

#endif  // TIDAL_SAMPLER_CANDIDATES_H_
