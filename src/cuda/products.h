// Products of a step's rows with weight matrices on a CUDA device.
//
// Few rows (decode) run as matrix-vector kernels that read each weight once, packed as it is in
// memory; many rows (prefill) as matrix products on tensor cores, packed types widened by matrix.
// Activations are float32 in device memory; see products.cu for numerics and what they cost.
#ifndef TIDAL_CUDA_PRODUCTS_H_
#define TIDAL_CUDA_PRODUCTS_H_

#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>

#include "base/status.h"
#include "cuda/product_call.h"
#include "executor/option_enums.h"

namespace tidal {

// Bytes that a matrix takes on the device, 256-byte aligned. REQUIRES, as everything here: a dtype
// that weights are kept as (KeptAs).
int64_t DeviceMatrixBytes(DType dtype, int64_t rows, int64_t cols);

struct ProductOptions {
  cudaStream_t stream = nullptr;
  Precision precision = Precision::kFast;  // kF32: float32 products throughout
  int64_t max_rows = 1;                    // of any call
  int64_t max_cols = 1;                    // of any matrix
  int64_t max_matrix_elems = 1;  // rows * cols of the largest matrix (for widening); the LM head
                                 // may be widened in slices and need not count
};

class CudaProducts {
 public:
  // kOutOfMemory for scratch; kUnsupported where cuBLAS cannot start.
  static Result<std::unique_ptr<CudaProducts>> Create(const ProductOptions& options);
  virtual ~CudaProducts() = default;

  // Copies a matrix as model files hold it (host memory, any alignment; BytesOf(dtype, rows * cols)
  // bytes) to device memory of DeviceMatrixBytes bytes, re-arranged where the kernels want it.
  // Asynchronous through page-locked buffers; FinishUploads waits for all.
  virtual Status Upload(DType dtype, int64_t rows, int64_t cols, const std::byte* source,
                        uint8_t* device) = 0;
  virtual Status FinishUploads() = 0;

  // Enqueues. Errors are kept and returned by status().
  virtual void Multiply(const ProductCall& call) = 0;
  // out[i][0 .. cols) = float32 of row ids[i] of a matrix (the embedding).
  virtual void GatherRows(const DeviceMatrix& matrix, const int32_t* ids, int64_t num_ids,
                          float* out, int64_t out_stride) = 0;
  virtual Status status() const = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_PRODUCTS_H_
