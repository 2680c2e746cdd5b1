#include <algorithm>
#include <string>

#include "gguf/printable.h"
#include "model/architecture.h"
#include "model/hf_reader.h"

namespace tidal {
namespace {

Result<DType> DTypeOf(const std::string& where, std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (name == NameOf(dtype)) return dtype;
  }
  return Unsupported("{} has the type {}; supported are F32, F16 and BF16", where, name);
}

// Reads tensors by name and remembers which, so that a tensor of another variant of the family does
// not go unnoticed.
class WeightReader {
 public:
  WeightReader(const HfFolder& folder, std::vector<std::vector<float>>* widened)
      : folder_(folder), widened_(widened), read_(folder.tensors().size()) {}

  Result<TensorView> Matrix(const std::string& name, int64_t rows, int64_t cols) {
    return Read(name, {rows, cols}, rows, cols);
  }

  // F32, whatever the file has.
  Result<TensorView> Vector(const std::string& name, int64_t cols) {
    TIDAL_ASSIGN_OR_RETURN(TensorView view, Read(name, {cols}, 1, cols));
    // Floats of the file may lie at any byte, so that these are copied as well.
    std::vector<float>& values = widened_->emplace_back(static_cast<size_t>(cols));
    DequantizeRow(view.dtype, view.data, values.data(), cols);
    view.dtype = DType::kF32;
    view.data = reinterpret_cast<const std::byte*>(values.data());
    return view;
  }

  bool Has(std::string_view name) const { return folder_.Find(name) != nullptr; }
  void Ignore(std::string_view name) {
    if (Has(name)) read_[PlaceOf(name)] = true;
  }

  Status RefuseUnread() const {
    for (size_t i = 0; i < read_.size(); ++i) {
      const std::string& name = folder_.tensors()[i]->name;
      // Some older files keep RoPE's frequencies, which the configuration gives.
      if (read_[i] || name.ends_with(".rotary_emb.inv_freq")) continue;
      return Unsupported(
          "{}: tensor {} belongs to a variant of the architecture that is not supported",
          PrintablePath(folder_.path()), Printable(name));
    }
    return OkStatus();
  }

 private:
  size_t PlaceOf(std::string_view name) const {
    const auto found = std::ranges::lower_bound(
        folder_.tensors(), name, {},
        [](const SafetensorsTensor* t) { return std::string_view(t->name); });
    return static_cast<size_t>(found - folder_.tensors().begin());
  }

  Result<TensorView> Read(const std::string& name, const std::vector<int64_t>& shape, int64_t rows,
                          int64_t cols) {
    const std::string where =
        fmt::format("{}: tensor {}", PrintablePath(folder_.path()), Printable(name));
    const SafetensorsTensor* tensor = folder_.Find(name);
    if (tensor == nullptr)
      return Corrupt("{} is missing, expected shape {}", where, ShapeText(shape));
    if (tensor->shape != shape) {
      return Corrupt("{} has the shape {}, expected {}", where, ShapeText(tensor->shape),
                     ShapeText(shape));
    }
    TIDAL_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(where, tensor->dtype));
    read_[PlaceOf(name)] = true;
    return TensorView{name, dtype, rows, cols, tensor->data.data()};
  }

  const HfFolder& folder_;
  std::vector<std::vector<float>>* widened_;
  std::vector<bool> read_;
};

// A view, or an absent one where the family may do without.
Result<TensorView> ReadBias(WeightReader* reader, const std::string& name, int64_t cols,
                            QkvBias need) {
  if (need == QkvBias::kOptional && !reader->Has(name)) return TensorView{};
  return reader->Vector(name, cols);
}

Status ReadAttention(WeightReader* reader, const ModelConfig& config,
                     const Architecture& architecture, const std::string& prefix, LayerWeights* w) {
  const int64_t model_dim = config.model_dim;
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  const QkvBias bias = architecture.qkv_bias;
  const std::string attn = prefix + "self_attn.";
  TIDAL_ASSIGN_OR_RETURN(w->attn_q, reader->Matrix(attn + "q_proj.weight", q_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w->attn_k, reader->Matrix(attn + "k_proj.weight", kv_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w->attn_v, reader->Matrix(attn + "v_proj.weight", kv_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w->attn_q_bias, ReadBias(reader, attn + "q_proj.bias", q_dim, bias));
  TIDAL_ASSIGN_OR_RETURN(w->attn_k_bias, ReadBias(reader, attn + "k_proj.bias", kv_dim, bias));
  TIDAL_ASSIGN_OR_RETURN(w->attn_v_bias, ReadBias(reader, attn + "v_proj.bias", kv_dim, bias));
  TIDAL_ASSIGN_OR_RETURN(w->attn_output, reader->Matrix(attn + "o_proj.weight", model_dim, q_dim));
  if (architecture.qk_norm == QkNorm::kNone) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(w->attn_q_norm, reader->Vector(attn + "q_norm.weight", config.head_dim));
  TIDAL_ASSIGN_OR_RETURN(w->attn_k_norm, reader->Vector(attn + "k_norm.weight", config.head_dim));
  return OkStatus();
}

Result<LayerWeights> ReadLayer(WeightReader* reader, const ModelConfig& config,
                               const Architecture& architecture, int layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const int64_t model_dim = config.model_dim;
  const int64_t ffn_dim = config.ffn_dim;
  LayerWeights layer_weights;
  LayerWeights& w = layer_weights;
  TIDAL_ASSIGN_OR_RETURN(w.attn_norm, reader->Vector(prefix + "input_layernorm.weight", model_dim));
  TIDAL_RETURN_IF_ERROR(ReadAttention(reader, config, architecture, prefix, &w));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_norm,
                         reader->Vector(prefix + "post_attention_layernorm.weight", model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_gate,
                         reader->Matrix(prefix + "mlp.gate_proj.weight", ffn_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_up,
                         reader->Matrix(prefix + "mlp.up_proj.weight", ffn_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_down,
                         reader->Matrix(prefix + "mlp.down_proj.weight", model_dim, ffn_dim));
  return layer_weights;
}

}  // namespace

Result<ModelWeights> ReadHfWeights(const HfFolder& folder, const ModelConfig& config,
                                   std::vector<std::vector<float>>* widened) {
  constexpr const char* kOutput = "lm_head.weight";
  TIDAL_ASSIGN_OR_RETURN(
      const JsonFields fields,
      JsonFields::Of(PrintablePath(folder.FilePath("config.json")), folder.config()));
  TIDAL_ASSIGN_OR_RETURN(const Architecture* const architecture,
                         FindArchitecture(config.architecture));
  WeightReader reader(folder, widened);
  ModelWeights weights;
  TIDAL_ASSIGN_OR_RETURN(weights.tied_output, fields.BoolOr("tie_word_embeddings", false));
  TIDAL_ASSIGN_OR_RETURN(weights.token_embd, reader.Matrix("model.embed_tokens.weight",
                                                           config.vocab_size, config.model_dim));
  TIDAL_ASSIGN_OR_RETURN(weights.output_norm, reader.Vector("model.norm.weight", config.model_dim));
  if (weights.tied_output) {
    weights.output = weights.token_embd;
    reader.Ignore(kOutput);
  } else {
    TIDAL_ASSIGN_OR_RETURN(weights.output,
                           reader.Matrix(kOutput, config.vocab_size, config.model_dim));
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    TIDAL_ASSIGN_OR_RETURN(LayerWeights layer_weights,
                           ReadLayer(&reader, config, *architecture, layer));
    weights.layers.push_back(std::move(layer_weights));
  }
  TIDAL_RETURN_IF_ERROR(reader.RefuseUnread());
  return weights;
}

}  // namespace tidal
