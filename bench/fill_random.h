// Device memory with numbers in it.
#ifndef TIDAL_BENCH_FILL_RANDOM_H_
#define TIDAL_BENCH_FILL_RANDOM_H_

#include <cstdint>
#include <cuda_runtime_api.h>

namespace tidal {

// Fills memory with random numbers whose halves are small as bf16 and as f16.
cudaError_t FillRandom(uint8_t* data, int64_t bytes, uint32_t seed, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_BENCH_FILL_RANDOM_H_
