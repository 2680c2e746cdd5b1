#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "gguf/printable.h"
#include "hf/hf_folder.h"
#include "model/hf_reader.h"
#include "model/model_reader.h"
#include "model/rope_scaling.h"

namespace tidal {
float ModelConfig::attn_scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }

Model::Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Result<Model> Model::Load(const std::string& path) {
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(path, error);
  TIDAL_ASSIGN_OR_RETURN(Model model, is_folder ? LoadHf(path) : LoadGguf(path));
  model.path_ = PrintablePath(path);
  return model;
}

Result<Model> Model::LoadGguf(const std::string& path) {
  TIDAL_ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  Model model;
  model.gguf_ = std::make_unique<GgufFile>(std::move(file));
  TIDAL_ASSIGN_OR_RETURN(model.config_, ReadModelConfig(*model.gguf_));
  TIDAL_ASSIGN_OR_RETURN(model.weights_, ReadModelWeights(*model.gguf_, model.config_));
  return model;
}

Result<Model> Model::LoadHf(const std::string& path) {
  TIDAL_ASSIGN_OR_RETURN(HfFolder folder, HfFolder::Open(path));
  Model model;
  model.hf_ = std::make_unique<HfFolder>(std::move(folder));
  TIDAL_ASSIGN_OR_RETURN(model.config_, ReadHfConfig(*model.hf_));
  TIDAL_ASSIGN_OR_RETURN(model.weights_, ReadHfWeights(*model.hf_, model.config_, &model.widened_));
  return model;
}

Status Model::OverrideRope(RopeScaling scaling) {
  if (scaling.original_seq_len == 0) scaling.original_seq_len = config_.trained_seq_len;
  config_.rope_attn_factor = 1;
  TIDAL_RETURN_IF_ERROR(ApplyRopeScaling(scaling, &config_));
  const double stretched = static_cast<double>(scaling.original_seq_len) * scaling.factor;
  config_.trained_seq_len = static_cast<int32_t>(std::clamp(
      stretched, static_cast<double>(config_.trained_seq_len), static_cast<double>(kMaxSeqLen)));
  return OkStatus();
}

const std::string& Model::path() const { return path_; }

int64_t Model::file_bytes() const {
  return static_cast<int64_t>(gguf_ ? gguf_->file_bytes() : hf_->file_bytes());
}

Result<std::optional<std::string>> Model::ReadChatTemplate() const {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  if (hf_) return hf_->ReadChatTemplate();
  if (!gguf_->Has(kKey)) return std::optional<std::string>();
  TIDAL_ASSIGN_OR_RETURN(const std::string_view text, gguf_->GetString(kKey));
  return std::optional(std::string(text));
}

int64_t Model::num_parameters() const {
  int64_t parameters = 0;
  ForEachWeight([&](const TensorView& view) { parameters += view.rows * view.cols; });
  return parameters;
}

int64_t Model::weight_bytes() const {
  int64_t bytes = 0;
  ForEachWeight([&](const TensorView& view) { bytes += view.kept_bytes(); });
  return bytes;
}

}  // namespace tidal
