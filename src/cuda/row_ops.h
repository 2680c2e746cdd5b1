// Small kernels over rows of activations, around the products of many rows.
#ifndef TIDAL_CUDA_ROW_OPS_H_
#define TIDAL_CUDA_ROW_OPS_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/product_call.h"

namespace tidal {

// Activations go to f16 divided by this (a power of two, so nothing but the range changes; products
// multiply it back): 2 million instead of 65504 at most, and full precision from 0.002 on.
inline constexpr float kF16ActivationScale = 32;

// The call's rows of x, normed where it says so, to out[num_rows][out_cols] of type `to` (kF32,
// kF16: divided by kF16ActivationScale and at most 65504 in magnitude, kBF16); zeros from cols on.
cudaError_t ConvertRows(const ProductCall& call, int64_t cols, DType to, void* out,
                        int64_t out_cols, cudaStream_t stream);

// out[row][0 .. cols) = bias, or += bias.
cudaError_t StoreBias(const float* bias, int64_t num_rows, int64_t cols, float* out,
                      int64_t out_stride, cudaStream_t stream);
cudaError_t AddBias(const float* bias, int64_t num_rows, int64_t cols, float* out,
                    int64_t out_stride, cudaStream_t stream);

// gate[row][0 .. cols) = silu(gate) * up.
cudaError_t SiluMul(float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                    int64_t num_rows, int64_t cols, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_ROW_OPS_H_
