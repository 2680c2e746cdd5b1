// What a warp makes of the tiles of few-row attention: scores, a running softmax, and the rows of V
// that it weighs.
//
// Layout    the rows of all heads of a group stand in one fragment of 16: each K and V row is read
//           once per KV head.
// Numerics  queries are split into two 16-bit halves, which keeps 21 bits (bf16: 15) of them;
//           scores and sums in float32; probabilities are rounded to the cache's type before they
//           meet V.
// f8e4m3    (kv_f8.cuh) becomes halves in registers, exactly, and so does what it is multiplied
//           with: queries, rounded once, since keys have 4 bits of their own, and probabilities. A
//           score is multiplied by its key's scale. V's scale goes into the softmax: its logarithm
//           is added to the score, so that halves hold the products' weights relative to the
//           largest of them; the sum takes each weight over its V's scale, and so nothing else
//           needs to know. Fragments take channels in the order in which the bytes lie: the queries
//           stand in the order of K's (PlaceOfQuery), results are put in theirs (MergeWarps of
//           attention_decode_parts.cuh).
#ifndef TIDAL_CUDA_ATTENTION_DECODE_SOFTMAX_CUH_
#define TIDAL_CUDA_ATTENTION_DECODE_SOFTMAX_CUH_

#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_decode_tile.cuh"
#include "cuda/kv_f8.cuh"
#include "cuda/mma.cuh"

namespace tidal::decode {

inline constexpr float kLog2E = 1.4426950408889634f;

// Where a channel of a query stands: of 16 channels a lane of K's fragment has four next to each
// other, which meet places 2t, 2t + 1, 2t + 8 and 2t + 9. With f8e4m3.
__device__ __forceinline__ int PlaceOfQuery(int d) {
  return (d & ~15) | (d & 2) << 2 | (d >> 1 & 6) | (d & 1);
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

}  // namespace tidal::decode

#endif  // TIDAL_CUDA_ATTENTION_DECODE_SOFTMAX_CUH_
