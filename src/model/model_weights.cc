#include <string>

#include "gguf/printable.h"
#include "model/model_reader.h"

namespace tidal {
namespace {

constexpr const char* kDamaged = "the file is damaged or made for another program";

std::string ShapeText(const GgufTensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.num_dims; ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", tensor.dims[i]);
  return text + "]";
}

Result<TensorView> ReadTensor(const GgufFile& file, const std::string& name, int64_t rows,
                              int64_t cols, const std::string& expected_shape) {
  const std::string path = PrintablePath(file.path());
  const GgufTensor* tensor = file.FindTensor(name);
  if (tensor == nullptr) {
    return Corrupt("{}: tensor {} is missing, expected shape {}; {}", path, name, expected_shape,
                   kDamaged);
  }
  const Result<DType> dtype = DTypeFromGgml(tensor->ggml_type);
  if (!dtype.ok()) return dtype.status().Annotate(fmt::format("{}: tensor {}", path, name));
  if (tensor->dims[0] != cols || tensor->dims[1] != rows || tensor->dims[2] != 1 ||
      tensor->dims[3] != 1) {
    return Corrupt("{}: tensor {} has the shape {}, expected {}; {}", path, name,
                   ShapeText(*tensor), expected_shape, kDamaged);
  }
  const DTypeInfo& info = InfoOf(*dtype);
  if (cols % info.quant_block_size != 0) {
    return Corrupt(
        "{}: tensor {} of type {} has rows of {} elements, expected a multiple of {}; {}", path,
        name, info.name, cols, info.quant_block_size, kDamaged);
  }
  // No overflow: the shape equals one made of bounded numbers, at most 2^22 x 2^20 elements.
  const int64_t bytes = BytesOf(*dtype, rows * cols);
  if (static_cast<uint64_t>(bytes) > tensor->available_bytes) {
    return Corrupt(
        "{}: tensor {} needs {} bytes, but its file ends after {}; the download is incomplete",
        path, name, bytes, tensor->available_bytes);
  }
  return TensorView{name, *dtype, rows, cols, tensor->data};
}

// Tensors of other models of the same family, which change the result and which nothing here
// applies.
constexpr const char* kRefusedGlobal[] = {"output.bias",
                                          "output_norm.bias",
                                          "rope_factors_long.weight",
                                          "rope_factors_short.weight",
                                          "position_embd.weight",
                                          "token_embd_norm.weight"};
constexpr const char* kRefusedInLayer[] = {"attn_output.bias",    "attn_norm.bias",
                                           "ffn_norm.bias",       "ffn_gate.bias",
                                           "ffn_up.bias",         "ffn_down.bias",
                                           "attn_qkv.weight",     "attn_sinks.weight",
                                           "ffn_gate_inp.weight", "post_attention_norm.weight",
                                           "post_ffw_norm.weight"};

Status RefuseTensor(const GgufFile& file, const std::string& name) {
  if (file.FindTensor(name) == nullptr) return OkStatus();
  return Unsupported("{}: tensor {} belongs to a variant of the architecture that is not supported",
                     PrintablePath(file.path()), name);
}

// A bias, or an absent view where the family may do without.
Result<TensorView> ReadBias(const GgufFile& file, const std::string& name, int64_t cols,
                            QkvBias need) {
  if (need == QkvBias::kOptional && file.FindTensor(name) == nullptr) return TensorView{};
  return ReadVector(file, name, cols);
}

// The two norms of query and key heads, or a refusal where the family has none.
Status ReadQkNorms(const GgufFile& file, const std::string& q_name, const std::string& k_name,
                   QkNorm need, int64_t head_dim, LayerWeights* w) {
  if (need == QkNorm::kNone) {
    TIDAL_RETURN_IF_ERROR(RefuseTensor(file, q_name));
    return RefuseTensor(file, k_name);
  }
  TIDAL_ASSIGN_OR_RETURN(w->attn_q_norm, ReadVector(file, q_name, head_dim));
  TIDAL_ASSIGN_OR_RETURN(w->attn_k_norm, ReadVector(file, k_name, head_dim));
  return OkStatus();
}

Result<LayerWeights> ReadLayer(const GgufFile& file, const ModelConfig& config,
                               const Architecture& architecture, int layer) {
  const QkvBias bias = architecture.qkv_bias;
  const auto name = [layer](std::string_view role) {
    return fmt::format("blk.{}.{}", layer, role);
  };
  for (const char* role : kRefusedInLayer) TIDAL_RETURN_IF_ERROR(RefuseTensor(file, name(role)));
  const int64_t model_dim = config.model_dim;
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  LayerWeights layer_weights;
  LayerWeights& w = layer_weights;
  TIDAL_ASSIGN_OR_RETURN(w.attn_norm, ReadVector(file, name("attn_norm.weight"), model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.attn_q, ReadMatrix(file, name("attn_q.weight"), q_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.attn_k, ReadMatrix(file, name("attn_k.weight"), kv_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.attn_v, ReadMatrix(file, name("attn_v.weight"), kv_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.attn_q_bias, ReadBias(file, name("attn_q.bias"), q_dim, bias));
  TIDAL_ASSIGN_OR_RETURN(w.attn_k_bias, ReadBias(file, name("attn_k.bias"), kv_dim, bias));
  TIDAL_ASSIGN_OR_RETURN(w.attn_v_bias, ReadBias(file, name("attn_v.bias"), kv_dim, bias));
  TIDAL_RETURN_IF_ERROR(ReadQkNorms(file, name("attn_q_norm.weight"), name("attn_k_norm.weight"),
                                    architecture.qk_norm, config.head_dim, &w));
  TIDAL_ASSIGN_OR_RETURN(w.attn_output,
                         ReadMatrix(file, name("attn_output.weight"), model_dim, q_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_norm, ReadVector(file, name("ffn_norm.weight"), model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_gate,
                         ReadMatrix(file, name("ffn_gate.weight"), config.ffn_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_up,
                         ReadMatrix(file, name("ffn_up.weight"), config.ffn_dim, model_dim));
  TIDAL_ASSIGN_OR_RETURN(w.ffn_down,
                         ReadMatrix(file, name("ffn_down.weight"), model_dim, config.ffn_dim));
  return layer_weights;
}

}  // namespace

Result<TensorView> ReadMatrix(const GgufFile& file, const std::string& name, int64_t rows,
                              int64_t cols) {
  return ReadTensor(file, name, rows, cols, fmt::format("[{}, {}]", cols, rows));
}

Result<TensorView> ReadVector(const GgufFile& file, const std::string& name, int64_t cols) {
  TIDAL_ASSIGN_OR_RETURN(TensorView view,
                         ReadTensor(file, name, 1, cols, fmt::format("[{}]", cols)));
  if (view.dtype != DType::kF32) {
    return Unsupported("{}: tensor {} has the type {}, expected F32 for a norm or a bias",
                       PrintablePath(file.path()), name, NameOf(view.dtype));
  }
  return view;
}

Result<ModelWeights> ReadModelWeights(const GgufFile& file, const ModelConfig& config) {
  for (const char* name : kRefusedGlobal) TIDAL_RETURN_IF_ERROR(RefuseTensor(file, name));
  TIDAL_ASSIGN_OR_RETURN(const Architecture* const architecture,
                         FindArchitecture(config.architecture));
  ModelWeights weights;
  TIDAL_ASSIGN_OR_RETURN(weights.token_embd, ReadMatrix(file, "token_embd.weight",
                                                        config.vocab_size, config.model_dim));
  TIDAL_ASSIGN_OR_RETURN(weights.output_norm,
                         ReadVector(file, "output_norm.weight", config.model_dim));
  weights.tied_output = file.FindTensor("output.weight") == nullptr;
  if (weights.tied_output) {
    weights.output = weights.token_embd;
  } else {
    TIDAL_ASSIGN_OR_RETURN(weights.output,
                           ReadMatrix(file, "output.weight", config.vocab_size, config.model_dim));
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    TIDAL_ASSIGN_OR_RETURN(LayerWeights layer_weights,
                           ReadLayer(file, config, *architecture, layer));
    weights.layers.push_back(std::move(layer_weights));
  }
  return weights;
}

}  // namespace tidal
