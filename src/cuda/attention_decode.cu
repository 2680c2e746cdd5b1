// Attention of few rows over a long context or over sets, on tensor cores.
//
// What      the context is cut into parts, a block each; its four warps take tiles of 16 tokens in
//           turn, each with a softmax of its own, so that they never wait for each other. The last
//           block of a KV head adds the parts up in their order: behind its part's results stand
//           two round trips to the L2 cache (fence and counter), then one for all parts together.
//           Where KV heads and sequences are few, the parts of a set are blocks of a cluster and
//           meet in their shared memory instead, unless there are many.
// Layout    a tile is 16 rows of K and 16 of V in shared memory, padded by 16 bytes a row so that
//           the rows that a load of matrices touches lie in different banks. The rows of all heads
//           of a group stand in one fragment of 16: each K and V row is read once per KV head.
// Bytes     K and V of the visible tokens (of the set) once, 4 * head_dim * rows per part beside.
//           kStages tiles a warp are under way: at head_dim 128 two blocks of a multiprocessor have
//           140 KB in flight, where its share of the memory's rate times the latency is 20 KB.
// Early     kStartsEarly: a block's first tiles are under way before WaitForInputs, so that the
//           memory is busy while the kernel before ends. Until then it may only touch
//           - what was uploaded before the step: its tables, and where its sets lie;
//           - K and V that earlier steps appended; the rows of the step's own tokens, which the
//             kernel right before writes, are copied after the wait;
//           - sets that are settled: a layer that does not choose (no kChooses) reads those of an
//             earlier layer or step. That their choice has ended does not follow from the order of
//             kernels alone: one may start while the one before has not got past its own wait. But
//             in between lies the attention of the layer that chose, and its blocks allow the next
//             kernel only once they have waited: whatever comes behind it starts after the choice.
//           Hence the order here, first WaitForInputs, then AllowNext; and hence a block of part 0
//           waits even if it has nothing to do: a kernel that ended without having waited would let
//           the one behind it go on before the one in front of it is done.
// Numerics  queries are split into two 16-bit halves, which keeps 21 bits (bf16: 15) of them;
// scores
//           and sums in float32; probabilities are rounded to the cache's type before they meet V.
// f8e4m3    (kv_f8.cuh) becomes halves in registers, exactly, and so does what it is multiplied
//           with: queries, rounded once, since keys have 4 bits of their own, and probabilities. A
//           score is multiplied by its key's scale. V's scale goes into the softmax: its logarithm
//           is added to the score, so that halves hold the products' weights relative to the
//           largest of them; the sum takes each weight over its V's scale, and so nothing else
//           needs to know. Fragments take channels in the order in which the bytes lie: the queries
//           stand in the order of K's (PlaceOfQuery), results are put in theirs (MergeWarps).
// Oracle    attention_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/cluster.cuh"
#include "cuda/kv_f8.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kTile = 16;  // tokens
constexpr int kRows = kMaxDecodeAttentionRows;
constexpr int kMaxParts = 320;  // of a context
constexpr int kPageTokens = 64;
constexpr float kLog2E = 1.4426950408889634f;
// A part of fewer tiles is not worth its own partial result: with sets latency is all, so that each
// warp gets one tile; over everything each gets two.
// For measuring: whether blocks do anything before the kernel in front of them has ended.
constexpr bool kStartsEarly = true;
// The parts of a set are blocks of one cluster of so many, where the grid has twice as many; 1: of
// none, for measuring.
constexpr int kCluster = 8;
// Sets of up to so many parts for each block of a cluster are left to its blocks: a warp's second,
// third and fourth tile take less time than parts that meet in the L2 cache.
constexpr int kMaxPartsPerBlock = 4;
constexpr int kMinTilesOfSets = kWarps;
constexpr int kMinTiles = 2 * kWarps;

// Of a multiprocessor: enough for the card's memory, and with f8e4m3, whose bytes take twice the
// instructions, what its shared memory holds.
constexpr int ResidentBlocks(int head_dim, bool is_f8) {
  return head_dim > 128 ? 1 : is_f8 ? 3 : 2;
}
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
constexpr int32_t kNoToken = -1;
constexpr int32_t kNotNow = -2;
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

// Where a channel of a query stands: of 16 channels a lane of K's fragment has four next to each
// other, which meet places 2t, 2t + 1, 2t + 8 and 2t + 9. With f8e4m3.
__device__ __forceinline__ int PlaceOfQuery(int d) {
  return (d & ~15) | (d & 2) << 2 | (d >> 1 & 6) | (d & 1);
}

// Starts the copy of a lane's row alone (lane % 16, at `offset`): of K by the first 16 lanes, of V
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

// A warp's running softmax over the rows of a fragment: of rows lane / 4 and lane / 4 + 8.
template <int kHeadDim>
struct Running {
  float out[kHeadDim / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
};

// s[n] += the rows' queries times tokens 8n .. 8n + 7.
template <typename T, int kHeadDim>
__device__ __forceinline__ void ScoreTile(const Shared<T, kHeadDim>& shared,
                                          const typename Shared<T, kHeadDim>::Tile& tile,
                                          float (&s)[2][4]) {
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  const int line = lane % 8;
  const int q_row = line + matrix % 2 * 8;
  if constexpr (kIsF8<T>) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 32) {
      // Four channels of a token each: tokens 0 to 7 and 8 to 15 of channels d .. d + 15, then of
      // the 16 behind them, where they are.
      uint32_t k[4];
      const int behind = d + 16 < kHeadDim ? 16 : 0;
      LoadMatrices(k, &tile.k[line + matrix % 2 * 8][d + matrix / 2 * behind]);
#pragma unroll
      for (int i = 0; i <= behind / 16; ++i) {
        uint32_t q[4];
        LoadMatrices(q, &shared.q_high[q_row][d + 16 * i + matrix / 2 * 8]);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const uint2 four = HalvesOfFour(k[2 * i + n]);
          MatMul16x8x16<__half>(s[n], q, four.x, four.y);
        }
      }
    }
  } else {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      uint32_t high[4];
      uint32_t low[4];
      uint32_t k[4];
      const int q_column = d + matrix / 2 * 8;
      LoadMatrices(high, &shared.q_high[q_row][q_column]);
      LoadMatrices(low, &shared.q_low[q_row][q_column]);
      LoadMatrices(k, &tile.k[line + matrix / 2 * 8][d + matrix % 2 * 8]);
      MatMul16x8x16<T>(s[0], high, k[0], k[1]);
      MatMul16x8x16<T>(s[1], high, k[2], k[3]);
      MatMul16x8x16<T>(s[0], low, k[0], k[1]);
      MatMul16x8x16<T>(s[1], low, k[2], k[3]);
    }
  }
}

// out = out * shrink + the rows' weights times V of the tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void MixTile(const typename Shared<T, kHeadDim>::Tile& tile,
                                        const uint32_t (&weights)[4], const float (&shrink)[2],
                                        float (&out)[kHeadDim / 8][4]) {
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  const int line = lane % 8;
  if constexpr (kIsF8<T>) {
    // Most tiles raise no row's maximum, and instructions are what bounds this kernel.
    if (__any_sync(0xffffffff, shrink[0] != 1 || shrink[1] != 1)) {
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[n][e] *= shrink[e / 2];
      }
    }
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 32) {
      // Two channels of two tokens each.
      uint32_t v[4];
      const int behind = d + 16 < kHeadDim ? 16 : 0;
      LoadMatricesTransposed(v, &tile.v[line + matrix % 2 * 8][d + matrix / 2 * behind]);
#pragma unroll
      for (int i = 0; i <= behind / 16; ++i) {
        // Bytes 0 and 2 are the first channel's, 1 and 3 the second's.
        const uint2 low = HalvesOfFour(__byte_perm(v[2 * i], 0, 0x3120));
        const uint2 high = HalvesOfFour(__byte_perm(v[2 * i + 1], 0, 0x3120));
        MatMul16x8x16<__half>(out[d / 8 + 2 * i], weights, low.x, high.x);
        MatMul16x8x16<__half>(out[d / 8 + 2 * i + 1], weights, low.y, high.y);
      }
    }
  } else {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      uint32_t v[4];
      LoadMatricesTransposed(v, &tile.v[line + matrix % 2 * 8][d + matrix / 2 * 8]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[d / 8 + n][e] *= shrink[e / 2];
        MatMul16x8x16<T>(out[d / 8 + n], weights, v[2 * n], v[2 * n + 1]);
      }
    }
  }
}

template <typename T, int kHeadDim>
__device__ __forceinline__ void AddTile(const Shared<T, kHeadDim>& shared,
                                        const typename Shared<T, kHeadDim>::Tile& tile,
                                        int32_t first_token, const int32_t (&limit)[2],
                                        Running<kHeadDim>* running) {
  const int lane = threadIdx.x % 32;
  float s[2][4] = {};
  ScoreTile<T, kHeadDim>(shared, tile, s);
  // Element e of s[n] is row lane / 4 + e / 2 * 8, token n * 8 + lane % 4 * 2 + e % 2.
  float inverse_v_scale[2][2];  // of tokens e % 2
  if constexpr (kIsF8<T>) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint2 pair = *reinterpret_cast<const uint2*>(&tile.scales[n * 8 + lane % 4 * 2]);
      const uint32_t scales[2] = {pair.x, pair.y};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float k_scale = KeyScale(scales[i]);
        const float v_log2 = static_cast<float>(static_cast<int32_t>(scales[i] >> 23) - 127);
        s[n][i] = fmaf(s[n][i], k_scale, v_log2);
        s[n][2 + i] = fmaf(s[n][2 + i], k_scale, v_log2);
        inverse_v_scale[n][i] = InverseOfPower(ValueScaleBits(scales[i]));
      }
    }
  }
  float tile_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int32_t token = first_token + n * 8 + lane % 4 * 2 + e % 2;
      if (token >= limit[e / 2]) s[n][e] = -INFINITY;
      tile_max[e / 2] = fmaxf(tile_max[e / 2], s[n][e]);
    }
  }
  float shrink[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    tile_max[r] = fmaxf(tile_max[r], __shfl_xor_sync(0xffffffff, tile_max[r], 1));
    tile_max[r] = fmaxf(tile_max[r], __shfl_xor_sync(0xffffffff, tile_max[r], 2));
    const float max = fmaxf(running->max[r], tile_max[r]);
    // While a row has seen nothing its maximum stays at minus infinity, and all its weights at 0.
    shrink[r] = running->max[r] == -INFINITY ? 0.0f : exp2f(running->max[r] - max);
    running->max[r] = max;
    running->sum[r] *= shrink[r];
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[n][e] = s[n][e] == -INFINITY ? 0.0f : exp2f(s[n][e] - running->max[e / 2]);
      if constexpr (kIsF8<T>) {
        running->sum[e / 2] = fmaf(s[n][e], inverse_v_scale[n][e % 2], running->sum[e / 2]);
      } else {
        running->sum[e / 2] += s[n][e];
      }
    }
  }
  using Half = Operand<T>;
  const uint32_t weights[4] = {PackPair<Half>(s[0][0], s[0][1]), PackPair<Half>(s[0][2], s[0][3]),
                               PackPair<Half>(s[1][0], s[1][1]), PackPair<Half>(s[1][2], s[1][3])};
  MixTile<T, kHeadDim>(tile, weights, shrink, running->out);
}

// The rows of the fragment, split in two; zeros behind them.
template <typename T, int kHeadDim>
__device__ void LoadQueries(const AttentionCall& call, const DeviceSequence& sequence,
                            int32_t first_head, int32_t group, int32_t num_rows,
                            Shared<T, kHeadDim>* shared) {
  // All loads first; past the L1 cache, where the kernel before may have left them unrotated.
  constexpr int kVectors = kHeadDim / 4;
  constexpr int kMine = (kRows * kVectors + kThreads - 1) / kThreads;
  float4 vectors[kMine];
#pragma unroll
  for (int k = 0; k < kMine; ++k) {
    const int i = k * kThreads + threadIdx.x;
    const int row = i / kVectors;
    vectors[k] = {};
    if (row >= num_rows) continue;
    const int64_t q_row = sequence.row_begin + row / group;
    vectors[k] = __ldcg(reinterpret_cast<const float4*>(
        call.q + (q_row * call.num_heads + first_head + row % group) * kHeadDim +
        i % kVectors * 4));
  }
  const float scale = call.attn_scale * kLog2E;
#pragma unroll
  for (int k = 0; k < kMine; ++k) {
    const int i = k * kThreads + threadIdx.x;
    const int row = i / kVectors;
    const int d = i % kVectors * 4;
    if (row >= kRows) continue;
    const float q[4] = {vectors[k].x * scale, vectors[k].y * scale, vectors[k].z * scale,
                        vectors[k].w * scale};
    const uint2 high = {PackPair<Operand<T>>(q[0], q[1]), PackPair<Operand<T>>(q[2], q[3])};
    if constexpr (kIsF8<T>) {
      auto* to = &shared->q_high[row][PlaceOfQuery(d)];
      *reinterpret_cast<uint32_t*>(to) = high.x;
      *reinterpret_cast<uint32_t*>(to + 8) = high.y;
    } else {
      float rest[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) rest[e] = q[e] - ToFloat(FromFloat<T>(q[e]));
      *reinterpret_cast<uint2*>(&shared->q_high[row][d]) = high;
      *reinterpret_cast<uint2*>(&shared->q_low[row][d]) = {PackPair<T>(rest[0], rest[1]),
                                                           PackPair<T>(rest[2], rest[3])};
    }
  }
}

// Leaves each warp's rows, their maxima and sums in shared.merge.
template <typename T, int kHeadDim>
__device__ void MergeWarps(const Running<kHeadDim>& running, int32_t num_rows,
                           Shared<T, kHeadDim>* shared) {
  auto& merge = shared->merge;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  float sum[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = running.sum[r];
    sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 2);
  }
  __syncthreads();  // the tiles, which lie in the same place, are done with
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + 8 * r;
    if (row >= num_rows) continue;
    if (lane % 4 == 0) {
      merge.max[warp][row] = running.max[r];
      merge.sum[warp][row] = sum[r];
    }
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      if constexpr (kIsF8<T>) {
        // Even columns are the first of each two channels, odd ones the second.
        if (n % 2 != 0) continue;
        *reinterpret_cast<float4*>(&merge.out[warp][row][n * 8 + lane % 4 * 4]) = {
            running.out[n][2 * r], running.out[n + 1][2 * r], running.out[n][2 * r + 1],
            running.out[n + 1][2 * r + 1]};
      } else {
        *reinterpret_cast<float2*>(&merge.out[warp][row][n * 8 + lane % 4 * 2]) = {
            running.out[n][2 * r], running.out[n][2 * r + 1]};
      }
    }
  }
  __syncthreads();
}

// How much warp w's share of a row weighs, and the row's maximum and sum over the warps.
template <typename T, int kHeadDim>
__device__ __forceinline__ void RowOfWarps(const Shared<T, kHeadDim>& shared, int row,
                                           float (&weights)[kWarps], float* max, float* sum) {
  *max = -INFINITY;
  *sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) *max = fmaxf(*max, shared.merge.max[w][row]);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float warp_max = shared.merge.max[w][row];
    weights[w] = warp_max == -INFINITY ? 0.0f : exp2f(warp_max - *max);
    *sum += weights[w] * shared.merge.sum[w][row];
  }
}

// A partial result: [kRows][head_dim] weighted sums, then [kRows] pairs of a maximum and a sum.
__device__ __forceinline__ float* PartialOf(const AttentionCall& call, int64_t part, int head_dim) {
  return call.workspace.partial + part * kRows * (head_dim + 2);
}

__device__ __forceinline__ void AddScaled(float4* sum, float weight, const float4& x) {
  sum->x += weight * x.x;
  sum->y += weight * x.y;
  sum->z += weight * x.z;
  sum->w += weight * x.w;
}

// Where four channels of a fragment's row go.
__device__ __forceinline__ float4* OutOf(const AttentionCall& call, const DeviceSequence& sequence,
                                         int32_t first_head, int32_t group, int row, int d) {
  const int64_t q_row = sequence.row_begin + row / group;
  return reinterpret_cast<float4*>(
      call.out + (q_row * call.num_heads + first_head + row % group) * call.kv.head_dim + d);
}

// The weights of a row's parts in its result, in place of their maxima; by one warp. A row's parts
// lie `stride` pairs apart.
__device__ __forceinline__ void WeighParts(float2* stats, int stride, int num_parts) {
  const int lane = threadIdx.x % 32;
  float max = -INFINITY;
  for (int p = lane; p < num_parts; p += 32) max = fmaxf(max, stats[p * stride].x);
#pragma unroll
  for (int i = 16; i > 0; i /= 2) max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, i));
  float sum = 0;
  for (int p = lane; p < num_parts; p += 32) {
    float2& part = stats[p * stride];
    part.x = part.x == -INFINITY ? 0.0f : exp2f(part.x - max);
    sum += part.x * part.y;
  }
#pragma unroll
  for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(0xffffffff, sum, i);
  const float scale = 1 / sum;
  for (int p = lane; p < num_parts; p += 32) stats[p * stride].x *= scale;
}

// Adds the parts up in their order, by a whole block. The copies of all maxima, sums and vectors
// are under way together, so that this takes one time of the L2 cache and what a multiprocessor
// needs to take them in (66 KB of 33 parts of 4 rows of 128: 0.6 us); more than the block's memory
// holds comes in rounds.
template <typename T, int kHeadDim>
__device__ void AddParts(const AttentionCall& call, const DeviceSequence& sequence,
                         int64_t first_part, int num_parts, int32_t first_head, int32_t group,
                         int32_t num_rows, Shared<T, kHeadDim>* shared) {
  constexpr int kVectors = kHeadDim / 4;
  constexpr int kMine = (kRows * kVectors + kThreads - 1) / kThreads;
  constexpr int kBytes = sizeof(shared->parts);
  static_assert(kMaxParts * kRows * sizeof(float2) + kRows * kHeadDim * sizeof(float) <= kBytes);
  const int pairs = (num_rows + 1) / 2;  // of rows' statistics, 16 bytes each
  auto* stats = reinterpret_cast<float2*>(shared->parts);
  auto* vectors = reinterpret_cast<float4*>(shared->parts + num_parts * pairs * 16);
  const int part_vectors = num_rows * kVectors;
  const int round_parts = (kBytes - num_parts * pairs * 16) / (part_vectors * 16);
  for (int i = threadIdx.x; i < num_parts * pairs; i += kThreads) {
    const float* partial = PartialOf(call, first_part + i / pairs, kHeadDim);
    CopyAsync16(stats + 2 * i, partial + kRows * kHeadDim + i % pairs * 4, true);
  }
  CommitCopies();
  float4 out[kMine] = {};
  for (int begin = 0; begin < num_parts; begin += round_parts) {
    const int end = min(begin + round_parts, num_parts);
    for (int p = begin; p < end; ++p) {
      const float* partial = PartialOf(call, first_part + p, kHeadDim);
#pragma unroll
      for (int k = 0; k < kMine; ++k) {
        const int i = k * kThreads + threadIdx.x;
        if (i < part_vectors)
          CopyAsync16(vectors + (p - begin) * part_vectors + i, partial + 4 * i, true);
      }
    }
    CommitCopies();
    if (begin == 0) {
      WaitForCopies<1>();
      __syncthreads();
      for (int row = threadIdx.x / 32; row < num_rows; row += kWarps)
        WeighParts(stats + row, 2 * pairs, num_parts);
      __syncthreads();
    }
    // A thread reads but what it has copied itself.
    WaitForCopies<0>();
#pragma unroll
    for (int k = 0; k < kMine; ++k) {
      const int i = k * kThreads + threadIdx.x;
      if (i >= part_vectors) continue;
      const float2* weights = stats + i / kVectors;
#pragma unroll 8
      for (int p = begin; p < end; ++p)
        AddScaled(&out[k], weights[p * 2 * pairs].x, vectors[(p - begin) * part_vectors + i]);
    }
  }
#pragma unroll
  for (int k = 0; k < kMine; ++k) {
    const int i = k * kThreads + threadIdx.x;
    if (i >= part_vectors) continue;
    *OutOf(call, sequence, first_head, group, i / kVectors, i % kVectors * 4) = out[k];
  }
}

// Adds up parts that are the blocks of a cluster, part p of rank p, each block a share of the
// channels, in the order of the parts. What they have left in part_out and part_stats is read in
// one round trip between multiprocessors.
template <typename T, int kHeadDim>
__device__ void AddPartsOfCluster(const AttentionCall& call, const DeviceSequence& sequence,
                                  int part, int num_parts, int32_t first_head, int32_t group,
                                  int32_t num_rows, Shared<T, kHeadDim>* shared) {
  constexpr int kVectors = kHeadDim / 4;
  ClusterSync();
  const int count = num_rows * kVectors;
  const int share = (count + num_parts - 1) / num_parts;
  const int end = min(count, (part + 1) * share);
  for (int i = part * share + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    const int row = i / kVectors;
    const int d = i % kVectors * 4;
    float2 stats[kCluster];
    float4 vectors[kCluster];
#pragma unroll
    for (int p = 0; p < kCluster; ++p) {
      stats[p] = {-INFINITY, 0};
      vectors[p] = {};
      if (p >= num_parts) continue;
      const auto* merge = OfBlock(&shared->merge, p);
      stats[p] = merge->part_stats[row];
      vectors[p] = *reinterpret_cast<const float4*>(&merge->part_out[row][d]);
    }
    float max = -INFINITY;
#pragma unroll
    for (const float2& part_stats : stats) max = fmaxf(max, part_stats.x);
    float sum = 0;
    float4 out = {};
#pragma unroll
    for (int p = 0; p < kCluster; ++p) {
      const float weight = stats[p].x == -INFINITY ? 0.0f : exp2f(stats[p].x - max);
      sum += weight * stats[p].y;
      AddScaled(&out, weight, vectors[p]);
    }
    const float scale = 1 / sum;
    *OutOf(call, sequence, first_head, group, row, d) = {out.x * scale, out.y * scale,
                                                         out.z * scale, out.w * scale};
  }
  ClusterSync();  // nobody reads an ended block's memory
}

// What a block attends: the rows of one KV head (of one head with a set of its own), and to what.
template <bool kSets>
struct Job {
  int32_t kv_head = 0;
  int32_t first_head = 0;
  int32_t group = 0;  // heads
  Tokens<kSets> tokens = {};
  const int32_t* count = nullptr;  // with sets, of the tokens; read after it is settled
  int32_t max_count = 0;           // known before that
};

// Whether there is such a job. From the step's tables alone.
template <bool kSets>
__device__ bool FindJob(const AttentionCall& call, const DeviceSequence& sequence, int32_t seq,
                        int32_t head, Job<kSets>* job) {
  const int32_t gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  if (sequence.q_len * gqa_ratio > kRows) return false;
  job->kv_head = head;
  job->group = gqa_ratio;
  job->first_head = head * gqa_ratio;
  const int32_t* page_ids = call.step.page_ids + sequence.page_begin;
  if constexpr (!kSets) {
    job->tokens = {page_ids, sequence.kv_len, sequence.kv_len - sequence.q_len};
    job->max_count = sequence.kv_len;
    return true;
  }
  const DeviceSets sets = call.sets[seq];
  const bool by_head = sets.num_sets == call.num_heads && gqa_ratio > 1;
  if (call.per_head) {
    job->first_head = head;
    job->kv_head = head / gqa_ratio;
    if (by_head) {
      job->group = 1;
    } else if (head % gqa_ratio != 0) {
      return false;
    }
  }
  int32_t set = sets.num_sets == 1 ? 0 : by_head ? job->first_head : job->kv_head;
  if (call.headmaps != nullptr) {
    const int32_t mapped = call.headmaps[sequence.state * call.kv.num_kv_heads + job->kv_head];
    if (mapped >= 0) set = mapped;
  }
  const int32_t last = sequence.kv_len - 1;
  job->tokens = {sets.slots + int64_t{set} * sets.capacity, 0,
                 page_ids[last / kPageTokens] * kPageTokens + last % kPageTokens};
  job->count = sets.counts + set;
  job->max_count = sets.capacity;
  return true;
}

// Blocks are placed in the order of x, y and z, z the sequences. Heads (KV heads, or heads with
// per_head) come first for sets, so that their parts, few beside the grid's, lie on multiprocessors
// of their own; parts come first for everything, which reads faster (393 instead of 415 us of
// 102,400 tokens of 32 KV heads).
template <bool kSets>
struct Grid {
  static __device__ uint32_t Head() { return kSets ? blockIdx.x : blockIdx.y; }
  static __device__ uint32_t Heads() { return kSets ? gridDim.x : gridDim.y; }
  static __device__ uint32_t Part() { return kSets ? blockIdx.y : blockIdx.x; }
  static __device__ uint32_t Parts() { return kSets ? gridDim.y : gridDim.x; }
};

// How many parts a context of so many tokens is cut into; `cluster`: the blocks of one.
template <bool kSets>
__device__ __forceinline__ int32_t NumParts(int32_t num_tokens, int32_t cluster) {
  constexpr int kMin = (kSets ? kMinTilesOfSets : kMinTiles) * kTile;
  const int32_t wanted = max(1, (num_tokens + kMin - 1) / kMin);
  if (cluster > 1 && wanted <= cluster * kMaxPartsPerBlock) return min(wanted, cluster);
  return min(min(static_cast<int32_t>(Grid<kSets>::Parts()), kMaxParts), wanted);
}

template <typename T, int kHeadDim, bool kSets>
__global__ void __launch_bounds__(kThreads, ResidentBlocks(kHeadDim, kIsF8<T>))
    AttendDecodeKernel(const AttentionCall call) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_bytes);
  __shared__ bool is_last;
  if (!kStartsEarly) {
    AllowNext();
    WaitForInputs();
  }
  const auto seq = static_cast<int32_t>(blockIdx.z);
  const auto part = static_cast<int32_t>(Grid<kSets>::Part());
  const DeviceSequence sequence = call.step.sequences[seq];
  const uint8_t flags = call.step.flags[seq];
  const int32_t cluster = kSets ? ClusterSize() : 1;
  Job<kSets> job;
  const bool takes_part = (flags & (kSets ? kReadsSets : kReadsAll)) != 0 &&
                          FindJob(call, sequence, seq, Grid<kSets>::Head(), &job) &&
                          part < max(NumParts<kSets>(job.max_count, 1), cluster);
  if (!takes_part) {
    if (part == 0) WaitForInputs();
    return;
  }
  const bool is_settled = kStartsEarly && !(kSets && (flags & kChooses) != 0);
  if (!is_settled) {
    WaitForInputs();
    AllowNext();
  }
  Tokens<kSets>& tokens = job.tokens;
  if constexpr (kSets) tokens.count = __ldcg(job.count);
  const int32_t group = job.group;
  const int32_t first_head = job.first_head;
  const int32_t num_rows = sequence.q_len * group;
  const int32_t num_tiles = (tokens.count + kTile - 1) / kTile;
  const int32_t num_parts = NumParts<kSets>(tokens.count, cluster);
  if (part >= num_parts) return;  // not part 0; a cluster's barriers do not wait for who has ended
  const auto tile_begin = static_cast<int32_t>(int64_t{num_tiles} * part / num_parts);
  const auto tile_end = static_cast<int32_t>(int64_t{num_tiles} * (part + 1) / num_parts);

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const uint8_t* base = call.kv.base + job.kv_head * call.kv.kv_head_bytes;
  constexpr int kStages = Shared<T, kHeadDim>::kStages;
  auto& tiles = shared.tiles[warp];
  const auto find = [&](int32_t tile) -> Place {
    const int32_t token = tile * kTile + lane % kTile;
    if (tile >= tile_end || token >= tokens.count) return {kNoToken, false};
    return tokens.Find(token);
  };
  const auto start = [&](int32_t tile, int32_t slot) {
    if (tile < tile_end) {
      LoadTile<T, kHeadDim>(tiles[(tile - tile_begin) / kWarps % kStages], base, call.kv, slot);
    }
    CommitCopies();
  };
  int32_t tile = tile_begin + warp;
  // All look-ups first, so that they are under way together.
  Place places[kStages];
#pragma unroll
  for (int i = 0; i < kStages; ++i) places[i] = find(tile + i * kWarps);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    places[i].is_own &= is_settled;
    start(tile + i * kWarps, places[i].is_own ? kNotNow : places[i].slot);
  }
  // The place of the rows of the tile that is started next, looked up a turn ahead.
  int32_t next_slot = places[kStages - 1].slot;
  if (is_settled) {
    WaitForInputs();
    AllowNext();
    bool has_own = false;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      has_own |= places[i].is_own;
      if (places[i].is_own) LoadOwnRow<T, kHeadDim>(tiles[i], base, call.kv, places[i].slot);
    }
    CommitCopies();
    if (__any_sync(0xffffffff, has_own)) WaitForCopies<0>();
  }
  LoadQueries(call, sequence, first_head, group, num_rows, &shared);
  __syncthreads();

  int32_t limit[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int32_t row = lane / 4 + 8 * r;
    const int32_t unseen = kSets || row >= num_rows ? 0 : sequence.q_len - 1 - row / group;
    limit[r] = tokens.count - unseen;
  }
  Running<kHeadDim> running;
  for (; tile < tile_end; tile += kWarps) {
    start(tile + (kStages - 1) * kWarps, next_slot);
    next_slot = find(tile + kStages * kWarps).slot;
    WaitForCopies<kStages - 1>();
    __syncwarp();
    AddTile<T, kHeadDim>(shared, tiles[(tile - tile_begin) / kWarps % kStages], tile * kTile, limit,
                         &running);
    __syncwarp();
  }
  WaitForCopies<0>();
  MergeWarps(running, num_rows, &shared);

  const int64_t item = int64_t{seq} * Grid<kSets>::Heads() + Grid<kSets>::Head();
  const int64_t first_part = item * call.num_splits;
  float* partial = PartialOf(call, first_part + part, kHeadDim);
  const bool in_cluster = num_parts <= cluster;
  constexpr int kVectors = kHeadDim / 4;
  for (int i = threadIdx.x; i < num_rows * kVectors; i += kThreads) {
    const int row = i / kVectors;
    const int d = i % kVectors * 4;
    float weights[kWarps];
    float max;
    float sum;
    RowOfWarps(shared, row, weights, &max, &sum);
    float4 out = {};
    const float scale = num_parts == 1 ? 1 / sum : 1;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      AddScaled(&out, weights[w] * scale,
                *reinterpret_cast<const float4*>(&shared.merge.out[w][row][d]));
    }
    if (num_parts == 1) {
      *OutOf(call, sequence, first_head, group, row, d) = out;
      continue;
    }
    float* to = in_cluster ? shared.merge.part_out[row] + d : partial + 4 * i;
    *reinterpret_cast<float4*>(to) = out;
    float2* stats = in_cluster ? shared.merge.part_stats
                               : reinterpret_cast<float2*>(partial + kRows * kHeadDim);
    if (d == 0) stats[row] = {max, sum};
  }
  if (num_parts == 1) return;
  if (in_cluster) {
    AddPartsOfCluster(call, sequence, part, num_parts, first_head, group, num_rows, &shared);
    return;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // what the whole block has written, after the barrier
    const int32_t done = atomicAdd(call.workspace.counters + item, 1);
    is_last = done == num_parts - 1;
    if (is_last) call.workspace.counters[item] = 0;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  AddParts(call, sequence, first_part, num_parts, first_head, group, num_rows, &shared);
}

template <typename T, int kHeadDim>
cudaError_t LaunchDecode(const AttentionCall& call, cudaStream_t stream) {
  const bool sets = call.sets != nullptr;
  const auto kernel =
      sets ? AttendDecodeKernel<T, kHeadDim, true> : AttendDecodeKernel<T, kHeadDim, false>;
  constexpr size_t kBytes = sizeof(Shared<T, kHeadDim>);
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes));
      error != cudaSuccess) {
    return error;
  }
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
      error != cudaSuccess) {
    return error;
  }
  int32_t cluster = 1;
  // In half of the places only: clusters that need all of them wait for the kernel in front, or for
  // each other.
  if (sets && call.num_splits >= 2 * kCluster) {
    cudaFuncAttributes attributes = {};
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel); error != cudaSuccess)
      return error;
    // Code translated from older PTX does not know of clusters, whatever the device is.
    if (attributes.ptxVersion >= 90) cluster = kCluster;
  }
  const auto heads = static_cast<unsigned>(call.per_head ? call.num_heads : call.kv.num_kv_heads);
  const auto parts = static_cast<unsigned>(call.num_splits / cluster * cluster);
  const dim3 grid(sets ? heads : parts, sets ? parts : heads,
                  static_cast<unsigned>(call.step.num_sequences));
  if (cluster == 1) return Launch(kernel, grid, dim3(kThreads), kBytes, stream, call);
  return LaunchClusters(kernel, grid, dim3(1, static_cast<unsigned>(cluster)), dim3(kThreads),
                        kBytes, stream, call);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, cudaStream_t stream) {
  switch (call.kv.head_dim) {
    case 64:
      return LaunchDecode<T, 64>(call, stream);
    case 80:
      return LaunchDecode<T, 80>(call, stream);
    case 96:
      return LaunchDecode<T, 96>(call, stream);
    case 128:
      return LaunchDecode<T, 128>(call, stream);
    case 256:
      return LaunchDecode<T, 256>(call, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int32_t AttentionSplits(int32_t num_sms, int32_t head_dim, CacheType type,
                        int32_t num_heads_or_kv_heads, int32_t num_sequences) {
  const int32_t resident = num_sms * ResidentBlocks(head_dim, type == CacheType::kF8e4m3);
  const int32_t items = num_heads_or_kv_heads * num_sequences;
  return items >= resident ? 1 : resident / items;
}

int64_t AttentionPartialFloats(int32_t max_splits, int32_t max_sequences, int32_t num_heads,
                               int32_t head_dim) {
  return int64_t{max_splits} * max_sequences * num_heads * kRows * (head_dim + 2);
}

bool HasTensorCoreAttention(int32_t head_dim, CacheType type) {
  const bool has_dim =
      head_dim == 64 || head_dim == 80 || head_dim == 96 || head_dim == 128 || head_dim == 256;
  return has_dim && type != CacheType::kF32;
}

cudaError_t AttendDecode(const AttentionCall& call, cudaStream_t stream) {
  if (call.kv.type == CacheType::kF8e4m3) return LaunchByHeadDim<E4m3>(call, stream);
  return call.kv.type == CacheType::kF16 ? LaunchByHeadDim<__half>(call, stream)
                                         : LaunchByHeadDim<__nv_bfloat16>(call, stream);
}

}  // namespace tidal
