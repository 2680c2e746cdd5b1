#include "cuda/cuda_devices.h"

namespace tidal {

Result<std::vector<CudaDevice>> ListCudaDevices() {
  return Unsupported("this build has no CUDA; configure it with the preset cuda (-DTIDAL_CUDA=ON)");
}

}  // namespace tidal
