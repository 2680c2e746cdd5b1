// Where the keys and values of one layer lie in a KV page of the CPU.
//
// A page of one layer holds kPageSize tokens of all KV heads. For each kv_head in order:
//   K rows    [kPageSize][head_dim] of the K type, row-major: a single token's row is contiguous
//   K scales  [kPageSize][ceil(head_dim / 32)] f16, q8_0 only: element i of a row is code * scale[i
//             / 32], a scale being max |x| of its group / 127
//   V rows, V scales  the same for V
// Each of these regions begins at a multiple of 64 bytes from the page's start, and page_bytes is
// one, so a 64-byte aligned pool keeps every region aligned.
#ifndef TIDAL_CPU_KV_LAYOUT_H_
#define TIDAL_CPU_KV_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "base/math.h"
#include "base/status.h"
#include "cpu/elementwise_kernels.h"
#include "executor/options.h"
#include "kv/page_pool.h"

namespace tidal {

inline constexpr int64_t kRegionAlignment = 64;

// Bytes of an element of a cache row, without q8_0's scales.
constexpr int64_t CacheElementBytes(CacheType type) {
  switch (type) {
    case CacheType::kF32:
      return 4;
    case CacheType::kF16:
    case CacheType::kBF16:
      return 2;
    case CacheType::kQ8_0:
      return 1;
    case CacheType::kF8e4m3:  // none on the CPU
      return 0;
  }
  return 0;
}

// K or V: the type, and where a KV head's regions are within its part of a page.
struct KvHalf {
  CacheType type = CacheType::kF16;
  int64_t row_bytes = 0;
  int64_t scales_per_row = 0;  // 0 unless q8_0
  int64_t rows_offset = 0;     // from the KV head's part
  int64_t scales_offset = 0;   // the same as the end of the rows where there are none
};

class KvLayout {
 public:
  // kInvalidArgument where a count is not positive or a page would not fit in int64; kUnsupported
  // for a cache type that is not the CPU's.
  static Result<KvLayout> Create(int32_t num_kv_heads, int32_t head_dim, CacheType k_type,
                                 CacheType v_type);

  int32_t num_kv_heads() const { return num_kv_heads_; }
  int32_t head_dim() const { return head_dim_; }
  const KvHalf& k() const { return k_; }
  const KvHalf& v() const { return v_; }
  int64_t kv_head_bytes() const { return kv_head_bytes_; }
  int64_t page_bytes() const { return num_kv_heads_ * kv_head_bytes_; }

  // Byte offset from the layer's base of a KV head's part of a page.
  int64_t PartOffset(int32_t page_id, int32_t kv_head) const {
    return page_id * page_bytes() + kv_head * kv_head_bytes_;
  }

  // Bytes of K and V (scales too) that reading `num_tokens` tokens of all KV heads takes.
  int64_t ReadBytes(int64_t num_tokens) const {
    return num_tokens * num_kv_heads_ *
           (k_.row_bytes + v_.row_bytes + 2 * (k_.scales_per_row + v_.scales_per_row));
  }

 private:
  int32_t num_kv_heads_ = 0;
  int32_t head_dim_ = 0;
  KvHalf k_;
  KvHalf v_;
  int64_t kv_head_bytes_ = 0;
};

inline Result<KvLayout> KvLayout::Create(int32_t num_kv_heads, int32_t head_dim, CacheType k_type,
                                         CacheType v_type) {
  if (num_kv_heads < 1 || head_dim < 1) {
    return InvalidArgument("KV layout: num_kv_heads is {} and head_dim {}, expected at least 1",
                           num_kv_heads, head_dim);
  }
  if (k_type == CacheType::kF8e4m3 || v_type == CacheType::kF8e4m3) {
    return Unsupported(
        "an f8e4m3 KV cache is for --device cuda; with --device cpu use f16, bf16, f32 or q8_0");
  }
  KvLayout layout;
  layout.num_kv_heads_ = num_kv_heads;
  layout.head_dim_ = head_dim;
  int64_t offset = 0;
  // head_dim < 2^31 and at most 4 bytes an element: a region is below 2^40 bytes.
  const auto place = [&](CacheType type, KvHalf* half) {
    half->type = type;
    half->row_bytes = head_dim * CacheElementBytes(type);
    half->scales_per_row = type == CacheType::kQ8_0 ? CeilDiv(head_dim, kCacheQuantGroup) : 0;
    half->rows_offset = offset;
    offset += RoundUp(kPageSize * half->row_bytes, kRegionAlignment);
    half->scales_offset = offset;
    offset += RoundUp(kPageSize * half->scales_per_row * int64_t{2}, kRegionAlignment);
  };
  place(k_type, &layout.k_);
  place(v_type, &layout.v_);
  layout.kv_head_bytes_ = offset;
  int64_t page_bytes = 0;
  if (!CheckedMul<int64_t>(num_kv_heads, offset, &page_bytes)) {
    return InvalidArgument("KV layout: {} KV heads of {} elements do not fit in a 64-bit page size",
                           num_kv_heads, head_dim);
  }
  return layout;
}

}  // namespace tidal

#endif  // TIDAL_CPU_KV_LAYOUT_H_
