// The activations of a CPU executor's largest step.
#ifndef TIDAL_CPU_CPU_ACTIVATIONS_H_
#define TIDAL_CPU_CPU_ACTIVATIONS_H_

#include <cstdint>

#include "base/status.h"
#include "cpu/aligned_buffer.h"
#include "model/model.h"

namespace tidal {

// One array after the other in a single buffer. Shapes are [rows, ...].
struct CpuActivations {
  AlignedBuffer memory;
  float* x = nullptr;         // [model_dim], the residual stream
  float* normed = nullptr;    // [model_dim]
  float* q = nullptr;         // [num_heads * head_dim]
  float* k = nullptr;         // [num_kv_heads * head_dim]
  float* v = nullptr;         // [num_kv_heads * head_dim]
  float* attended = nullptr;  // [num_heads * head_dim]
  float* gate = nullptr;      // [ffn_dim], then the product of gate and up
  float* up = nullptr;        // [ffn_dim]
  float* cos = nullptr;       // [rope_dim / 2]
  float* sin = nullptr;       // [rope_dim / 2]

  // kOutOfMemory with the bytes.
  static Result<CpuActivations> Create(const ModelConfig& config, int64_t rows);
};

}  // namespace tidal

#endif  // TIDAL_CPU_CPU_ACTIVATIONS_H_
