// The kernels of choosing tokens that each ISA provides: sealing and scanning the key index, page
// bounds, and merging the heads' scores. CpuSelection (selection.h) strings them together. Only C
// headers here: kernels.h.
#ifndef TIDAL_CPU_SELECTION_KERNELS_H_
#define TIDAL_CPU_SELECTION_KERNELS_H_

#include <stdint.h>

#include "cpu/attention_kernels.h"

namespace tidal {

// Channels whose codes share a byte's place: 4 bytes of 2 or 4 codes each.
constexpr int32_t IndexChannelsPerGroup(int32_t bits) { return 4 * (8 / bits); }

// The index of one sealed page of one KV head (key_index.h).
struct IndexPage {
  uint16_t* minima;
  uint16_t* steps;
  uint8_t* codes;
  int32_t head_dim;
};

// The query rows of one KV head for a scan: [num_rows][PaddedHeadDim(head_dim)], multiplied by
// attn_scale, zeros past head_dim.
struct ScanRows {
  const float* q;
  int32_t num_rows;  // 1 .. kMaxDecodeRows
};

// Running sums over a page's keys, [PaddedHeadDim(head_dim)] each.
struct BoundSums {
  float* min;
  float* max;
  float* sum;
  float* sum_of_squares;
};

struct SelectionKernels {
  // Seals a page: keys.num_tokens == kBlockTokens. By K's CacheType; bits is 4 or 2.
  void (*seal_page[kNumCacheTypes])(const CacheBlock& keys, int32_t bits, const IndexPage& page);

  // scores[r][t] = q row r . (minimum + code t * step) for all kBlockTokens tokens of a page,
  // [num_rows][kBlockTokens]. `prefetch`, of prefetch_bytes, is asked for meanwhile.
  //   scan_page: the step is folded into the query, which is then rounded to 8 bits for the whole
  //     page; the products are exact integers. A channel's query is off by at most
  //     half of 1/127 of the largest.
  //   scan_page_f32: the query in float32.
  void (*scan_page)(const IndexPage& page, int32_t bits, const ScanRows& rows,
                    const uint8_t* prefetch, int64_t prefetch_bytes, float* scores);
  void (*scan_page_f32)(const IndexPage& page, int32_t bits, const ScanRows& rows,
                        const uint8_t* prefetch, int64_t prefetch_bytes, float* scores);

  // Scores [num_rows][kBlockTokens] of a page's first num_tokens tokens to probs of the same shape,
  // e^(score - the row's maximum), which may be `scores`; each row's maximum and sum.
  void (*page_softmax)(const float* scores, int32_t num_rows, int32_t num_tokens, float* max,
                       float* sum, float* probs);
  // From the maximum and sum of every page, [num_pages][num_heads], the factor that turns a page's
  // e^(score - page max) into a probability: factors [num_pages][num_heads]. Also each head's max
  // and sum over all pages, [num_heads].
  void (*page_factors)(const float* page_max, const float* page_sum, int32_t num_pages,
                       int32_t num_heads, float* factors, float* max, float* sum);
  // values[t] = the sum over rows (the maximum) of probs[r][t] * factors[r], for kBlockTokens
  // tokens; probs [num_rows][kBlockTokens].
  void (*merge_sum)(const float* probs, const float* factors, int32_t num_rows, float* values);
  void (*merge_max)(const float* probs, const float* factors, int32_t num_rows, float* values);

  // Adds keys begin .. begin + count - 1 of a block to the sums; `fresh` starts them. By K's type.
  void (*add_bounds[kNumCacheTypes])(const CacheBlock& keys, int32_t begin, int32_t count,
                                     int32_t fresh, const BoundSums& sums);
  // scores[r] = sum over channels of max(q max, q min); of q mean + |q| std.
  void (*score_minmax)(const BoundSums& sums, int32_t head_dim, const ScanRows& rows,
                       float* scores);
  void (*score_meanstd)(const BoundSums& sums, int32_t num_tokens, int32_t head_dim,
                        const ScanRows& rows, float* scores);

  // Positions begin .. end - 1 whose value is at least `high` to `above`, those from `low` on and
  // below `high` to `within`, both ascending; the counts. Each may be written one entry past its
  // last.
  void (*collect)(const float* values, int32_t begin, int32_t end, float low, float high,
                  int32_t* above, int32_t* num_above, int32_t* within, int32_t* num_within);
};

}  // namespace tidal

#endif  // TIDAL_CPU_SELECTION_KERNELS_H_
