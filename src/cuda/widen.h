// Weights in device memory as plain numbers: whole matrices for products of many rows, single rows
// for embeddings.
#ifndef TIDAL_CUDA_WIDEN_H_
#define TIDAL_CUDA_WIDEN_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/weight_layout.h"

namespace tidal {

// Rows [row_begin, row_begin + num_rows) of a matrix of type `type` to
// out[num_rows][out_cols], of type `to` (kF32: exact; kF16: rounded to nearest, at most 65504 in
// magnitude; kBF16); columns from `cols` to out_cols are zeros. REQUIRES: row_begin a multiple of
// 16.
cudaError_t WidenRows(DType type, const uint8_t* data, int64_t cols, int64_t row_begin,
                      int64_t num_rows, DType to, void* out, int64_t out_cols, cudaStream_t stream);

// out[i][0 .. cols) = row ids[i] of a matrix of `rows` rows, as DequantizeRow gives it; an id
// outside the matrix gives zeros.
cudaError_t GatherMatrixRows(DType type, const uint8_t* data, int64_t rows, int64_t cols,
                             const int32_t* ids, int64_t num_ids, float* out, int64_t out_stride,
                             cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_WIDEN_H_
