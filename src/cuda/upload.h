// Brings weights from model files to the device, as weight_layout.h has them there.
//
// Two page-locked buffers take turns: while one crosses the bus and is re-arranged on the device,
// several threads fill the other from the file's pages.
#ifndef TIDAL_CUDA_UPLOAD_H_
#define TIDAL_CUDA_UPLOAD_H_

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>

#include "base/status.h"
#include "quant/dtype_enum.h"

namespace tidal {

class WeightUpload {
 public:
  // For the current device. kUnsupported where it refuses a stream.
  static Result<std::unique_ptr<WeightUpload>> Create();
  virtual ~WeightUpload() = default;

  // As CudaProducts::Upload: `source` has been read when this returns, `device` is written when
  // Finish returns. kOutOfMemory for the buffers, which are made by the first call.
  virtual Status Upload(DType dtype, int64_t rows, int64_t cols, const std::byte* source,
                        uint8_t* device) = 0;
  // Waits for all uploads and frees the buffers.
  virtual Status Finish() = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_UPLOAD_H_
