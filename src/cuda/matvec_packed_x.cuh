// Rows of x as the right operands of tensor core products with packed codes, in
// shared memory: each element as two f16, scaled by a power of two for its row
// and 64 columns.
//
// A product has eight columns, two (upper and lower parts) for each of four
// sets of x. Fewer rows than four leave room for more columns of the matrix:
// with one row the four sets are its x for four chunks of 64 columns, so that a
// lane of the four that share a row of the product gets the sums of one chunk,
// and only that chunk's scales.
#ifndef TIDAL_CUDA_MATVEC_PACKED_X_CUH_
#define TIDAL_CUDA_MATVEC_PACKED_X_CUH_

#include <algorithm>
#include <cstdint>
#include <cuda_fp16.h>

#include "cuda/matvec_common.cuh"
#include "cuda/packed_fragment.cuh"

namespace tidal {

// How the sets of x of a product are used: set s of block b is chunk s / kN of
// a round for row s % kN + 4 * b.
template <DType kType, int kN>
struct XSets {
  static constexpr int kStageChunks = StageCols(kType) / kChunkCols;
  static constexpr int kSlots = std::min(std::max(4 / kN, 1), kStageChunks);  // chunks of a round
  static constexpr int kRounds = kStageChunks / kSlots;                       // of a stage
  static constexpr int kBlocks = kN > 4 ? kN / 4 : 1;
  static constexpr int kBlockRows = kN / kBlocks;
  static constexpr int kSets = kBlockRows * kSlots;
  static constexpr int kHalfVectors = kSets * 2 * 4;  // of 16 bytes, for 32 columns of a round
  static constexpr int kGroups = ChunkScales<kType>::kGroups;
};

// Operands [round][kBlocks][2 halves of a chunk][kSets][upper, lower][4 lanes]
// uint4; sums of the groups' x [chunk][kN][kGroups] times kCodeUnit; units
// [chunk][kN]: what sums of these x with scaled codes are multiplied by.
struct StagedX {
  uint4* operands;
  float* sums;
  float* units;
};
template <DType kType, int kN>
__device__ StagedX SplitX(float* memory, int cols) {
  float* sums = memory + kN * cols;
  return {reinterpret_cast<uint4*>(memory), sums,
          sums + cols / kChunkCols * kN * ChunkScales<kType>::kGroups};
}

// The power of two that brings `largest` into [2^14, 2^15), where the lower of
// the two f16 of an element has all its bits; within what leaves its inverse
// over kUnit finite.
__device__ inline float PowerForF16(float largest) {
  if (!(largest > 0)) return 1;
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  return __uint_as_float(static_cast<uint32_t>(127 + min(max(14 - exponent, -76), 100)) << 23);
}

__device__ inline uint32_t HalfPair(__half a, __half b) {
  return __half_as_ushort(a) | static_cast<uint32_t>(__half_as_ushort(b)) << 16;
}

// Writes four columns of row n; returns what they stand for, added up.
template <DType kType, int kN>
__device__ float StageQuad(float4 v, int n, int col, uint4* operands) {
  using Sets = XSets<kType, kN>;
  const float in[4] = {v.x, v.y, v.z, v.w};
  __half upper[4];
  __half lower[4];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    upper[i] = __float2half_rn(in[i]);
    lower[i] = __float2half_rn(in[i] - __half2float(upper[i]));
    sum += __half2float(upper[i]) + __half2float(lower[i]);
  }
  const int chunk = col / kChunkCols;
  const int set = chunk % Sets::kSlots * Sets::kBlockRows + n % Sets::kBlockRows;
  const int half = (chunk / Sets::kSlots * Sets::kBlocks + n / Sets::kBlockRows) * 2 + col / 32 % 2;
  const int word = col % 32 / 16 * 2 + col % 16 / 8;
  uint4* vector = operands + half * Sets::kHalfVectors + set * 8 + col % 8 / 2;
  auto* at = reinterpret_cast<uint32_t*>(vector) + word;
  at[0] = HalfPair(upper[0], upper[1]);
  at[4] = HalfPair(upper[2], upper[3]);
  at[16] = HalfPair(lower[0], lower[1]);
  at[20] = HalfPair(lower[2], lower[3]);
  return sum;
}

// x of a pass, times the norm's weights, to shared memory; adds up the squares
// of x.
template <DType kType, int kN>
__device__ void StageX(const MatvecParams& p, int pass, const StagedX& x, float (&squares)[kN]) {
  constexpr int kGroupCols = UnitParts<kType>::kGroupCols;
  constexpr int kGroups = XSets<kType, kN>::kGroups;
  constexpr float kUpper = kUpperTimes<kType>;
  ForEachQuad<kN>(
      p, pass * p.pass_cols, StagedCols(p, pass), [&](int n, int col, float4 v, float4 norm) {
        squares[n] += Square(v);
        const float4 w = Times(v, norm);
        float largest = fmaxf(fmaxf(fabsf(w.x), fabsf(w.y)), fmaxf(fabsf(w.z), fabsf(w.w)));
#pragma unroll
        for (int distance = 1; distance < kChunkCols / 4; distance *= 2)
          largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, distance));
        const float power = PowerForF16(largest);
        const float times = col % 16 < 8 ? 1 : kUpper;
        const float factor = power / times;
        float sum = times * StageQuad<kType, kN>(Times(w, {factor, factor, factor, factor}), n, col,
                                                 x.operands);
#pragma unroll
        for (int distance = 1; distance < kGroupCols / 4; distance *= 2)
          sum += __shfl_xor_sync(~0u, sum, distance);
        const int at = col / kChunkCols * kN + n;
        if (col % kGroupCols == 0)
          x.sums[at * kGroups + col % kChunkCols / kGroupCols] = sum * kCodeUnit;
        if (col % kChunkCols == 0) x.units[at] = 1 / (power * ChunkScales<kType>::kUnit);
      });
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_PACKED_X_CUH_
