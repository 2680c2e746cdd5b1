#include "cuda/cuda_devices.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

namespace tidal {
namespace {

// "13.0", of 13000.
std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// What a user can do where CUDA finds nothing.
Status NoDevice(cudaError_t error) {
  int driver = 0;  // 0: there is none
  (void)cudaDriverGetVersion(&driver);
  const std::string found =
      driver == 0 ? "there is none" : fmt::format("there is one for {}", VersionText(driver));
  return Unsupported(
      "no CUDA device can be used: {}; expected an NVIDIA driver for CUDA {} or newer ({}) and a "
      "GPU; --device cpu needs neither",
      cudaGetErrorString(error), VersionText(CUDART_VERSION), found);
}

}  // namespace

Result<std::vector<CudaDevice>> ListCudaDevices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess)
    return NoDevice(error);
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
