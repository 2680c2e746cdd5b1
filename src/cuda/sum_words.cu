// What      reads memory once and adds it up, for the rate at which a device can read.
// Shapes    data: [bytes / 16] of 16 bytes; sum: one word, added to.
// Launch    8 blocks of 256 threads per multiprocessor, 8 loads of 16 bytes in flight per thread.
// Bytes     all of it, once.
// Numerics  32-bit words modulo 2^32: any order gives the same.
#include "cuda/sum_words.h"

namespace tidal {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 8;
constexpr int kLoads = 8;

__global__ void SumKernel(const uint4* data, int64_t count, uint32_t* sum) {
  uint32_t total = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  int64_t i = first;
  for (; i + (kLoads - 1) * stride < count; i += kLoads * stride) {
    uint4 v[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; ++k) v[k] = __ldcs(data + i + k * stride);
#pragma unroll
    for (int k = 0; k < kLoads; ++k) total += v[k].x + v[k].y + v[k].z + v[k].w;
  }
  for (; i < count; i += stride) total += data[i].x + data[i].y + data[i].z + data[i].w;
  total = __reduce_add_sync(~0u, total);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, total);
}

}  // namespace

cudaError_t SumWords(const uint8_t* data, int64_t bytes, uint32_t* sum, cudaStream_t stream) {
  int device = 0;
  int num_sms = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  if (const cudaError_t error =
          cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, device);
      error != cudaSuccess) {
    return error;
  }
  SumKernel<<<num_sms * kBlocksPerMultiprocessor, kThreads, 0, stream>>>(
      reinterpret_cast<const uint4*>(data), bytes / 16, sum);
  return cudaGetLastError();
}

}  // namespace tidal
