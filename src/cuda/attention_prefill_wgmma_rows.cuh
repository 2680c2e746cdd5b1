// A multiplying warpgroup of attention_prefill_wgmma.cu: its 64 rows' scores, their softmax and the
// sum over V, tile by tile.
//
// Registers of a thread, which has a part of two rows: 64 for scores of a tile, head_dim / 2 for
//           the sum over V, and 32 for the probabilities that the products under way read.
// Barriers  a stage's K or V is there when its bytes are (k_full, v_full), and no longer needed
//           when a lane of each warp has said so (k_empty, v_empty). Barriers by threads: the turns
//           to start products, a warpgroup's queries, and zeros in the last tile of V.
#ifndef TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_ROWS_CUH_
#define TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_ROWS_CUH_

#include <cstdint>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/attention_prefill_wgmma_block.cuh"
#include "cuda/shared_barrier.cuh"
#include "cuda/wgmma.cuh"

namespace tidal {

// Numbers of the barriers by threads.
inline constexpr int kTurnBarrier = 1;  // and the next: a warpgroup's turn to start products
inline constexpr int kAllRowsBarrier = kTurnBarrier + kGroups;
inline constexpr int kGroupBarrier = kAllRowsBarrier + 1;  // and the next

// A warpgroup's 64 rows of q, scaled and rounded, zeros after the last.
template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadQueries(PrefillShared<kHeadDim>& shared,
                                            const PrefillWork& work, const AttentionCall& call,
                                            int group) {
  constexpr int kPieces = kHeadDim / 8;
  constexpr float kLog2E = 1.4426950408889634f;
  const float scale = call.attn_scale * kLog2E;
#pragma unroll 2
  for (int i = threadIdx.x % kGroupThreads; i < kGroupRows * kPieces; i += kGroupThreads) {
    const int row = group * kGroupRows + i / kPieces;
    const int piece = i % kPieces;
    uint4 packed = {};
    if (row < work.num_rows) {
      const float* q = call.q + work.HeadOf(row, call.num_heads) * kHeadDim + piece * 8;
      const float4 a = *reinterpret_cast<const float4*>(q);
      const float4 b = *reinterpret_cast<const float4*>(q + 4);
      packed = {PackPair<T>(a.x * scale, a.y * scale), PackPair<T>(a.z * scale, a.w * scale),
                PackPair<T>(b.x * scale, b.y * scale), PackPair<T>(b.z * scale, b.w * scale)};
    }
    *reinterpret_cast<uint4*>(&shared.q[piece / 8][SwizzledOffset(row, piece % 8)]) = packed;
  }
  FenceSharedForAsync();
  WaitForThreads(kGroupBarrier + group, kGroupThreads);
}

// Starts s = q k of a tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void StartScores(float (&s)[kTileTokens / 2], uint64_t q, uint64_t k) {
  constexpr uint64_t kSixteen = 32 / 16;  // elements along a row, in a descriptor's units
  constexpr uint64_t kBlock = kBlockBytes / 16;
  FenceProducts();
#pragma unroll
  for (int d = 0; d < kHeadDim / 16; ++d) {
    const uint64_t offset = d / 4 * kBlock + d % 4 * kSixteen;
    MultiplyShared<T>(s, q + offset, k + offset, d > 0);
  }
  CommitProducts();
}

// Starts out += probs v of a tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void StartSum(float (&out)[kHeadDim / 2],
                                         const uint32_t (&probs)[kTileTokens / 16][4], uint64_t v) {
  constexpr uint64_t kSixteen = 16 * kSwizzleBytes / 16;  // rows, in a descriptor's units
  FenceProducts();
#pragma unroll
  for (int t = 0; t < kTileTokens / 16; ++t) {
    MultiplyAddTransposed<T, kHeadDim>(out, probs[t], v + t * kSixteen);
  }
  CommitProducts();
}

// A thread's two rows of a warpgroup's: 8 r + lane / 4 of its warp's 16. Element 4 n + 2 r + e of
// an accumulator is column 8 n + lane % 4 * 2 + e of row r.
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  // of the thread's own columns
};

// Hides what a row does not see: the columns from hidden_from[r] on, counted from the thread's
// first.
__device__ __forceinline__ void Mask(float (&s)[kTileTokens / 2], const int32_t (&hidden_from)[2]) {
#pragma unroll
  for (int n = 0; n < kTileTokens / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (n * 8 + e % 2 >= hidden_from[e / 2]) s[4 * n + e] = -INFINITY;
    }
  }
}

// Turns scores into probabilities of the rows' new maximum; shrink: what older ones are to be
// multiplied by. Every row sees the first token, so that maxima are finite.
__device__ __forceinline__ void ScoresToProbs(float (&s)[kTileTokens / 2], RowState& state,
                                              float (&shrink)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float max[2] = {s[2 * r], s[2 * r + 1]};
#pragma unroll
    for (int n = 1; n < kTileTokens / 8; ++n) {
      max[0] = fmaxf(max[0], s[4 * n + 2 * r]);
      max[1] = fmaxf(max[1], s[4 * n + 2 * r + 1]);
    }
    float row_max = fmaxf(state.max[r], fmaxf(max[0], max[1]));
    row_max = fmaxf(row_max, __shfl_xor_sync(0xffffffff, row_max, 1));
    row_max = fmaxf(row_max, __shfl_xor_sync(0xffffffff, row_max, 2));
    shrink[r] = Exp2(state.max[r] - row_max);
    state.max[r] = row_max;
  }
  float sums[2][2] = {{state.sum[0] * shrink[0], 0}, {state.sum[1] * shrink[1], 0}};
#pragma unroll
  for (int n = 0; n < kTileTokens / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[4 * n + e] = Exp2(s[4 * n + e] - state.max[e / 2]);
      sums[e / 2][e % 2] += s[4 * n + e];
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) state.sum[r] = sums[r][0] + sums[r][1];
}

template <typename T>
__device__ __forceinline__ void PackProbs(const float (&s)[kTileTokens / 2],
                                          uint32_t (&probs)[kTileTokens / 16][4]) {
#pragma unroll
  for (int t = 0; t < kTileTokens / 16; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) probs[t][i] = PackPair<T>(s[8 * t + 2 * i], s[8 * t + 2 * i + 1]);
  }
}

// Zeros for V of the tokens from `valid` on, whatever the cache or the stage holds there: 0 times
// what is no number would be no number.
template <int kHeadDim>
__device__ __forceinline__ void ClearTail(typename PrefillShared<kHeadDim>::Rows& v,
                                          int32_t valid) {
  constexpr int kRowPieces = kSwizzleBytes / 16;
  for (int block = 0; block < PrefillShared<kHeadDim>::kBlocks; ++block) {
    for (int i = valid * kRowPieces + threadIdx.x % (kGroupThreads * kGroups);
         i < kTileTokens * kRowPieces; i += kGroupThreads * kGroups) {
      *reinterpret_cast<uint4*>(&v[block][i * 16]) = uint4{};
    }
  }
  FenceSharedForAsync();
  WaitForThreads(kAllRowsBarrier, kGroupThreads * kGroups);
}

// A multiplying warpgroup.
template <typename T, int kHeadDim>
__device__ __forceinline__ void AttendRows(PrefillShared<kHeadDim>& shared, const PrefillWork& work,
                                           const AttentionCall& call, int group) {
  const int lane = threadIdx.x % 32;
  const int own_row = group * kGroupRows + threadIdx.x % kGroupThreads / 32 * 16 + lane / 4;
  LoadQueries<T, kHeadDim>(shared, work, call, group);
  const uint64_t q = SwizzledMatrix(
      SharedAddress(shared.q) + static_cast<uint32_t>(group * kGroupRows * kSwizzleBytes),
      kBlockBytes);
  const auto k = [&](int32_t stage) {
    return SwizzledMatrix(SharedAddress(shared.k[stage]), kBlockBytes);
  };
  const auto v = [&](int32_t stage) {
    return SwizzledMatrix(SharedAddress(shared.v[stage]), kBlockBytes);
  };
  // Columns, counted from the thread's first of tile 0, from which its rows see nothing.
  const int32_t hidden[2] = {work.SeenBy(own_row) - lane % 4 * 2,
                             work.SeenBy(own_row + 8) - lane % 4 * 2};
  const auto mask = [&](float(&s)[kTileTokens / 2], int32_t tile) {
    Mask(s, {hidden[0] - tile * kTileTokens, hidden[1] - tile * kTileTokens});
  };
  const int32_t first_masked = work.SeenBy(group * kGroupRows) / kTileTokens;
  const int32_t last = work.num_tiles - 1;

  float s[kTileTokens / 2];
  float out[kHeadDim / 2] = {};
  uint32_t probs[kTileTokens / 16][4];
  float shrink[2];
  RowState state;

  // The wait for the next tile's keys (or, once more, the last's) comes right after the
  // probabilities `s`: its loop ends a run of instructions, and so keeps the compiler from moving
  // their computation behind the wait for products that it is to overlap.
  const auto wait_for_keys = [&](int32_t tile, float(&s)[kTileTokens / 2]) {
    Hold(s);
    WaitForPhase(&shared.k_full[tile % kTileStages], tile / kTileStages % 2);
  };

  WaitForPhase(&shared.k_full[0], 0);
  StartScores<T, kHeadDim>(s, q, k(0));
  WaitForProducts<0>();
  Hold(s);
  if (lane == 0) Arrive(&shared.k_empty[0]);
  if (first_masked == 0) mask(s, 0);
  ScoresToProbs(s, state, shrink);
  PackProbs<T>(s, probs);
  wait_for_keys(min(1, last), s);

  const auto step = [&](int32_t tile, auto masked) {
    const int32_t stage = tile % kTileStages;
    const int32_t stage_before = (tile - 1) % kTileStages;
    WaitForThreads(kTurnBarrier + group, kGroupThreads * kGroups);
    Hold(s);
    Hold(out);
    Hold(probs);
    StartScores<T, kHeadDim>(s, q, k(stage));
    WaitForPhase(&shared.v_full[stage_before], (tile - 1) / kTileStages % 2);
    StartSum<T, kHeadDim>(out, probs, v(stage_before));
    // Nobody waits for the last warpgroup after its last turn.
    if (group + 1 < kGroups || tile < last) {
      ArriveOfThreads(kTurnBarrier + (group + 1) % kGroups, kGroupThreads * kGroups);
    }
    WaitForProducts<1>();
    Hold(s);
    if (lane == 0) Arrive(&shared.k_empty[stage]);
    if constexpr (masked.value) mask(s, tile);
    ScoresToProbs(s, state, shrink);
    wait_for_keys(min(tile + 1, last), s);
    WaitForProducts<0>();
    Hold(out);
    Hold(probs);
    if (lane == 0) Arrive(&shared.v_empty[stage_before]);
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) out[i] *= shrink[i / 2 % 2];
    PackProbs<T>(s, probs);
  };
  // The first turn is the first warpgroup's.
  if (group == kGroups - 1 && last > 0) ArriveOfThreads(kTurnBarrier, kGroupThreads * kGroups);
  int32_t tile = 1;
  for (; tile < min(first_masked, work.num_tiles); ++tile) step(tile, std::false_type{});
  for (; tile < work.num_tiles; ++tile) step(tile, std::true_type{});

  WaitForPhase(&shared.v_full[last % kTileStages], last / kTileStages % 2);
  if (work.num_tokens < work.num_tiles * kTileTokens) {
    ClearTail<kHeadDim>(shared.v[last % kTileStages], work.num_tokens - last * kTileTokens);
  }
  Hold(out);
  Hold(probs);
  StartSum<T, kHeadDim>(out, probs, v(last % kTileStages));
  WaitForProducts<0>();
  Hold(out);
  Hold(probs);

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    const int32_t row = own_row + 8 * r;
    if (row >= work.num_rows) continue;
    const float scale = 1 / sum;
    float* to = call.out + work.HeadOf(row, call.num_heads) * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const float2 pair = {out[4 * n + 2 * r] * scale, out[4 * n + 2 * r + 1] * scale};
      *reinterpret_cast<float2*>(to + n * 8) = pair;
    }
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_ROWS_CUH_
