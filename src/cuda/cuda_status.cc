#include "cuda/cuda_status.h"

namespace tidal {

Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return OkStatus();
  if (error == cudaErrorMemoryAllocation) {
    return OutOfMemory("{}: {}", what, cudaGetErrorString(error));
  }
  return Unsupported("{}: CUDA says {} ({})", what, cudaGetErrorString(error),
                     cudaGetErrorName(error));
}

}  // namespace tidal
