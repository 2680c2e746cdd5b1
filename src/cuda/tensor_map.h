// Tensor maps: how the copy engine of sm_90 finds boxes of a matrix in device memory.
#ifndef TIDAL_CUDA_TENSOR_MAP_H_
#define TIDAL_CUDA_TENSOR_MAP_H_

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "base/status.h"
#include "cuda/product_call.h"

namespace tidal {

// Makes tensor maps through the driver, which is found at run time. Copyable; made once per device.
class TensorMaps {
 public:
  // Of the current device; one older than sm_90 gives one that Exist() denies.
  // kUnsupported where the driver has no such function.
  static Result<TensorMaps> Create();

  bool Exist() const { return encode_ != nullptr; }
  // Boxes (weight_layout.h) of a matrix of F16 or BF16. REQUIRES: Exist().
  cudaError_t Make(const DeviceMatrix& matrix, CUtensorMap* map) const;

 private:
  decltype(&cuTensorMapEncodeTiled) encode_ = nullptr;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_TENSOR_MAP_H_
