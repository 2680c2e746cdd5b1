// What happens to a step's rows between the products and attention: positions to angles, head
// norms, RoPE, and the append of K and V to the cache.
#ifndef TIDAL_CUDA_ROWS_H_
#define TIDAL_CUDA_ROWS_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/device_types.h"
#include "cuda/key_index.h"

namespace tidal {

// cos_sin[row][pair] = attn_factor * (cos, sin) of positions[row] * frequencies[pair], in float64
// until the end: at position 10^5 a float32 product is off by a hundredth of a radian.
cudaError_t RopeAngles(const int32_t* positions, int32_t num_rows, const double* frequencies,
                       int32_t num_pairs, double attn_factor, float2* cos_sin, cudaStream_t stream);

struct AppendCall {
  float* q = nullptr;        // [num_rows][num_heads][head_dim], normed and rotated in place
  const float* k = nullptr;  // [num_rows][num_kv_heads][head_dim]
  const float* v = nullptr;
  const float* q_norm = nullptr;  // [head_dim], RMS norm of each head before RoPE; null: none
  const float* k_norm = nullptr;
  float norm_eps = 0;
  const float2* cos_sin = nullptr;  // [num_rows][rope_dim / 2]
  int32_t rope_dim = 0;
  bool interleaved = false;        // pairs (2i, 2i+1), else (i, i + rope_dim / 2)
  const int32_t* slots = nullptr;  // [num_rows], where the row's K and V go
  // [num_rows], nonzero: the row fills a page of a sequence that has no other row in the step, and
  // so the kernel seals it.
  const uint8_t* seals = nullptr;
  DeviceKv kv;
  DeviceIndex index;
  int32_t num_rows = 0;
  int32_t num_heads = 0;
};
// REQUIRES: head_dim at most 256.
cudaError_t RotateAndAppend(const AppendCall& call, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_ROWS_H_
