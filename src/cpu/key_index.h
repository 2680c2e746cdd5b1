// The key index: a few bits of every key, enough to choose tokens from.
//
// A KV page that is full is sealed: per KV head and channel the minimum of its keys as stored and
// the step (max - minimum) / (2^bits - 1), both f16, and for each key a code of 4 or 2 bits, so
// that key ~ minimum + code * step. Its page id names an index's place as it names the page's, so
// forks and shared prefixes share it. Steps are per channel, not per token: Qwen2's keys have
// channels whose bias is a hundred times the rest, which would take all of a per-token scale.
//
// An index of one layer and page, for each kv_head in order:
//   minima  [head_dim] f16
//   steps   [head_dim] f16
//   codes   [ceil(head_dim / channels_per_group)][kPageSize tokens][4 bytes]: byte b of a token
//           holds the codes of channels b, b + 4, ... of the group, the first in the low bits.
//           So one load gives 4 channels of as many tokens as a vector has lanes of 32 bits.
// Each region begins at a multiple of 64 bytes.
#ifndef TIDAL_CPU_KEY_INDEX_H_
#define TIDAL_CPU_KEY_INDEX_H_

#include <cstddef>
#include <cstdint>

#include "base/math.h"
#include "cpu/kv_layout.h"
#include "cpu/selection_kernels.h"
#include "kv/page_pool.h"

namespace tidal {

class KeyIndexLayout {
 public:
  KeyIndexLayout() = default;
  // REQUIRES: positive counts that a KvLayout was made of; bits 4 or 2.
  KeyIndexLayout(int32_t num_kv_heads, int32_t head_dim, int32_t bits)
      : num_kv_heads_(num_kv_heads), head_dim_(head_dim), bits_(bits) {
    const int64_t codes = CeilDiv(head_dim, IndexChannelsPerGroup(bits)) * int64_t{4} * kPageSize;
    steps_offset_ = RoundUp(head_dim * int64_t{2}, kRegionAlignment);
    codes_offset_ = 2 * steps_offset_;
    kv_head_bytes_ = codes_offset_ + codes;
    read_bytes_ = head_dim * int64_t{4} + codes;
  }

  int32_t bits() const { return bits_; }
  int64_t page_bytes() const { return num_kv_heads_ * kv_head_bytes_; }
  // What scoring one page of one KV head reads.
  int64_t read_bytes() const { return read_bytes_; }

  // A page's index of one KV head in a layer's part of the pool.
  IndexPage At(std::byte* layer_base, int32_t page_id, int32_t kv_head) const {
    auto* part =
        reinterpret_cast<uint8_t*>(layer_base + page_id * page_bytes() + kv_head * kv_head_bytes_);
    return {.minima = reinterpret_cast<uint16_t*>(part),
            .steps = reinterpret_cast<uint16_t*>(part + steps_offset_),
            .codes = part + codes_offset_,
            .head_dim = head_dim_};
  }

 private:
  int32_t num_kv_heads_ = 0;
  int32_t head_dim_ = 0;
  int32_t bits_ = 4;
  int64_t steps_offset_ = 0;
  int64_t codes_offset_ = 0;
  int64_t kv_head_bytes_ = 0;
  int64_t read_bytes_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CPU_KEY_INDEX_H_
