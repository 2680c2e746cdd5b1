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

  // Vector v of the eight of a set is kept at v ^ this, so that what eight threads write at once,
  // two neighbours' vectors of four half chunks, lies in all banks.
  static __device__ int Swizzle(int chunk_of_stage, int half) { return chunk_of_stage | half << 2; }
};

// Operands [round][kBlocks][2 halves of a chunk][kSets][upper, lower][4 lanes]
// uint4, the last eight swizzled; sums of the groups' x [chunk][kN][kGroups] times kCodeUnit; units
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

// 2^exponent. REQUIRES: a normal number.
__device__ inline float PowerOfTwo(int exponent) {
  return __uint_as_float(static_cast<uint32_t>(127 + exponent) << 23);
}

// Of the power of two that brings `largest` into [2^14, 2^15), where the lower of the two f16 of an
// element has all its bits; within what leaves its inverse over kUnit finite.
__device__ inline int ExponentForF16(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  return largest > 0 ? min(max(14 - exponent, -76), 100) : 0;
}

// Four elements as two f16 each: words of two columns, and what they stand for, added up.
struct SplitQuad {
  uint32_t upper[2];
  uint32_t lower[2];
  float sum = 0;

  __device__ explicit SplitQuad(float4 v) {
    Split(v.x, v.y, 0);
    Split(v.z, v.w, 1);
  }

 private:
  static __device__ uint32_t Bits(__half2 pair) { return *reinterpret_cast<uint32_t*>(&pair); }
  __device__ void Split(float a, float b, int word) {
    const __half2 up = __floats2half2_rn(a, b);
    const float2 u = __half22float2(up);
    const __half2 low = __floats2half2_rn(a - u.x, b - u.y);
    const float2 l = __half22float2(low);
    sum += u.x + l.x;
    sum += u.y + l.y;
    upper[word] = Bits(up);
    lower[word] = Bits(low);
  }
};

// What a thread stages at once: four quads of columns, every other one of the 32 that it shares
// with a neighbour, so that the two read whole sectors and each has all words of its operands.
struct XRun {
  static constexpr int kQuads = 4;
  static constexpr int kCols = 4 * kQuads;
  float4 quads[kQuads] = {};

  // The thread's first column of every kMatvecThreads * kCols.
  static __device__ int FirstCol() {
    const auto thread = static_cast<int>(threadIdx.x);
    return thread / 2 * (2 * kCols) + thread % 2 * 4;
  }
  template <bool kAligned>
  __device__ void Load(const float* row, int col, int end) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) quads[i] = LoadQuad<kAligned>(row, col + 8 * i, end);
  }
  __device__ float Squares() const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) sum += Square(quads[i]);
    return sum;
  }
  __device__ void Fill(float v) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) quads[i] = {v, v, v, v};
  }
};

// Stages a run of row n from `col` of what is staged on, unless it does not exist. Called by whole
// warps.
template <DType kType, int kN>
__device__ void StageRun(const XRun& v, const XRun& norm, int n, int col, bool exists,
                         const StagedX& x) {
  using Sets = XSets<kType, kN>;
  constexpr int kHalfGroups = Sets::kGroups / 2;
  float4 w[XRun::kQuads];
  float largest = 0;
#pragma unroll
  for (int i = 0; i < XRun::kQuads; ++i) {
    w[i] = Times(v.quads[i], norm.quads[i]);
    largest = fmaxf(
        largest, fmaxf(fmaxf(fabsf(w[i].x), fabsf(w[i].y)), fmaxf(fabsf(w[i].z), fabsf(w[i].w))));
  }
  largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
  largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
  const int exponent = ExponentForF16(largest);

  uint4 upper[2];
  uint4 lower[2];
  float sums[kHalfGroups] = {};
#pragma unroll
  for (int i = 0; i < XRun::kQuads; ++i) {
    const float times = i % 2 == 0 ? 1 : kUpperTimes<kType>;
    const float factor = PowerOfTwo(exponent) * (1 / times);
    const SplitQuad quad(Times(w[i], {factor, factor, factor, factor}));
    sums[i * kHalfGroups / XRun::kQuads] += times * quad.sum;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      reinterpret_cast<uint32_t*>(&upper[pair])[i] = quad.upper[pair];
      reinterpret_cast<uint32_t*>(&lower[pair])[i] = quad.lower[pair];
    }
  }
#pragma unroll
  for (int i = 0; i < kHalfGroups; ++i) sums[i] += __shfl_xor_sync(~0u, sums[i], 1);

  if (!exists) return;
  const int chunk = col / kChunkCols;
  const int half_of_chunk = col / 32 % 2;
  const int set = chunk % Sets::kSlots * Sets::kBlockRows + n % Sets::kBlockRows;
  const int half =
      (chunk / Sets::kSlots * Sets::kBlocks + n / Sets::kBlockRows) * 2 + half_of_chunk;
  uint4* vectors = x.operands + half * Sets::kHalfVectors + set * 8;
  const int first = col % 8 / 2 ^ Sets::Swizzle(chunk % Sets::kStageChunks, half_of_chunk);
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    vectors[first ^ pair] = upper[pair];
    vectors[first ^ pair ^ 4] = lower[pair];
  }
  const int row = chunk * kN + n;
  if (threadIdx.x % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kHalfGroups; ++i)
      x.sums[row * Sets::kGroups + half_of_chunk * kHalfGroups + i] = sums[i] * kCodeUnit;
  }
  if (threadIdx.x % 4 == 0) x.units[row] = PowerOfTwo(-exponent) * (1 / ChunkScales<kType>::kUnit);
}

template <DType kType, int kN, bool kAligned, bool kNormed>
__device__ void StageRows(const MatvecParams& p, int pass, const StagedX& x, float (&squares)[kN]) {
  constexpr int kStride = kMatvecThreads * XRun::kCols;
  // Rows whose loads are under way together, of so many runs.
  constexpr int kRows = kN == 2 || (kN == 4 && kAligned && !kNormed) ? 2 : 1;
  constexpr int kSteps = kN == 1 && kAligned && !kNormed ? 2 : 1;
  const int begin = pass * p.pass_cols;
  const int count = StagedCols(p, pass);
  const int end = min(p.cols, begin + count);
  XRun norm[kSteps];
  const auto load_norm = [&](int col) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      norm[i].Fill(1);
      if (kNormed && p.norm != nullptr)
        norm[i].template Load<kAligned>(p.norm, begin + col + i * kStride, end);
    }
  };
  // A thread has the same columns of x, in the same order, whatever the passes are: its sum of
  // squares, like all else, does not depend on how many rows there are.
  const int first_col = (XRun::FirstCol() + kStride - begin % kStride) % kStride;
  load_norm(first_col);
  if (pass == 0) WaitForInputs();
  const float* rows[kN];
#pragma unroll
  for (int n = 0; n < kN; ++n) rows[n] = RowOfX(p, n);
  for (int first = 0; first < count; first += kSteps * kStride) {
    const int own = first + first_col;
    if (first > 0) load_norm(own);
#pragma unroll
    for (int n = 0; n < kN; n += kRows) {
      XRun v[kSteps][kRows];
#pragma unroll
      for (int i = 0; i < kSteps * kRows; ++i) {
        const int col = begin + own + i / kRows * kStride;
        const float* row = rows[n + i % kRows];
        if (row != nullptr) v[i / kRows][i % kRows].template Load<kAligned>(row, col, end);
      }
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        if (first + i * kStride >= count) break;
        const int col = own + i * kStride;
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
          if (kNormed) squares[n + row] += v[i][row].Squares();
          StageRun<kType, kN>(v[i][row], norm[i], n + row, col, col < count, x);
        }
      }
    }
  }
}

// x of a pass, times the norm's weights, to shared memory; with a norm adds up the squares
// of x. The first pass waits for the kernel's inputs, having asked for the norm's weights, which
// no kernel writes.
template <DType kType, int kN>
__device__ void StageX(const MatvecParams& p, int pass, const StagedX& x, float (&squares)[kN]) {
  if (!p.x_aligned) {
    StageRows<kType, kN, false, true>(p, pass, x, squares);
  } else if (p.norm != nullptr) {
    StageRows<kType, kN, true, true>(p, pass, x, squares);
  } else {
    StageRows<kType, kN, true, false>(p, pass, x, squares);
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_PACKED_X_CUH_
