// What the tests of the sampler and of candidates share.
#ifndef TIDAL_SAMPLER_SAMPLER_TESTING_H_
#define TIDAL_SAMPLER_SAMPLER_TESTING_H_

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "sampler/sampler.h"

namespace tidal {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Everything off: the plain softmax.
inline SamplingParams Plain() {
  SamplingParams params;
  params.temperature = 1;
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0;
  return params;
}

inline SamplingParams Greedy() {
  SamplingParams params = Plain();
  params.temperature = 0;
  return params;
}

inline std::vector<float> RandomLogits(size_t size, uint32_t seed, float spread = 3) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

}  // namespace tidal

#endif  // TIDAL_SAMPLER_SAMPLER_TESTING_H_
