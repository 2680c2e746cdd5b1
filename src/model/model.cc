#include "model/model.h"

#include <cmath>
#include <utility>

#include "model/model_reader.h"

namespace tidal {
namespace {

// Calls visit with every tensor that the model uses, once each.
template <typename Visit>
void ForEachTensor(const ModelWeights& weights, const Visit& visit) {
  visit(weights.token_embd);
  visit(weights.output_norm);
  if (!weights.tied_output) visit(weights.output);
  for (const LayerWeights& w : weights.layers) {
    for (const TensorView* view :
         {&w.attn_norm, &w.attn_q, &w.attn_k, &w.attn_v, &w.attn_q_bias, &w.attn_k_bias,
          &w.attn_v_bias, &w.attn_output, &w.ffn_norm, &w.ffn_gate, &w.ffn_up, &w.ffn_down}) {
      if (view->present()) visit(*view);
    }
  }
}

}  // namespace

float ModelConfig::attn_scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }

Result<Model> Model::Load(const std::string& path) {
  TIDAL_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  Model model;
  model.gguf_ = std::make_unique<GgufFile>(std::move(file));
  TIDAL_ASSIGN_OR_RETURN(model.config_, ReadModelConfig(*model.gguf_));
  TIDAL_ASSIGN_OR_RETURN(model.weights_, ReadModelWeights(*model.gguf_, model.config_));
  return model;
}

int64_t Model::num_parameters() const {
  int64_t parameters = 0;
  ForEachTensor(weights_, [&](const TensorView& view) { parameters += view.rows * view.cols; });
  return parameters;
}

int64_t Model::weight_bytes() const {
  int64_t bytes = 0;
  ForEachTensor(weights_, [&](const TensorView& view) { bytes += view.bytes(); });
  return bytes;
}

}  // namespace tidal
