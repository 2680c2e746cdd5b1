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
#include <span>

#include "base/status.h"
#include "executor/options.h"
#include "quant/dtype.h"

namespace tidal {

// A matrix [rows][cols] in device memory, packed as PackedBytesOnDevice says. Not owned.
struct DeviceMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint8_t* data = nullptr;
};

// Bytes that a matrix takes on the device, 256-byte aligned.
int64_t DeviceMatrixBytes(DType dtype, int64_t rows, int64_t cols);

struct ProductJob {
  const DeviceMatrix* weight = nullptr;
  float* out = nullptr;  // [rows of x][out_stride]
  int64_t out_stride = 0;
  const float* bias = nullptr;  // [weight rows], device; null: none
};

enum class ProductOutput : uint8_t {
  kStore,
  kAdd,      // added to what `out` holds
  kSiluMul,  // exactly two jobs of equal shape: job 0's out = silu(job 0) * job 1; job 1's out is
             // not written (it may be used as scratch where it is not null)
};

struct ProductCall {
  const float* x = nullptr;  // [num_rows][x_stride]; row i of it, or row row_ids[i]
  int64_t x_stride = 0;
  int64_t num_rows = 0;
  const int32_t* row_ids = nullptr;  // device, [num_rows]; null: rows 0 .. num_rows - 1
  const float* norm = nullptr;  // RMS norm weights [cols] applied to each row first; null: none
  float norm_eps = 0;
  std::span<const ProductJob> jobs;  // 1 to 3, of the same cols
  ProductOutput output = ProductOutput::kStore;
};

struct ProductOptions {
  cudaStream_t stream = nullptr;
  Precision precision = Precision::kFast;  // kF32: float32 products throughout
  int64_t max_rows = 1;
  int64_t max_cols = 1;          // of any matrix
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
