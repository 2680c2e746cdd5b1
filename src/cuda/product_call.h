// What a product is told: plain structs, light enough for device code.
#ifndef TIDAL_CUDA_PRODUCT_CALL_H_
#define TIDAL_CUDA_PRODUCT_CALL_H_

#include <cstdint>
#include <span>

#include "quant/dtype_enum.h"

namespace tidal {

// A matrix [rows][cols] in device memory, as weight_layout.h says. Not owned.
struct DeviceMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint8_t* data = nullptr;
};

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

}  // namespace tidal

#endif  // TIDAL_CUDA_PRODUCT_CALL_H_
