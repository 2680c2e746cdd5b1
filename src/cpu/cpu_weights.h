// A model's weights as the CPU executor holds them: matrices packed into one buffer, norms and
// biases as floats.
#ifndef TIDAL_CPU_CPU_WEIGHTS_H_
#define TIDAL_CPU_CPU_WEIGHTS_H_

#include <functional>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/packed_weights.h"
#include "model/model.h"

namespace tidal {

struct CpuLayerWeights {
  std::vector<float> attn_norm;                              // [model_dim]
  std::vector<float> ffn_norm;                               // [model_dim]
  std::vector<float> attn_q_bias, attn_k_bias, attn_v_bias;  // empty: none
  std::vector<float> attn_q_norm, attn_k_norm;               // [head_dim]; empty: none
  PackedMatrix attn_q, attn_k, attn_v, attn_output;
  PackedMatrix ffn_gate, ffn_up, ffn_down;
};

struct CpuWeights {
  AlignedBuffer memory;  // of every packed matrix
  std::vector<CpuLayerWeights> layers;
  std::vector<float> output_norm;  // [model_dim]
  PackedMatrix output;             // [vocab_size, model_dim]
};

// Packs one matrix after the other with every thread of the pool; `progress` gets the share of
// bytes done. The pages of the file that are not needed any more are given back to the system.
// Errors: kOutOfMemory.
Result<CpuWeights> PackWeights(const Model& model, ThreadPool& pool,
                               const std::function<void(double)>& progress);

}  // namespace tidal

#endif  // TIDAL_CPU_CPU_WEIGHTS_H_
