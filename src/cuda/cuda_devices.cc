#include "cuda/cuda_devices.h"

#include <cuda_runtime_api.h>

namespace tidal {

Result<std::vector<CudaDevice>> ListCudaDevices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return Unsupported("no CUDA device can be used: {}", cudaGetErrorString(error));
  }
  std::vector<CudaDevice> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i); error != cudaSuccess) {
      return Unsupported("CUDA device {} cannot be asked for its properties: {}", i,
                         cudaGetErrorString(error));
    }
    devices.push_back({.name = properties.name,
                       .compute_capability = 10 * properties.major + properties.minor,
                       .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)});
  }
  return devices;
}

}  // namespace tidal
