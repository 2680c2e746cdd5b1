// From logits to a token: penalties, temperature, top-k, top-p, min-p and a seeded draw.
#ifndef TIDAL_SAMPLER_SAMPLER_H_
#define TIDAL_SAMPLER_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "sampler/candidates.h"

namespace tidal {

// Defaults are those that users of local runtimes know. Order of application: logit_bias,
// penalties, top_k, top_p, min_p, temperature, draw.
struct SamplingParams {
  float temperature = 0.8f;  // 0: greedy (the smallest id among equals)
  int32_t top_k = 40;        // keep the k best; 0: all
  float top_p = 0.95f;       // keep the fewest whose probability reaches p; 1: all
  float min_p = 0.05f;       // keep those with at least min_p of the best one's probability; 0: all
  float repetition_penalty =
      1.0f;  // > 1 divides positive and multiplies negative logits of recent tokens
  float presence_penalty = 0.0f;   // subtracted once from tokens that occurred
  float frequency_penalty = 0.0f;  // subtracted per occurrence
  int32_t penalty_last_n =
      64;  // how many of the newest tokens the penalties look at; 0: none, -1: all
  std::vector<std::pair<int32_t, float>> logit_bias;  // (token id, added to its logit)
  uint64_t seed = 0;
};

// kInvalidArgument naming the field, the value and what is allowed (NaN is never allowed; token ids
// within vocab_size).
Status Validate(const SamplingParams& params, int32_t vocab_size);

struct TokenLogprob {
  int32_t id;
  float logprob;  // natural logarithm, of the softmax over the raw logits
};

// The n best of a row of logits, best first, the smaller id first among equals. O(vocab_size) plus
// n log n. NaN and minus infinity are never among them, so there may be fewer than n.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t n);
// Natural-log softmax of one id. In double inside: the sum runs over 150k terms. Minus infinity for
// a logit that is NaN or minus infinity. REQUIRES: 0 <= id < logits.size().
float LogprobOf(std::span<const float> logits, int32_t id);
// The same from what is left of a row. REQUIRES: a list with its softmax; `id` is one of it unless
// it is empty, and n is no more than it was made for.
std::vector<TokenLogprob> TopLogprobs(const CandidateList& list, int32_t n);
float LogprobOf(const CandidateList& list, int32_t id);

// One per sequence; the same params, prompt and logits give the same tokens on any thread count and
// in any batch, since the random numbers depend on the seed and on how many tokens were drawn, and
// on nothing else. Not thread-safe.
class Sampler {
 public:
  // REQUIRES: Validate(params, vocab_size).ok().
  Sampler(const SamplingParams& params, int32_t vocab_size);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // How many of a row's best candidates decide about the next token, 1 to kMaxCandidates; 0: it
  // takes all logits. With temperature 0 that is one, else top_k (all are too many). Biases and
  // penalties that only ever lower a logit add as many as there are tokens that they touch, so that
  // enough are left untouched; those that may raise one take all logits. Changes with Accept where
  // there are penalties. O(1).
  int32_t num_candidates() const;
  // Tells the penalties about a token of the prompt or of the answer. REQUIRES: 0 <= id <
  // vocab_size.
  void Accept(int32_t id);
  // Draws a token; `logits` [vocab_size] stay as they are. A NaN counts as minus infinity, and a
  // token with minus infinity is never drawn unless there is no other (then it is token 0). No
  // allocation.
  int32_t Sample(std::span<const float> logits);
  // The same token from the row's best, best first as in CandidateList. REQUIRES: num_candidates()
  // is not 0; there are that many or more of them, or all that the row has.
  int32_t Sample(std::span<const Candidate> best);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidal

#endif  // TIDAL_SAMPLER_SAMPLER_H_
