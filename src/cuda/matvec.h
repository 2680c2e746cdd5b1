// Matrix-vector products for few rows: the launchers behind CudaProducts::Multiply.
#ifndef TIDAL_CUDA_MATVEC_H_
#define TIDAL_CUDA_MATVEC_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/product_call.h"
#include "cuda/tensor_map.h"

namespace tidal {

// What of a device the launches depend on.
struct MatvecDevice {
  int num_sms = 1;
  int max_shared_bytes = 0;  // that a block may ask for
  TensorMaps maps;
};

// How many of the call's rows of x one launch can do: at most 8, fewer where the shared memory
// does not suffice, 0 where the kernels below cannot do the call at all (weights of several types).
int64_t MatvecRows(const ProductCall& call, const MatvecDevice& device);

// Enqueues all the call's rows. REQUIRES: call.num_rows <= MatvecRows of a call that differs from
// it in num_rows at most. All launches of the current device.
cudaError_t LaunchMatvec(const ProductCall& call, const MatvecDevice& device, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_H_
