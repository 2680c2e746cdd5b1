// What      fills memory with numbers.
// Launch    8 blocks of 256 threads per multiprocessor.
// Bytes     all of it, written once.
#include "fill_random.h"

namespace tidal {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 132 * 8;

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

cudaError_t FillRandom(uint8_t* data, int64_t bytes, uint32_t seed, cudaStream_t stream) {
  FillKernel<<<kBlocks, kThreads, 0, stream>>>(reinterpret_cast<uint32_t*>(data), bytes / 4, seed);
  return cudaGetLastError();
}

}  // namespace tidal
