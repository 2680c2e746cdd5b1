// Per-channel scales that let an 8-bit K cache keep keys whose channels differ in size.
//
// Why       q8_0 gives 32 channels one scale. Qwen2's K projection has a bias that makes single
// channels a hundred times as
//           large as their neighbours, and these then lose all their bits: log-probabilities of
//           Qwen2.5-Coder-0.5B move by 0.15 on average, against 0.035 with an f16 cache.
// How       q . k = (q s) . (k / s) for any s > 0. With s from the bias, k / s has channels of one
// size. Both channels of a RoPE
//           pair get the same s, so that it commutes with the rotation, and s is a power of two, so
//           that it rounds nothing.
#ifndef TIDAL_CPU_K_CHANNEL_SCALES_H_
#define TIDAL_CPU_K_CHANNEL_SCALES_H_

#include <span>
#include <vector>

#include "model/model.h"

namespace tidal {

// [num_kv_heads * head_dim] scales >= 1 from the bias of the K projection, of the same shape; empty
// where the bias is.
std::vector<float> KChannelScales(const ModelConfig& config, std::span<const float> k_bias);

}  // namespace tidal

#endif  // TIDAL_CPU_K_CHANNEL_SCALES_H_
