// What      the row kernels of row_ops.h.
// Shapes    activations [num_rows][stride] f32, device memory.
// Launch    ConvertRows: a block of 256 threads per row; the others one thread per element.
// Bytes     each element once in, once out (ConvertRows with a norm: twice in).
// Numerics  float32; fixed order.
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

}  // namespace tidal
