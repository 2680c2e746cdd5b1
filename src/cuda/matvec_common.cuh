// What the matrix-vector kernels share: their shape, the rows of x, and what becomes of a sum.
#ifndef TIDAL_CUDA_MATVEC_COMMON_CUH_
#define TIDAL_CUDA_MATVEC_COMMON_CUH_

#include <cstdint>
#include <cuda_runtime.h>
#include <type_traits>

#include "cuda/launch.cuh"
#include "cuda/matvec_params.h"
#include "cuda/matvec_shape.h"

namespace tidal {

// Activations are read past the L1 cache: a line that a neighbour kernel has put there on this
// multiprocessor may be older than what WaitForInputs has waited for.
__device__ inline float LoadActivation(const float* at) { return __ldcg(at); }

// Four elements of a row, zeros past its end. REQUIRES: col a multiple of 4; kAligned: so is cols,
// and the row starts at a multiple of 16 bytes.
template <bool kAligned>
__device__ inline float4 LoadQuad(const float* row, int col, int cols) {
  float4 v = {0, 0, 0, 0};
  if constexpr (kAligned) {
    if (col < cols) v = __ldcg(reinterpret_cast<const float4*>(row + col));
  } else {
    if (col < cols) v.x = LoadActivation(row + col);
    if (col + 1 < cols) v.y = LoadActivation(row + col + 1);
    if (col + 2 < cols) v.z = LoadActivation(row + col + 2);
    if (col + 3 < cols) v.w = LoadActivation(row + col + 3);
  }
  return v;
}

// Row n of x; null for n past the call's rows.
__device__ inline const float* RowOfX(const MatvecParams& p, int n) {
  if (n >= p.num_rows) return nullptr;
  const int64_t row = p.row_ids == nullptr ? n : __ldcg(p.row_ids + n);
  return p.x + row * p.x_stride;
}

template <int kN, bool kAligned, typename Use>
__device__ void ForEachQuadOf(const MatvecParams& p, int begin, int count, Use use) {
  constexpr int kBatch = kAligned && kN < 8 ? 8 / kN : 1;
  constexpr int kStride = kMatvecThreads * 4;
  const float* rows[kN];
#pragma unroll
  for (int n = 0; n < kN; ++n) rows[n] = RowOfX(p, n);
  for (int first = threadIdx.x * 4; first < count; first += kBatch * kStride) {
    float4 norm[kBatch];
    float4 x[kBatch][kN];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int col = begin + first + i * kStride;
      norm[i] = {1, 1, 1, 1};
      if (p.norm != nullptr) norm[i] = LoadQuad<kAligned>(p.norm, col, p.cols);
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        x[i][n] = {0, 0, 0, 0};
        if (rows[n] != nullptr) x[i][n] = LoadQuad<kAligned>(rows[n], col, p.cols);
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int col = first + i * kStride;
      if (col >= count) break;
#pragma unroll
      for (int n = 0; n < kN; ++n) use(n, col, x[i][n], norm[i]);
    }
  }
}

// Calls use(n, col, x, norm) for every four columns begin + col, col < count, of each row of x
// (rows past the call's are zeros, and columns past the end), with the norm's weights there or
// ones; the block's threads share the columns, several loads of each in flight. REQUIRES: count a
// multiple of 128: then whole warps call `use` together.
template <int kN, typename Use>
__device__ void ForEachQuad(const MatvecParams& p, int begin, int count, Use use) {
  if (p.x_aligned) {
    ForEachQuadOf<kN, true>(p, begin, count, use);
  } else {
    ForEachQuadOf<kN, false>(p, begin, count, use);
  }
}

// Columns of a pass, in whole steps of any kernel.
__device__ inline int StagedCols(const MatvecParams& p, int pass) {
  const int cols = min(p.pass_cols, p.cols - pass * p.pass_cols);
  return (cols + kXAlignCols - 1) / kXAlignCols * kXAlignCols;
}

// Lets the kernel have its shared memory, and the next kernel as much beside it: a multiprocessor
// cannot change the split between shared memory and cache while blocks are there.
template <typename Kernel>
cudaError_t PrepareShared(Kernel* kernel, int shared_bytes) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                              cudaSharedmemCarveoutMaxShared);
}

__device__ inline float Square(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }
__device__ inline float4 Times(float4 a, float4 b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

__device__ inline float4 Times(float4 a, float b) { return Times(a, {b, b, b, b}); }
__device__ inline float4 Sum(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

__device__ inline float WarpSum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    v += __shfl_xor_sync(~0u, v, distance);
  }
  return v;
}

__device__ inline float InverseRms(const MatvecParams& p, float sum_of_squares) {
  return p.norm == nullptr ? 1.0f
                           : 1.0f / sqrtf(sum_of_squares / static_cast<float>(p.cols) + p.norm_eps);
}

// The warps' sums of the squares of each row, to `reduce`, [kN][warps] in shared memory.
template <int kN>
__device__ inline void PutSquares(const float (&squares)[kN], float* reduce) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float sum = WarpSum(squares[n]);
    if (threadIdx.x % 32 == 0) reduce[n * kMatvecWarps + threadIdx.x / 32] = sum;
  }
}
__device__ inline float SumOfSquares(const float* reduce, int n) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMatvecWarps; ++i) sum += reduce[n * kMatvecWarps + i];
  return sum;
}

// The norm's weights, which a step reads once, on their way to L2 while the kernel before drains.
__device__ inline void PrefetchNorm(const MatvecParams& p) {
  if (p.norm == nullptr) return;
  constexpr int kLine = 128 / sizeof(float);
  for (int col = static_cast<int>(threadIdx.x) * kLine; col < p.cols; col += kMatvecThreads * kLine)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p.norm + col));
}

// Waits for `threads` of the block's threads, on one of the barriers that are not __syncthreads's.
__device__ __forceinline__ void SyncThreads(int barrier, int threads) {
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
// Of blocks in which warps have different work.
inline constexpr int kStartBarrier = 1;  // of all threads
inline constexpr int kWorkBarrier = 2;   // of those that multiply

// The job that a task belongs to.
__device__ inline int JobOf(const MatvecParams& p, int task) {
  int job = 0;
#pragma unroll
  for (int next = 1; next < kMaxMatvecJobs; ++next)
    job += next < p.num_jobs && task >= p.task_begin[next] ? 1 : 0;
  return job;
}

// Row i of a task of kTaskRows; one that pairs two matrices has half of them of each.
struct WeightRow {
  int job;
  int row;
};
template <int kTaskRows>
__device__ WeightRow RowOfTask(const MatvecParams& p, int task, int i) {
  if (p.output == ProductOutput::kSiluMul) {
    constexpr int kPairs = kTaskRows / 2;
    return {i / kPairs, task * kPairs + i % kPairs};
  }
  const int job = JobOf(p, task);
  return {job, (task - p.task_begin[job]) * kTaskRows + i};
}

__device__ inline float WithBias(const MatvecParams::Job& job, int row, float value) {
  return job.bias == nullptr ? value : value + job.bias[row];
}
__device__ inline float Silu(float v) { return v / (1.0f + expf(-v)); }

// Enqueues a kernel, with blocks of `threads`.
template <typename Kernel, typename Params>
cudaError_t LaunchPrepared(Kernel* kernel, const Params& params, int grid, int shared_bytes,
                           cudaStream_t stream, int threads = kMatvecThreads) {
  const cudaError_t error = PrepareShared(kernel, shared_bytes);
  if (error != cudaSuccess) return error;
  return Launch(kernel, grid, threads, static_cast<size_t>(shared_bytes), stream, params);
}

// The same for at least `rows` rows of x; kernel_of(n), n a std::integral_constant of 1, 2, 4 or 8,
// is the kernel for n.
template <typename KernelOf>
cudaError_t LaunchForRows(int rows, const MatvecParams& params, int grid, int shared_bytes,
                          cudaStream_t stream, KernelOf kernel_of, int threads = kMatvecThreads) {
  const auto launch = [&](auto kernel) {
    return LaunchPrepared(kernel, params, grid, shared_bytes, stream, threads);
  };
  switch (rows) {
    case 1:
      return launch(kernel_of(std::integral_constant<int, 1>()));
    case 2:
      return launch(kernel_of(std::integral_constant<int, 2>()));
    case 4:
      return launch(kernel_of(std::integral_constant<int, 4>()));
    default:
      return launch(kernel_of(std::integral_constant<int, 8>()));
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_COMMON_CUH_
