#include "model/model.h"

#include <cmath>
#include <utility>

#include "model/model_reader.h"

namespace tidal {
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
  ForEachWeight([&](const TensorView& view) { parameters += view.rows * view.cols; });
  return parameters;
}

int64_t Model::weight_bytes() const {
  int64_t bytes = 0;
  ForEachWeight([&](const TensorView& view) { bytes += view.bytes(); });
  return bytes;
}

}  // namespace tidal
