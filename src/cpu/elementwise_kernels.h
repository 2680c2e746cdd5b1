// The kernels around the matrix products that each ISA provides. Only C headers here: the kernel
// files must not pull in inline functions of the C++ library (kernels.h).
#ifndef TIDAL_CPU_ELEMENTWISE_KERNELS_H_
#define TIDAL_CPU_ELEMENTWISE_KERNELS_H_

#include <stdint.h>

namespace tidal {

// Cache rows come in as many formats as CacheType has values (executor/options.h); tables are
// indexed by it.
inline constexpr int kNumCacheTypes = 4;
// Elements of a q8_0 cache row that share a scale; the last group of a row may be shorter.
inline constexpr int kCacheQuantGroup = 32;
// What the interleaved rotation keeps its factors in scratch for; CpuAttention takes no larger
// head.
inline constexpr int kMaxRopeDim = 512;

struct ElementwiseKernels {
  // out[n] = x / sqrt(mean(x^2) + eps) * weight. `out` may be `x`. The sum of squares runs in
  // float32 over 4 * kLanes interleaved partial sums, so its relative error is below (n / (4 *
  // kLanes) + 8) * 2^-24; the order depends on n and the ISA only.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);

  // Rotates the first rope_dim elements of each of num_heads heads of head_dim elements, in place:
  // the pair (a, b) number i becomes (a cos_i - b sin_i, b cos_i + a sin_i). cos and sin are
  // [rope_dim / 2]. Pairs are (2i, 2i + 1) for interleaved and (i, i + rope_dim / 2) for half.
  // REQUIRES: rope_dim even, 0 <= rope_dim <= head_dim, and rope_dim <= kMaxRopeDim.
  void (*rope_interleaved)(const float* cos, const float* sin, int64_t num_heads, int64_t head_dim,
                           int64_t rope_dim, float* heads);
  void (*rope_half)(const float* cos, const float* sin, int64_t num_heads, int64_t head_dim,
                    int64_t rope_dim, float* heads);

  // out[n] = gate / (1 + e^-gate) * up. `out` may be either input.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);

  // x[n] += y[n].
  void (*add_in_place)(const float* y, int64_t n, float* x);

  // One row of head_dim floats as a cache row, indexed by CacheType: f32, f16 and bf16 round to
  // nearest even. q8_0: scales[g] = f16(max |x| of group g / 127), codes = x / scales[g] to nearest
  // even, clamped to +-127 (the rounding of the scale may push a code past it); `scales` is unused
  // by the others. A NaN or infinity in a q8_0 group makes its scale NaN or infinite, never a
  // silent number.
  void (*store_row[kNumCacheTypes])(const float* x, int64_t head_dim, uint8_t* row,
                                    uint16_t* scales);
};

}  // namespace tidal

#endif  // TIDAL_CPU_ELEMENTWISE_KERNELS_H_
