// Tiles of few-row attention: 16 tokens' rows of K and V on their way to a warp's ring in shared
// memory, and what else lies there.
//
// Layout    a tile is 16 rows of K and 16 of V in shared memory, padded by 16 bytes a row so that
//           the rows that a load of matrices touches lie in different banks; with f8e4m3 the
//           tokens' scales beside them. When its tiles are done with, a block's results lie in
//           their place.
// Bytes     kStages tiles a warp are under way: at head_dim 128 two blocks of a multiprocessor have
//           140 KB in flight, where its share of the memory's rate times the latency is 20 KB.
#ifndef TIDAL_CUDA_ATTENTION_DECODE_TILE_CUH_
#define TIDAL_CUDA_ATTENTION_DECODE_TILE_CUH_

#include <cstdint>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/kv_f8.cuh"
#include "cuda/mma.cuh"

namespace tidal::decode {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kTile = 16;  // tokens
inline constexpr int kRows = kMaxDecodeAttentionRows;
inline constexpr int kPageTokens = 64;

constexpr int Stages(int head_dim, bool is_f8) {
  if (is_f8 && head_dim <= 96) return head_dim <= 80 ? 6 : 4;
  return head_dim <= 64 ? 6 : head_dim <= 128 ? 3 : 2;
}

template <typename T>
inline constexpr bool kIsF8 = std::is_same_v<T, E4m3>;
// What the tensor cores multiply.
template <typename T>
using Operand = std::conditional_t<kIsF8<T>, __half, T>;

struct NoScales {};
struct TileScales {
  alignas(16) uint32_t scales[kTile];
};

template <typename T, int kHeadDim>
struct Shared {
  // An odd number of pieces of 16 bytes.
  static constexpr int kPieces = kHeadDim * static_cast<int>(sizeof(T)) / 16 / 2 * 2 + 1;
  static constexpr int kRowElems = kPieces * 16 / static_cast<int>(sizeof(T));
  static constexpr int kStages = Stages(kHeadDim, kIsF8<T>);
  using Row = T[kRowElems];
  using QueryRow = Operand<T>[kHeadDim + 8];
  struct Tile : std::conditional_t<kIsF8<T>, TileScales, NoScales> {
    alignas(16) Row k[kTile];
    alignas(16) Row v[kTile];
  };
  struct Merge {
    // Rows that a warp writes together begin 8 banks apart.
    alignas(16) float out[kWarps][kRows][kHeadDim + 8];
    float max[kWarps][kRows];
    float sum[kWarps][kRows];
    // The part's own, for the other blocks of a cluster: weighted sums, maxima and sums.
    alignas(16) float part_out[kRows][kHeadDim];
    float2 part_stats[kRows];
  };
  alignas(16) QueryRow q_high[kRows];
  alignas(16) QueryRow q_low[kIsF8<T> ? 1 : kRows];
  union {
    Tile tiles[kWarps][kStages];
    Merge merge;
    alignas(16) uint8_t parts[sizeof(Tile) * kWarps * kStages];  // where AddParts gathers them
  };
};

// Where a token's rows lie (page id * 64 + offset in the page), and whether this step appends them.
struct Place {
  int32_t slot;
  bool is_own;
};
// In place of a slot, and of an offset: no token, its row is zeros; not to be copied now.
inline constexpr int32_t kNoToken = -1;
inline constexpr int32_t kNotNow = -2;
// From the part of a KV head of page 0 on: the part of a slot's page, and its K row.
__device__ __forceinline__ int64_t OffsetOfPage(const DeviceKv& kv, int32_t slot) {
  return slot / kPageTokens * kv.page_bytes;
}
__device__ __forceinline__ int64_t OffsetOfRow(const DeviceKv& kv, int32_t slot) {
  return OffsetOfPage(kv, slot) + slot % kPageTokens * int64_t{kv.row_bytes};
}

// Where the tokens of a part come from.
template <bool kSets>
struct Tokens {
  const int32_t* list;  // page ids; slots
  int32_t count;
  int32_t own;  // the first token that this step appends; the slot of the only one

  // Slots are read past the L1 cache: another kernel may have left earlier ones there.
  __device__ Place Find(int32_t token) const {
    const int32_t slot = kSets ? __ldcg(list + token)
                               : list[token / kPageTokens] * kPageTokens + token % kPageTokens;
    return {slot, kSets ? slot == own : token >= own};
  }
};

__device__ __forceinline__ void CopyScales(const DeviceKv& kv, const uint8_t* base, int32_t slot,
                                           uint32_t* to) {
  const int32_t from = max(slot, 0);
  CopyAsync4(to, ScalesAt(kv, base + OffsetOfPage(kv, from), from % kPageTokens), slot >= 0);
}

// Starts the copy of a tile; lanes take 16-byte pieces of rows in turn. Each of 16 lanes knows the
// slot of one row (of row lane % 16).
template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadTile(typename Shared<T, kHeadDim>::Tile& tile,
                                         const uint8_t* base, const DeviceKv& kv, int32_t slot) {
  constexpr int kPieces = kHeadDim * static_cast<int>(sizeof(T)) / 16;
  constexpr int kPieceElems = 16 / static_cast<int>(sizeof(T));
  const int lane = threadIdx.x % 32;
  const int64_t offset = slot < 0 ? slot : OffsetOfRow(kv, slot);
#pragma unroll
  for (int i = 0; i < (kPieces * kTile + 31) / 32; ++i) {
    const int piece = i * 32 + lane;
    const int row = piece / kPieces;
    const int column = piece % kPieces;
    const int64_t row_offset = __shfl_sync(0xffffffff, offset, row);
    if (kPieces * kTile % 32 != 0 && row >= kTile) break;
    if (row_offset == kNotNow) continue;
    const bool valid = row_offset != kNoToken;
    const uint8_t* k = base + (valid ? row_offset : 0) + column * 16;
    CopyAsync16(&tile.k[row][column * kPieceElems], k, valid);
    CopyAsync16(&tile.v[row][column * kPieceElems], k + kv.v_offset, valid);
  }
  if constexpr (kIsF8<T>) {
    if (lane < kTile && slot != kNotNow) CopyScales(kv, base, slot, &tile.scales[lane]);
  }
}

// Starts the copy of a lane's row alone (lane % 16, of `slot`): of K by the first 16 lanes, of V
// by the others.
template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadOwnRow(typename Shared<T, kHeadDim>::Tile& tile,
                                           const uint8_t* base, const DeviceKv& kv, int32_t slot) {
  constexpr int kPieceElems = 16 / static_cast<int>(sizeof(T));
  const int lane = threadIdx.x % 32;
  T* row = lane < kTile ? tile.k[lane] : tile.v[lane - kTile];
  const uint8_t* from = base + OffsetOfRow(kv, slot) + (lane < kTile ? 0 : kv.v_offset);
#pragma unroll 1
  for (int d = 0; d < kHeadDim; d += kPieceElems) CopyAsync16(row + d, from + d * sizeof(T), true);
  if constexpr (kIsF8<T>) {
    if (lane < kTile) CopyScales(kv, base, slot, &tile.scales[lane]);
  }
}

}  // namespace tidal::decode

#endif  // TIDAL_CUDA_ATTENTION_DECODE_TILE_CUH_
