// The activations of a CUDA executor's largest step.
#ifndef TIDAL_CUDA_CUDA_ACTIVATIONS_H_
#define TIDAL_CUDA_CUDA_ACTIVATIONS_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "base/status.h"
#include "cuda/device_buffer.h"
#include "model/model.h"

namespace tidal {

// One array after the other in a single buffer. Shapes are [rows, ...].
struct CudaActivations {
  DeviceBuffer memory;
  float* x = nullptr;         // [model_dim], the residual stream
  float* q = nullptr;         // [num_heads * head_dim]
  float* k = nullptr;         // [num_kv_heads * head_dim]
  float* v = nullptr;         // [num_kv_heads * head_dim]
  float* attended = nullptr;  // [num_heads * head_dim]
  float* gate = nullptr;      // [ffn_dim], then the product of gate and up
  float* up = nullptr;        // [ffn_dim]
  float2* cos_sin = nullptr;  // [rope_dim / 2]

  // kOutOfMemory with the numbers.
  static Result<CudaActivations> Create(const ModelConfig& config, int64_t rows);
  static int64_t Bytes(const ModelConfig& config, int64_t rows);
};

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_ACTIVATIONS_H_
