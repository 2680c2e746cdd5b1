// What the matrix-vector kernels share: their shape, the rows of x, and what becomes of a sum.
#ifndef TIDAL_CUDA_MATVEC_COMMON_CUH_
#define TIDAL_CUDA_MATVEC_COMMON_CUH_

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/matvec.h"
#include "cuda/matvec_shape.h"

namespace tidal {

// Activations are read past the L1 cache: a line that a neighbour kernel has put there on this
// multiprocessor may be older than what WaitForInputs has waited for.
__device__ inline float LoadActivation(const float* at) { return __ldcg(at); }

// Four elements of a row of x, zeros past its end. REQUIRES: col a multiple of 4.
__device__ inline float4 LoadX(const float* row, int col, int cols, bool aligned) {
  if (aligned && col + 4 <= cols) return __ldcg(reinterpret_cast<const float4*>(row + col));
  float4 v = {0, 0, 0, 0};
  if (col < cols) v.x = LoadActivation(row + col);
  if (col + 1 < cols) v.y = LoadActivation(row + col + 1);
  if (col + 2 < cols) v.z = LoadActivation(row + col + 2);
  if (col + 3 < cols) v.w = LoadActivation(row + col + 3);
  return v;
}

// Four norm weights; ones where the call has no norm.
__device__ inline float4 LoadNorm(const MatvecParams& p, int col) {
  if (p.norm == nullptr) return {1, 1, 1, 1};
  return LoadX(p.norm, col, p.cols, p.x_aligned);
}

// Row n of x; null for n past the call's rows.
__device__ inline const float* RowOfX(const MatvecParams& p, int n) {
  if (n >= p.num_rows) return nullptr;
  const int64_t row = p.row_ids == nullptr ? n : __ldcg(p.row_ids + n);
  return p.x + row * p.x_stride;
}

__device__ inline float Square(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }
__device__ inline float4 Times(float4 a, float4 b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

__device__ inline float WarpSum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v += __shfl_xor_sync(~0u, v, distance);
  }
  return v;
}
__device__ inline float WarpMax(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v = fmaxf(v, __shfl_xor_sync(~0u, v, distance));
  }
  return v;
}

__device__ inline float InverseRms(const MatvecParams& p, float sum_of_squares) {
  return p.norm == nullptr ? 1.0f
                           : 1.0f / sqrtf(sum_of_squares / static_cast<float>(p.cols) + p.norm_eps);
}

// The job that a task belongs to.
__device__ inline int JobOf(const MatvecParams& p, int task) {
  int job = 0;
  while (job + 1 < p.num_jobs && task >= p.task_begin[job + 1]) ++job;
  return job;
}

__device__ inline float WithBias(const MatvecParams::Job& job, int row, float value) {
  return job.bias == nullptr ? value : value + job.bias[row];
}
__device__ inline float Silu(float v) { return v / (1.0f + expf(-v)); }

// Stores or adds the product of row n of x with a row of the job's matrix.
__device__ inline void PutResult(const MatvecParams& p, const MatvecParams::Job& job, int row,
                                 int n, float value) {
  float* out = job.out + n * job.out_stride + row;
  *out = p.output == ProductOutput::kAdd ? LoadActivation(out) + value : value;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_COMMON_CUH_
