// The attention kernels that each ISA provides: the work on one page-sized block of keys and values
// of one KV head. CpuAttention (attention.h) strings them together. Only C headers here: the kernel
// files must not pull in inline functions of the C++ library (kernels.h).
//
// Two ways through a block:
//   few query rows (decode): score_rows reads the K rows as they lie, each element widened once for
//     all query rows that fit in registers; mix_rows does the same with the V rows.
//   many query rows (prefill): load_keys and load_values widen the block once to float32 panels,
//     then score_tile and mix_tile are matrix products on them.
// Between the two halves both ways share `softmax`. A block of a chosen set has its rows anywhere:
// score_gathered and mix_gathered are the decode kernels on row pointers, with the same arithmetic
// in the same order, so that a set of all tokens gives the bits of the contiguous way.
//
// Numerics: float32 products and sums. A score is a sum over head_dim in kLanes interleaved partial
// sums (score_rows; fixed tree at the end) or one running sum (score_tile); its order depends on
// head_dim and the ISA only, not on the number of rows or tokens. Mixed values are added token by
// token. So a row's result does not depend on the rows that are computed beside it.
#ifndef TIDAL_CPU_ATTENTION_KERNELS_H_
#define TIDAL_CPU_ATTENTION_KERNELS_H_

#include <stdint.h>

#include "cpu/elementwise_kernels.h"

namespace tidal {

// Tokens of a block: a KV page.
inline constexpr int kBlockTokens = 64;
// Query rows of a tile; a multiple of every ISA's strip of rows.
inline constexpr int kTileRows = 96;
// Decode rows of one call are at most this; more are a tile.
inline constexpr int kMaxDecodeRows = 32;
inline constexpr int kMaxHeadDim = 512;

// Floats of a row of head_dim elements in scratch: whole vectors and panels of every ISA.
constexpr int64_t PaddedHeadDim(int64_t head_dim) { return (head_dim + 31) / 32 * 32; }

// Query rows of one KV head: row r is query token r / gqa_ratio, head r % gqa_ratio of the group.
struct QueryRows {
  const float* q;        // the first query token's first head of the group
  int64_t token_stride;  // floats between query tokens
  int32_t gqa_ratio;
  int32_t head_dim;
  int32_t first_row;
  int32_t num_rows;
};

// The first num_tokens rows of K or V of one KV head in one block.
struct CacheBlock {
  const uint8_t* rows;     // [num_tokens][head_dim] of the cache type
  const uint16_t* scales;  // q8_0: [num_tokens][ceil(head_dim / 32)]
  int32_t num_tokens;      // 1 .. kBlockTokens
  int32_t head_dim;
  // What to ask the memory for meanwhile, spread over the kernel's time: the block that comes next.
  const uint8_t* prefetch;
  int64_t prefetch_bytes;
};

// Up to kBlockTokens rows of K or V of one KV head, wherever they lie.
struct GatheredBlock {
  const uint8_t* const* rows;     // [num_tokens], each a row of head_dim elements of the cache type
  const uint16_t* const* scales;  // q8_0: [num_tokens], each [ceil(head_dim / 32)]; else unused
  int32_t num_tokens;
  int32_t head_dim;
  // Rows to ask the memory for meanwhile: random rows come at the speed of a stream only when some
  // 24 of them are on their way.
  const uint8_t* const* prefetch;  // [num_prefetch]
  int32_t num_prefetch;
  int64_t prefetch_bytes;  // of each
};

// Running softmax of some query rows. Row r has seen: max[r] (-inf: nothing), sum[r] of e^(score -
// max).
struct SoftmaxState {
  float* max;
  float* sum;
};

struct AttentionKernels {
  // Query rows times `scale`, in the order that score_rows reads: [num_rows * PaddedHeadDim].
  void (*pack_rows)(const QueryRows& rows, float scale, float* packed);
  // The same for score_tile: [RoundUp(num_rows, strip) * head_dim], rows past num_rows are 0.
  void (*pack_tile)(const QueryRows& rows, float scale, float* packed);

  // scores[r][t] = packed row r . K row t, [num_rows][kBlockTokens]; what lies past num_tokens is
  // unspecified. By K's CacheType.
  void (*score_rows[kNumCacheTypes])(const CacheBlock& keys, const float* packed, int32_t num_rows,
                                     float* scores);
  // out[r] = out[r] * alpha[r] + sum over t of probs[r][t] * V row t; out is
  // [num_rows][PaddedHeadDim]. By V's CacheType.
  void (*mix_rows[kNumCacheTypes])(const CacheBlock& values, const float* probs, const float* alpha,
                                   int32_t num_rows, float* out);

  // score_rows and mix_rows of a gathered block.
  void (*score_gathered[kNumCacheTypes])(const GatheredBlock& keys, const float* packed,
                                         int32_t num_rows, float* scores);
  void (*mix_gathered[kNumCacheTypes])(const GatheredBlock& values, const float* probs,
                                       const float* alpha, int32_t num_rows, float* out);

  // K rows to panels for score_tile, V rows to panels for mix_tile: [kBlockTokens * PaddedHeadDim].
  void (*load_keys[kNumCacheTypes])(const CacheBlock& keys, float* panels);
  void (*load_values[kNumCacheTypes])(const CacheBlock& values, float* panels);
  // As score_rows and mix_rows, on panels; [RoundUp(num_rows, strip)] rows are written.
  void (*score_tile)(const float* panels, const float* packed, int32_t num_rows, int32_t num_tokens,
                     int32_t head_dim, float* scores);
  void (*mix_tile)(const float* panels, const float* probs, const float* alpha, int32_t num_rows,
                   int32_t num_tokens, int32_t head_dim, float* out);

  // Turns scores into probs, [num_rows][kBlockTokens] in place: e^(score - new max) for the first
  // visible[r] tokens, 0 for the others below num_tokens. Updates the state; alpha[r] is what the
  // earlier sums are multiplied by (1 where nothing is visible).
  // REQUIRES: 0 <= visible[r] <= num_tokens.
  void (*softmax)(float* scores, const int32_t* visible, int32_t num_rows, int32_t num_tokens,
                  const SoftmaxState& state, float* alpha);

  // out[head_dim] = the softmax-weighted mean of num_parts partial results in order: parts
  // [num_parts] [PaddedHeadDim] with their states [num_parts]. Parts that saw nothing (max -inf)
  // count nothing. REQUIRES: some part saw a token.
  void (*merge)(const float* parts, const SoftmaxState& states, int32_t num_parts, int32_t head_dim,
                float* out);
};

}  // namespace tidal

#endif  // TIDAL_CPU_ATTENTION_KERNELS_H_
