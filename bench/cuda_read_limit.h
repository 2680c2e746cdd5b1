// The rate at which the current CUDA device reads its memory: the limit of what decoding can reach.
#ifndef TIDAL_BENCH_CUDA_READ_LIMIT_H_
#define TIDAL_BENCH_CUDA_READ_LIMIT_H_

#include <cstdint>
#include <cuda_runtime_api.h>

namespace tidal {

// Enqueues the sum of `bytes` bytes (a multiple of 16) as 32-bit words into *sum.
cudaError_t SumWords(const uint8_t* data, int64_t bytes, uint32_t* sum, cudaStream_t stream);

// Fills memory with random numbers whose halves are small as bf16 and as f16.
cudaError_t FillRandom(uint8_t* data, int64_t bytes, uint32_t seed, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_BENCH_CUDA_READ_LIMIT_H_
