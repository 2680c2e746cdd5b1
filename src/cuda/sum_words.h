// The sum of device memory: what reading all of it takes.
#ifndef TIDAL_CUDA_SUM_WORDS_H_
#define TIDAL_CUDA_SUM_WORDS_H_

#include <cstdint>
#include <cuda_runtime_api.h>

namespace tidal {

// Enqueues the addition of `bytes` bytes (a multiple of 16), as 32-bit words, to *sum. Errors are
// those of the launch.
cudaError_t SumWords(const uint8_t* data, int64_t bytes, uint32_t* sum, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_SUM_WORDS_H_
