// A block of attention_prefill_wgmma.cu: what it keeps in shared memory, which rows and tokens are
// its work, and the thread that copies K and V.
#ifndef TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_BLOCK_CUH_
#define TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_BLOCK_CUH_

#include <cstdint>
#include <cuda.h>

#include "cuda/shared_barrier.cuh"
#include "cuda/wgmma.cuh"

namespace tidal {

inline constexpr int kPageTokens = 64;
inline constexpr int kGroupThreads = 128;  // a warpgroup
inline constexpr int kGroupRows = 64;
inline constexpr int kGroups = 2;  // that multiply
inline constexpr int kPrefillThreads = kGroupThreads * (kGroups + 1);
inline constexpr int kBlockRows = kGroupRows * kGroups;
inline constexpr int kTilePages = 2;
inline constexpr int kTileTokens = kTilePages * kPageTokens;
inline constexpr int kTileStages = 2;
// Of a block of columns of q (as many rows), K and V.
inline constexpr uint32_t kBlockBytes = kTileTokens * kSwizzleBytes;

template <int kHeadDim>
struct PrefillShared {
  static constexpr int kBlocks = (kHeadDim + kSwizzleElements - 1) / kSwizzleElements;
  using Rows = uint8_t[kBlocks][kTileTokens * kSwizzleBytes];

  alignas(kSwizzleAlignment) uint8_t q[kBlocks][kBlockRows * kSwizzleBytes];
  alignas(kSwizzleAlignment) Rows k[kTileStages];
  alignas(kSwizzleAlignment) Rows v[kTileStages];
  uint64_t k_full[kTileStages];
  uint64_t k_empty[kTileStages];
  uint64_t v_full[kTileStages];
  uint64_t v_empty[kTileStages];
};
static_assert(kBlockRows == kTileTokens);

// How many rows of the device's memory a page, a KV head and V are apart, a row being one token's K
// or V of a head.
struct RowStrides {
  int32_t page = 0;
  int32_t kv_head = 0;
  int32_t v = 0;
};

// What a block has to do.
struct PrefillWork {
  const int32_t* page_ids = nullptr;
  int32_t kv_head = 0;
  int32_t gqa_ratio = 0;
  int64_t first_head = 0;  // of the sequence's first row, among the heads of all rows
  int32_t first_row = 0;   // of q_len * gqa_ratio, the heads of a token one after the other
  int32_t num_rows = 0;
  int32_t seen_by_first = 0;  // tokens that the sequence's first row sees
  int32_t num_tokens = 0;     // that the block's last row sees
  int32_t num_tiles = 0;

  __device__ int32_t SeenBy(int32_t row) const {
    return seen_by_first + (first_row + row) / gqa_ratio;
  }
  // Index of a row's head_dim values in q and out.
  __device__ int64_t HeadOf(int32_t row, int32_t num_heads) const {
    const int32_t token = (first_row + row) / gqa_ratio;
    const int32_t head = (first_row + row) % gqa_ratio;
    return first_head + int64_t{token} * num_heads + kv_head * gqa_ratio + head;
  }
};

// The copying thread.
template <int kHeadDim>
__device__ __forceinline__ void CopyTiles(PrefillShared<kHeadDim>& shared, const PrefillWork& work,
                                          const CUtensorMap& rows, const RowStrides& strides) {
  constexpr int kPageBytes = kPageTokens * kSwizzleBytes;  // of a block of columns
  const int32_t num_pages = (work.num_tokens + kPageTokens - 1) / kPageTokens;
  const auto copy = [&](typename PrefillShared<kHeadDim>::Rows& to, uint64_t* full,
                        const int32_t(&page_rows)[kTilePages], int32_t pages, int32_t offset) {
    ArriveExpecting(full,
                    static_cast<uint32_t>(pages * PrefillShared<kHeadDim>::kBlocks * kPageBytes));
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      if (page >= pages) break;
#pragma unroll
      for (int block = 0; block < PrefillShared<kHeadDim>::kBlocks; ++block) {
        CopyBox(&to[block][page * kPageBytes], rows, block * kSwizzleElements,
                page_rows[page] + offset, full);
      }
    }
  };
  const auto rows_of = [&](int32_t tile, int32_t(&page_rows)[kTilePages]) {
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      const int32_t index = min(tile * kTilePages + page, num_pages - 1);
      page_rows[page] = work.page_ids[index] * strides.page + work.kv_head * strides.kv_head;
    }
  };
  const auto pages_of = [&](int32_t tile) {
    return min(kTilePages, num_pages - tile * kTilePages);
  };
  // In the order of their use: K of a tile, V of the one before.
  int32_t k_rows[kTilePages];
  int32_t v_rows[kTilePages];
  rows_of(0, k_rows);
  for (int32_t tile = 0; tile <= work.num_tiles; ++tile) {
    int32_t next_rows[kTilePages];  // on their way while the stage is not empty
    rows_of(tile + 1, next_rows);
    if (tile < work.num_tiles) {
      const int32_t stage = tile % kTileStages;
      WaitForPhase(&shared.k_empty[stage], tile / kTileStages % 2 ^ 1);
      copy(shared.k[stage], &shared.k_full[stage], k_rows, pages_of(tile), 0);
    }
    if (tile > 0) {
      const int32_t stage = (tile - 1) % kTileStages;
      WaitForPhase(&shared.v_empty[stage], (tile - 1) / kTileStages % 2 ^ 1);
      copy(shared.v[stage], &shared.v_full[stage], v_rows, pages_of(tile - 1), strides.v);
    }
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      v_rows[page] = k_rows[page];
      k_rows[page] = next_rows[page];
    }
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_BLOCK_CUH_
