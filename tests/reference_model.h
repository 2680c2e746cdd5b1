// A Llama-family model row by row in plain double precision on dequantised weights: no SIMD, no
// threads, no code shared with the engine but the scalar dequantiser. plan_reference.h decodes with
// it.
#ifndef TIDAL_TESTS_REFERENCE_MODEL_H_
#define TIDAL_TESTS_REFERENCE_MODEL_H_

#include <cstdint>
#include <vector>

#include "model/model.h"

namespace tidal {

// A matrix with its bias, stored by columns: the loop over outputs is the inner one.
struct ReferenceLinear {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> columns;  // [cols][rows]
  std::vector<float> bias;     // [rows] or empty
  std::vector<double> Times(const std::vector<double>& x) const;
};

struct ReferenceLayerWeights {
  std::vector<float> attn_norm;
  std::vector<float> ffn_norm;
  std::vector<float> q_norm, k_norm;  // [head_dim] or empty
  ReferenceLinear q, k, v, output, gate, up, down;
};

class ReferenceModel {
 public:
  // `model` is not needed afterwards.
  explicit ReferenceModel(const Model& model);

  const ModelConfig& config() const { return config_; }

  struct Projected {
    std::vector<double> q;  // [num_heads][head_dim], rotated
    std::vector<double> k;  // [num_kv_heads][head_dim], rotated
    std::vector<double> v;
  };
  std::vector<double> Embedding(int32_t token) const;
  Projected Project(int32_t layer, const std::vector<double>& x, int32_t pos) const;
  // Both add to the residual stream x.
  void AddAttention(int32_t layer, const std::vector<double>& attended,
                    std::vector<double>* x) const;
  void AddFeedForward(int32_t layer, std::vector<double>* x) const;
  std::vector<double> Logits(const std::vector<double>& x) const;

 private:
  void Rotate(int32_t pos, std::vector<double>* heads) const;

  ModelConfig config_;
  std::vector<double> frequencies_;  // [rope_dim / 2]
  std::vector<std::vector<float>> embeddings_;
  std::vector<ReferenceLayerWeights> layers_;
  std::vector<float> output_norm_;
  ReferenceLinear output_;
};

}  // namespace tidal

#endif  // TIDAL_TESTS_REFERENCE_MODEL_H_
