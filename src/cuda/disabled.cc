#include "cuda/cuda_devices.h"
#include "cuda/cuda_executor.h"

namespace tidal {
namespace {

Status NoCuda() {
  return Unsupported("this build has no CUDA; configure it with the preset cuda (-DTIDAL_CUDA=ON)");
}

}  // namespace

Result<std::vector<CudaDevice>> ListCudaDevices() { return NoCuda(); }
Result<double> MeasureCudaReadGbps(int32_t) { return NoCuda(); }

int64_t CudaKvPageBytes(const ModelConfig&, CacheType) { return 0; }
int64_t CudaIndexPageBytes(const ModelConfig&, int32_t, int32_t) { return 0; }

Result<int64_t> CudaMemoryForCache(const Model&, const CudaExecutorOptions&) { return NoCuda(); }

Result<std::unique_ptr<Executor>> CreateCudaExecutor(const Model&, const CudaExecutorOptions&,
                                                     const std::function<void(double)>&) {
  return NoCuda();
}

}  // namespace tidal
