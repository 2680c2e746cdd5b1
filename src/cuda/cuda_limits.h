// What a CUDA executor asks of a device and a model, before it is made.
#ifndef TIDAL_CUDA_CUDA_LIMITS_H_
#define TIDAL_CUDA_CUDA_LIMITS_H_

#include <cstdint>

#include "base/status.h"
#include "cuda/cuda_executor.h"
#include "cuda/device_types.h"
#include "model/model.h"

namespace tidal {

// Logits of a row are vocab_size floats: 32 rows of a 150k vocabulary are 19 MB.
inline constexpr int32_t kMaxCudaLogitRows = 32;

// A layer's part of a page; the base is set per layer.
DeviceKv KvShape(const ModelConfig& config, CacheType type);

// kInvalidArgument: no such device; kUnsupported: an older one, a cache type, a head_dim or a
// vocabulary that there are no kernels for.
Status CheckCudaDevice(const Model& model, const CudaExecutorOptions& options);

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_LIMITS_H_
