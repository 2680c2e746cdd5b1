// CUDA's error codes as Status values.
#ifndef TIDAL_CUDA_CUDA_STATUS_H_
#define TIDAL_CUDA_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace tidal {

// OkStatus for cudaSuccess; kOutOfMemory for a failed allocation, kUnsupported for everything else,
// with what was being done and CUDA's own words.
Status CudaStatus(cudaError_t error, std::string_view what);

#define TIDAL_RETURN_IF_CUDA_ERROR(call) TIDAL_RETURN_IF_ERROR(::tidal::CudaStatus((call), #call))

// The first error of a series of launches; kept until somebody asks for it.
class StickyStatus {
 public:
  void Note(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess && status_.ok()) status_ = CudaStatus(error, what);
  }
  void Note(Status status) {
    if (!status.ok() && status_.ok()) status_ = std::move(status);
  }
  const Status& status() const { return status_; }
  void Clear() { status_ = OkStatus(); }

 private:
  Status status_;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_STATUS_H_
