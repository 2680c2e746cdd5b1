// How RoPE's frequencies are stretched for contexts longer than those of the pre-training.
#ifndef TIDAL_MODEL_ROPE_SCALING_H_
#define TIDAL_MODEL_ROPE_SCALING_H_

#include <cstdint>
#include <vector>

#include "model/model.h"

namespace tidal {

// How many times longer a context can be asked to become: far above what any model was stretched
// by.
inline constexpr float kMaxRopeScale = 1024;

enum class RopeScalingKind : uint8_t { kNone, kLinear, kLlama3, kYarn };

// As a model's file states it; each field is of the kinds named with it. Numbers are finite and
// positive, counts of tokens at least 1.
struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1;             // all: how much longer the context becomes
  int64_t original_seq_len = 0;  // llama3, yarn: the context of the pre-training
  double low_freq_factor = 1;  // llama3: turns within it below which a pair is slowed by the factor
  double high_freq_factor = 4;  // llama3: and above which it stays; more than low_freq_factor
  double beta_slow = 1;         // yarn: the same two, as numbers of turns
  double beta_fast = 32;
  bool round_range = true;  // yarn: the range of pairs in between is widened to whole pairs
  double attn_factor = 1;   // yarn: by which cos and sin are multiplied
};

// 0.1 ln(factor) + 1, YaRN's own choice of the attention factor; 1 for factors up to 1. With
// `mscale`, that times the logarithm.
double YarnAttnFactor(double factor, double mscale = 1);

// [rope_dim / 2]: what each pair's frequency is divided by; empty for kNone. Sources: "YaRN:
// Efficient Context Window Extension of Large Language Models" (section 3), and for llama3 the
// configuration that comes with Llama 3.1. REQUIRES: rope_dim even; theta more than 1 for kYarn.
std::vector<float> RopeDivisors(const RopeScaling& scaling, int32_t rope_dim, double theta);

// Sets the divisors and the attention factor of `config`, whose rope_dim and rope_theta are set;
// with YaRN also the trained length, which files give without the factor or with it. Errors,
// without the path: kCorrupt (theta too small for YaRN, divisors that are no positive floats).
Status ApplyRopeScaling(const RopeScaling& scaling, ModelConfig* config);

}  // namespace tidal

#endif  // TIDAL_MODEL_ROPE_SCALING_H_
