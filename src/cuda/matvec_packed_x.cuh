// Rows of x as the right operands of tensor core products with packed codes, in shared memory: each
// element as two f16, scaled by a power of two for its row.
#ifndef TIDAL_CUDA_MATVEC_PACKED_X_CUH_
#define TIDAL_CUDA_MATVEC_PACKED_X_CUH_

#include <cstdint>
#include <cuda_fp16.h>

#include "cuda/matvec_common.cuh"
#include "cuda/packed_unit.cuh"

namespace tidal {

// What the sums are in units of: codes come times 2^-24 (packed_fragment.cuh).
inline constexpr float kCodeUnit = 0x1p-24f;

// Per row of x: what its elements are multiplied by on their way to shared memory, and what undoes
// that in the sums.
template <int kN>
struct RowFactors {
  float stage[kN];
  float restore[kN];
};

// The power of two that brings `largest` into [2^14, 2^15), where the lower of the two f16 of an
// element has all its bits.
__device__ inline float PowerForF16(float largest) {
  if (!(largest > 0)) return 1;
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  return __uint_as_float(static_cast<uint32_t>(127 + min(max(14 - exponent, -100), 100)) << 23);
}

// Norm and range of each row. Ends with a barrier.
template <int kN>
__device__ void FindFactors(const MatvecParams& p, float* reduce, RowFactors<kN>* factors) {
  float squares[kN] = {};
  float largest[kN] = {};
  const int count = (p.cols + kXAlignCols - 1) / kXAlignCols * kXAlignCols;
  ForEachQuad<kN>(p, 0, count, [&](int n, int, float4 v, float4 norm) {
    squares[n] += Square(v);
    const float4 w = Times(v, norm);
    largest[n] =
        fmaxf(largest[n], fmaxf(fmaxf(fabsf(w.x), fabsf(w.y)), fmaxf(fabsf(w.z), fabsf(w.w))));
  });
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float sum = WarpSum(squares[n]);
    const float maximum = WarpMax(largest[n]);
    if (threadIdx.x % 32 == 0) {
      reduce[n * kMatvecWarps + warp] = sum;
      reduce[(kN + n) * kMatvecWarps + warp] = maximum;
    }
  }
  __syncthreads();
  if (threadIdx.x < kN) {
    float sum = 0;
    float maximum = 0;
    for (int i = 0; i < kMatvecWarps; ++i) {
      sum += reduce[threadIdx.x * kMatvecWarps + i];
      maximum = fmaxf(maximum, reduce[(kN + threadIdx.x) * kMatvecWarps + i]);
    }
    const float inverse_rms = InverseRms(p, sum);
    const float power = PowerForF16(maximum * inverse_rms);
    factors->stage[threadIdx.x] = inverse_rms * power;
    factors->restore[threadIdx.x] = 1 / (power * kCodeUnit);
  }
  __syncthreads();
}

// Shared memory of staged x: operands [cols / 32][2 * kN columns][4 lanes][4 words], column 2 * n
// the upper and 2 * n + 1 the lower part of row n; then sums [cols / group][kN] times kCodeUnit.
struct StagedX {
  uint32_t* operands;
  float* sums;
};

__device__ inline uint32_t HalfPair(__half a, __half b) {
  return __half_as_ushort(a) | static_cast<uint32_t>(__half_as_ushort(b)) << 16;
}

// Writes four columns of row n; returns what they stand for, added up.
template <int kN>
__device__ float StageQuad(float4 v, int n, int col, uint32_t* operands) {
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
  const int word = col % 32 / 16 * 2 + col % 16 / 8;
  const int lane = col % 8 / 2;
  uint32_t* at = operands + (col / 32 * 2 * kN + 2 * n) * 16 + lane * 4 + word;
  at[0] = HalfPair(upper[0], upper[1]);
  at[4] = HalfPair(upper[2], upper[3]);
  at[16] = HalfPair(lower[0], lower[1]);
  at[20] = HalfPair(lower[2], lower[3]);
  return sum;
}

template <DType kType, int kN>
__device__ void StageX(const MatvecParams& p, int pass, const RowFactors<kN>& factors,
                       const StagedX& x) {
  constexpr int kGroupCols = UnitParts<kType>::kGroupCols;
  ForEachQuad<kN>(
      p, pass * p.pass_cols, StagedCols(p, pass), [&](int n, int col, float4 v, float4 norm) {
        const float factor = factors.stage[n];
        float sum = StageQuad<kN>(Times(Times(v, norm), {factor, factor, factor, factor}), n, col,
                                  x.operands);
#pragma unroll
        for (int distance = 1; distance < kGroupCols / 4; distance *= 2) {
          sum += __shfl_xor_sync(~0u, sum, distance);
        }
        if (col % kGroupCols == 0) x.sums[col / kGroupCols * kN + n] = sum * kCodeUnit;
      });
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_PACKED_X_CUH_
