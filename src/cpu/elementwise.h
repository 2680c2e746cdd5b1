// What surrounds the kernels of elementwise_kernels.h: rotary positions, and writing new keys and
// values to the cache.
#ifndef TIDAL_CPU_ELEMENTWISE_H_
#define TIDAL_CPU_ELEMENTWISE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/elementwise_kernels.h"
#include "cpu/kv_layout.h"
#include "model/model.h"

namespace tidal {

// The angles of RoPE: pair i of a head turns by pos * theta^(-2i / rope_dim) / divisors[i], and
// grows by attn_factor. In float64 throughout, so that angles at far positions keep their low bits;
// cos and sin, times attn_factor, are rounded once. Threads: const after construction.
class RopeTable {
 public:
  // REQUIRES: rope_dim even, at least 2; divisors empty or [rope_dim / 2].
  RopeTable(int32_t rope_dim, double theta, std::span<const float> divisors,
            double attn_factor = 1);

  int32_t rope_dim() const { return 2 * num_pairs(); }
  int32_t num_pairs() const { return static_cast<int32_t>(inverse_frequencies_.size()); }

  // cos, sin: [num_pairs()].
  void Angles(int32_t pos, float* cos, float* sin) const;

 private:
  std::vector<double> inverse_frequencies_;
  double attn_factor_;
};

// Rotates num_heads heads of one token in place.
void Rope(const ElementwiseKernels& kernels, RopeStyle style, const float* cos, const float* sin,
          int32_t rope_dim, int32_t head_dim, int32_t num_heads, float* heads);

// Writes one token's keys and values, [num_kv_heads][head_dim] each, to its place in a layer: page
// `page_id` at layer_base + page_id * page_bytes, row `offset` of it. REQUIRES: 0 <= offset <
// kPageSize.
void StoreKv(const ElementwiseKernels& kernels, const KvLayout& layout, int32_t page_id,
             int32_t offset, const float* k, const float* v, std::byte* layer_base);

}  // namespace tidal

#endif  // TIDAL_CPU_ELEMENTWISE_H_
