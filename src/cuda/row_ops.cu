// What      the row kernels of row_ops.h.
// Shapes    activations [num_rows][stride] f32, device memory.
// Launch    ConvertRows: a block of 256 threads per row; ArgMaxRows: 32 blocks per row, then one
//           warp; the others one thread per element.
// Bytes     each element once in, once out (ConvertRows with a norm: twice in).
// Numerics  float32; fixed order. ArgMaxRows is exact.
// Oracle    products_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/launch.cuh"
#include "cuda/row_ops.h"

namespace tidal {
namespace {

constexpr int kThreads = 256;
constexpr float kMaxF16 = 65504;

__device__ void Put(float* out, float value) { *out = value; }
__device__ void Put(__nv_bfloat16* out, float value) { *out = __float2bfloat16(value); }
__device__ void Put(__half* out, float value) {
  const float scaled = value / kF16ActivationScale;
  // Written so that NaN stays NaN.
  *out = __float2half(scaled > kMaxF16 ? kMaxF16 : (scaled < -kMaxF16 ? -kMaxF16 : scaled));
}

// The sum over the block, to every thread.
__device__ float BlockSum(float value) {
  __shared__ float warps[kThreads / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(~0u, value, distance);
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += warps[i];
  return sum;
}

struct ConvertParams {
  const float* x;
  int64_t x_stride;
  const int32_t* row_ids;
  const float* norm;
  float norm_eps;
  int64_t cols;
  int64_t out_cols;
};

template <typename To>
__global__ void ConvertKernel(ConvertParams p, To* out) {
  WaitForInputs();
  AllowNext();
  const int64_t row = p.row_ids == nullptr ? blockIdx.x : p.row_ids[blockIdx.x];
  const float* x = p.x + row * p.x_stride;
  float factor = 1;
  if (p.norm != nullptr) {
    float squares = 0;
    for (int64_t col = threadIdx.x; col < p.cols; col += kThreads) {
      const float v = __ldcg(x + col);
      squares += v * v;
    }
    factor = 1 / sqrtf(BlockSum(squares) / static_cast<float>(p.cols) + p.norm_eps);
  }
  To* to = out + blockIdx.x * p.out_cols;
  for (int64_t col = threadIdx.x; col < p.out_cols; col += kThreads) {
    float value = col < p.cols ? __ldcg(x + col) * factor : 0;
    if (p.norm != nullptr && col < p.cols) value *= p.norm[col];
    Put(&to[col], value);
  }
}

template <typename To>
cudaError_t LaunchConvert(const ProductCall& call, int64_t cols, void* out, int64_t out_cols,
                          cudaStream_t stream) {
  const ConvertParams params = {.x = call.x,
                                .x_stride = call.x_stride,
                                .row_ids = call.row_ids,
                                .norm = call.norm,
                                .norm_eps = call.norm_eps,
                                .cols = cols,
                                .out_cols = out_cols};
  return Launch(ConvertKernel<To>, static_cast<unsigned>(call.num_rows), kThreads, 0, stream,
                params, static_cast<To*>(out));
}

// Element-wise kernels: block (x, y) has row x and columns kThreads * y on.
dim3 GridOf(int64_t num_rows, int64_t cols) {
  return dim3(static_cast<unsigned>(num_rows),
              static_cast<unsigned>((cols + kThreads - 1) / kThreads));
}
__device__ int64_t ColOfThread() {
  return static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
}

template <bool kAdds>
__global__ void BiasKernel(const float* bias, int64_t cols, float* out, int64_t out_stride) {
  WaitForInputs();
  AllowNext();
  const int64_t col = ColOfThread();
  if (col >= cols) return;
  float* to = out + blockIdx.x * out_stride + col;
  *to = kAdds ? __ldcg(to) + bias[col] : bias[col];
}

__global__ void SiluMulKernel(float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                              int64_t cols) {
  WaitForInputs();
  AllowNext();
  const int64_t col = ColOfThread();
  if (col >= cols) return;
  float* to = gate + blockIdx.x * gate_stride + col;
  const float g = __ldcg(to);
  *to = g / (1 + expf(-g)) * __ldcg(up + blockIdx.x * up_stride + col);
}

constexpr int kArgMaxBlocks = 32;  // of a row

// A value in an order that has NaN below all else, and its id so that the least is the largest.
__device__ uint64_t Candidate(float value, int64_t id) {
  const uint32_t bits = __float_as_uint(value == 0 ? 0.0f : value);  // -0 equals 0
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(value != value ? 0 : ordered) << 32 |
         (0xffffffffu - static_cast<uint32_t>(id));
}
__device__ uint64_t WarpBest(uint64_t best) {
  for (int distance = 16; distance > 0; distance /= 2) {
    best = max(best, __shfl_xor_sync(~0u, best, distance));
  }
  return best;
}

__global__ void ArgMaxPartKernel(const float* logits, int64_t cols, int64_t stride,
                                 uint64_t* parts) {
  __shared__ uint64_t warps[kThreads / 32];
  WaitForInputs();
  AllowNext();
  const float* row = logits + blockIdx.y * stride;
  uint64_t best = 0;
#pragma unroll 4
  for (int64_t col = blockIdx.x * kThreads + threadIdx.x; col < cols;
       col += kArgMaxBlocks * kThreads) {
    best = max(best, Candidate(__ldcg(row + col), col));
  }
  best = WarpBest(best);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const uint64_t other : warps) best = max(best, other);
  parts[blockIdx.y * kArgMaxBlocks + blockIdx.x] = best;
}

__global__ void ArgMaxKernel(const uint64_t* parts, int32_t* out) {
  WaitForInputs();
  AllowNext();
  static_assert(kArgMaxBlocks == 32);
  const uint64_t best = WarpBest(__ldcg(parts + blockIdx.x * kArgMaxBlocks + threadIdx.x));
  if (threadIdx.x == 0) {
    out[blockIdx.x] = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best));
  }
}

}  // namespace

cudaError_t ConvertRows(const ProductCall& call, int64_t cols, DType to, void* out,
                        int64_t out_cols, cudaStream_t stream) {
  switch (to) {
    case DType::kF32:
      return LaunchConvert<float>(call, cols, out, out_cols, stream);
    case DType::kF16:
      return LaunchConvert<__half>(call, cols, out, out_cols, stream);
    default:
      return LaunchConvert<__nv_bfloat16>(call, cols, out, out_cols, stream);
  }
}

cudaError_t StoreBias(const float* bias, int64_t num_rows, int64_t cols, float* out,
                      int64_t out_stride, cudaStream_t stream) {
  return Launch(BiasKernel<false>, GridOf(num_rows, cols), kThreads, 0, stream, bias, cols, out,
                out_stride);
}

cudaError_t AddBias(const float* bias, int64_t num_rows, int64_t cols, float* out,
                    int64_t out_stride, cudaStream_t stream) {
  return Launch(BiasKernel<true>, GridOf(num_rows, cols), kThreads, 0, stream, bias, cols, out,
                out_stride);
}

cudaError_t SiluMul(float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                    int64_t num_rows, int64_t cols, cudaStream_t stream) {
  return Launch(SiluMulKernel, GridOf(num_rows, cols), kThreads, 0, stream, gate, gate_stride, up,
                up_stride, cols);
}

int64_t ArgMaxScratchBytes(int64_t num_rows) {
  return num_rows * kArgMaxBlocks * static_cast<int64_t>(sizeof(uint64_t));
}

cudaError_t ArgMaxRows(const float* logits, int64_t num_rows, int64_t cols, int64_t stride,
                       void* scratch, int32_t* out, cudaStream_t stream) {
  auto* parts = static_cast<uint64_t*>(scratch);
  const cudaError_t error =
      Launch(ArgMaxPartKernel, dim3(kArgMaxBlocks, static_cast<unsigned>(num_rows)), kThreads, 0,
             stream, logits, cols, stride, parts);
  if (error != cudaSuccess) return error;
  return Launch(ArgMaxKernel, static_cast<unsigned>(num_rows), 32, 0, stream,
                static_cast<const uint64_t*>(parts), out);
}

}  // namespace tidal
