// What      reads memory once and adds it up; fills memory with numbers.
// Launch    8 blocks of 256 threads per multiprocessor, 8 loads of 16 bytes in flight per thread.
// Bytes     all of it, once.
#include "cuda_read_limit.h"

namespace tidal {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 132 * 8;
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

__global__ void FillKernel(uint32_t* data, int64_t count, uint32_t seed) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    data[i] = (h & 0x83ff83ffu) | 0x20002000u;  // 2^-7 as f16, 2^-63 as bf16, times up to 2
  }
}

}  // namespace

cudaError_t SumWords(const uint8_t* data, int64_t bytes, uint32_t* sum, cudaStream_t stream) {
  SumKernel<<<kBlocks, kThreads, 0, stream>>>(reinterpret_cast<const uint4*>(data), bytes / 16,
                                              sum);
  return cudaGetLastError();
}

cudaError_t FillRandom(uint8_t* data, int64_t bytes, uint32_t seed, cudaStream_t stream) {
  FillKernel<<<kBlocks, kThreads, 0, stream>>>(reinterpret_cast<uint32_t*>(data), bytes / 4, seed);
  return cudaGetLastError();
}

}  // namespace tidal
