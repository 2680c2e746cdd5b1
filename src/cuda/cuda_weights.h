// A model's weights on a CUDA device: matrices packed as CudaProducts wants them, norms and biases
// as float32.
#ifndef TIDAL_CUDA_CUDA_WEIGHTS_H_
#define TIDAL_CUDA_CUDA_WEIGHTS_H_

#include <functional>
#include <vector>

#include "base/status.h"
#include "cuda/device_buffer.h"
#include "cuda/products.h"
#include "model/model.h"

namespace tidal {

struct CudaLayerWeights {
  const float* attn_norm = nullptr;    // [model_dim]
  const float* ffn_norm = nullptr;     // [model_dim]
  const float* attn_q_bias = nullptr;  // null: none
  const float* attn_k_bias = nullptr;
  const float* attn_v_bias = nullptr;
  const float* attn_q_norm = nullptr;  // [head_dim]; null: none
  const float* attn_k_norm = nullptr;
  DeviceMatrix attn_q, attn_k, attn_v, attn_output;
  DeviceMatrix ffn_gate, ffn_up, ffn_down;
};

struct CudaWeights {
  DeviceBuffer matrices;
  DeviceBuffer vectors;
  std::vector<CudaLayerWeights> layers;
  DeviceMatrix token_embd;
  const float* output_norm = nullptr;  // [model_dim]
  DeviceMatrix output;                 // [vocab_size, model_dim]; token_embd where the model ties
  int64_t step_bytes = 0;              // of the matrices that every step reads
};

// Copies all weights; `progress` gets the share of bytes done. kOutOfMemory with both numbers.
Result<CudaWeights> UploadWeights(const Model& model, CudaProducts* products,
                                  const std::function<void(double)>& progress);

// The angles that a position adds, [rope_dim / 2] float64. kOutOfMemory with the numbers.
Result<DeviceBuffer> UploadRopeFrequencies(const ModelConfig& config);

// The elements of the largest matrix, and the most columns of any, the output matrix aside.
struct MatrixSizes {
  int64_t max_elems = 0;
  int64_t max_cols = 0;
};
MatrixSizes SizesOf(const ModelWeights& weights);

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_WEIGHTS_H_
