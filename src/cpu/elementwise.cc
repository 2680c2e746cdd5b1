#include "cpu/elementwise.h"

#include <cmath>

#include "base/check.h"

namespace tidal {

RopeTable::RopeTable(int32_t rope_dim, double theta, std::span<const float> divisors,
                     double attn_factor)
    : attn_factor_(attn_factor) {
  TIDAL_CHECK(rope_dim >= 2 && rope_dim % 2 == 0, "rope_dim is {}", rope_dim);
  const int32_t pairs = rope_dim / 2;
  TIDAL_CHECK(divisors.empty() || static_cast<int32_t>(divisors.size()) == pairs,
              "{} divisors for {} pairs", divisors.size(), pairs);
  inverse_frequencies_.resize(static_cast<size_t>(pairs));
  for (size_t i = 0; i < inverse_frequencies_.size(); ++i) {
    const double divisor = divisors.empty() ? 1.0 : static_cast<double>(divisors[i]);
    inverse_frequencies_[i] = std::pow(theta, -2.0 * static_cast<double>(i) / rope_dim) / divisor;
  }
}

void RopeTable::Angles(int32_t pos, float* cos, float* sin) const {
  for (size_t i = 0; i < inverse_frequencies_.size(); ++i) {
    const double angle = pos * inverse_frequencies_[i];
    cos[i] = static_cast<float>(attn_factor_ * std::cos(angle));
    sin[i] = static_cast<float>(attn_factor_ * std::sin(angle));
  }
}

void Rope(const ElementwiseKernels& kernels, RopeStyle style, const float* cos, const float* sin,
          int32_t rope_dim, int32_t head_dim, int32_t num_heads, float* heads) {
  TIDAL_CHECK(rope_dim % 2 == 0 && rope_dim <= head_dim && rope_dim <= kMaxRopeDim,
              "rope_dim is {}, head_dim {}", rope_dim, head_dim);
  const auto rotate =
      style == RopeStyle::kInterleaved ? kernels.rope_interleaved : kernels.rope_half;
  rotate(cos, sin, num_heads, head_dim, rope_dim, heads);
}

void StoreKv(const ElementwiseKernels& kernels, const KvLayout& layout, int32_t page_id,
             int32_t offset, const float* k, const float* v, std::byte* layer_base) {
  TIDAL_CHECK(offset >= 0 && offset < kPageSize, "offset is {}", offset);
  const auto store = [&](const KvHalf& half, const float* x, std::byte* part) {
    std::byte* row = part + half.rows_offset + offset * half.row_bytes;
    auto* scales = reinterpret_cast<uint16_t*>(part + half.scales_offset);
    kernels.store_row[static_cast<size_t>(half.type)](x, layout.head_dim(),
                                                      reinterpret_cast<uint8_t*>(row),
                                                      scales + offset * half.scales_per_row);
  };
  for (int32_t kv_head = 0; kv_head < layout.num_kv_heads(); ++kv_head) {
    std::byte* part = layer_base + layout.PartOffset(page_id, kv_head);
    store(layout.k(), k + int64_t{kv_head} * layout.head_dim(), part);
    store(layout.v(), v + int64_t{kv_head} * layout.head_dim(), part);
  }
}

}  // namespace tidal
