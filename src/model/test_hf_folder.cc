#include "model/test_hf_folder.h"

#include <filesystem>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "gguf/gguf_writer.h"
#include "hf/json_file.h"
#include "hf/safetensors_writer.h"
#include "quant/quantize.h"

namespace tidal {
namespace {

constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;

Status WriteJson(const std::string& path, const JsonValue& json) {
  const std::string text = json.dump(1, ' ', false, JsonValue::error_handler_t::replace) + "\n";
  return WriteWholeFile(path, std::as_bytes(std::span(text)));
}

JsonValue ConfigOf(const Model& model) {
  const ModelConfig& config = model.config();
  const std::string type = config.architecture;
  std::string class_name = type + "ForCausalLM";
  class_name[0] = static_cast<char>(class_name[0] - 'a' + 'A');
  return {{"architectures", {class_name}},
          {"model_type", type},
          {"num_hidden_layers", config.num_layers},
          {"hidden_size", config.model_dim},
          {"intermediate_size", config.ffn_dim},
          {"num_attention_heads", config.num_heads},
          {"num_key_value_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"max_position_embeddings", config.trained_seq_len},
          {"rms_norm_eps", config.rms_norm_eps},
          {"rope_theta", config.rope_theta},
          {"rope_scaling", nullptr},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", model.weights().tied_output}};
}

// The place in halves of the row that stands at `row` of a head in pairs: (2i, 2i + 1) become
// (i, i + n/2).
int64_t RowInHalves(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim;
  return row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
}

class TensorWriter {
 public:
  TensorWriter(DType dtype, std::span<SafetensorsWriter> shards) : dtype_(dtype), shards_(shards) {}

  void Add(const TensorView& view, std::string name, int64_t head_dim_in_pairs = 0) {
    if (!view.present()) return;
    std::vector<std::byte> data(static_cast<size_t>(BytesOf(dtype_, view.rows * view.cols)));
    std::vector<float> row(static_cast<size_t>(view.cols));
    for (int64_t r = 0; r < view.rows; ++r) {
      DequantizeRow(view.dtype, view.data + r * BytesOf(view.dtype, view.cols), row.data(),
                    view.cols);
      const int64_t place = head_dim_in_pairs > 0 ? RowInHalves(r, head_dim_in_pairs) : r;
      QuantizeRow(dtype_, row.data(), data.data() + place * BytesOf(dtype_, view.cols), view.cols);
    }
    std::vector<int64_t> shape = {view.cols};
    // A matrix may have one row; vectors are named as norms and biases.
    if (!name.ends_with("norm.weight") && !name.ends_with(".bias"))
      shape.insert(shape.begin(), view.rows);
    shards_[next_++ % shards_.size()].Add(std::move(name), NameOf(dtype_), std::move(shape),
                                          std::move(data));
  }

 private:
  DType dtype_;
  std::span<SafetensorsWriter> shards_;
  size_t next_ = 0;
};

void AddLayer(const ModelConfig& config, const LayerWeights& w, int layer, TensorWriter* out) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attn = prefix + "self_attn.";
  const int64_t pairs = config.rope_style == RopeStyle::kInterleaved ? config.head_dim : 0;
  out->Add(w.attn_norm, prefix + "input_layernorm.weight");
  out->Add(w.attn_q, attn + "q_proj.weight", pairs);
  out->Add(w.attn_k, attn + "k_proj.weight", pairs);
  out->Add(w.attn_v, attn + "v_proj.weight");
  out->Add(w.attn_q_bias, attn + "q_proj.bias");
  out->Add(w.attn_k_bias, attn + "k_proj.bias");
  out->Add(w.attn_v_bias, attn + "v_proj.bias");
  out->Add(w.attn_q_norm, attn + "q_norm.weight");
  out->Add(w.attn_k_norm, attn + "k_norm.weight");
  out->Add(w.attn_output, attn + "o_proj.weight");
  out->Add(w.ffn_norm, prefix + "post_attention_layernorm.weight");
  out->Add(w.ffn_gate, prefix + "mlp.gate_proj.weight");
  out->Add(w.ffn_up, prefix + "mlp.up_proj.weight");
  out->Add(w.ffn_down, prefix + "mlp.down_proj.weight");
}

Status WriteShards(const std::string& folder, std::span<const SafetensorsWriter> shards) {
  if (shards.size() == 1) return shards[0].WriteFile(folder + "/model.safetensors");
  JsonValue weight_map = JsonValue::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    TIDAL_RETURN_IF_ERROR(shards[i].WriteFile(folder + "/" + name));
    for (const std::string& tensor : shards[i].Names()) weight_map[tensor] = name;
  }
  return WriteJson(folder + "/model.safetensors.index.json", {{"weight_map", weight_map}});
}

Status WriteWeights(const Model& model, const std::string& folder,
                    const TestFolderOptions& options) {
  std::vector<SafetensorsWriter> shards(static_cast<size_t>(options.num_shards));
  TensorWriter out(options.dtype, shards);
  const ModelWeights& weights = model.weights();
  out.Add(weights.token_embd, "model.embed_tokens.weight");
  for (int layer = 0; layer < model.config().num_layers; ++layer)
    AddLayer(model.config(), weights.layers[static_cast<size_t>(layer)], layer, &out);
  out.Add(weights.output_norm, "model.norm.weight");
  if (!weights.tied_output) out.Add(weights.output, "lm_head.weight");
  return WriteShards(folder, shards);
}

JsonValue PreTokenizerOf(std::string_view pre) {
  const JsonValue bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", pre == "smollm"}};
  JsonValue first = {{"type", "Digits"}, {"individual_digits", true}};
  if (pre != "smollm") {
    const std::string digits = pre == "qwen2" ? R"(\p{N})" : R"(\p{N}{1,3})";
    first = {{"type", "Split"},
             {"behavior", "Isolated"},
             {"invert", false},
             {"pattern",
              {{"Regex", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
                             R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}};
  }
  return {{"type", "Sequence"}, {"pretokenizers", {first, bytes}}};
}

Status WriteTokenizer(const GgufFile& file, const std::string& folder) {
  TIDAL_ASSIGN_OR_RETURN(const auto tokens, file.GetStringArray("tokenizer.ggml.tokens"));
  TIDAL_ASSIGN_OR_RETURN(const auto types, file.GetIntArray("tokenizer.ggml.token_type"));
  TIDAL_ASSIGN_OR_RETURN(const auto merges, file.GetStringArray("tokenizer.ggml.merges"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view pre, file.GetString("tokenizer.ggml.pre"));
  JsonValue vocab = JsonValue::object();
  JsonValue added = JsonValue::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == kControl || types[id] == kUserDefined) {
      added.push_back({{"id", id}, {"content", tokens[id]}, {"special", types[id] == kControl}});
    } else {
      vocab[std::string(tokens[id])] = id;
    }
  }
  TIDAL_RETURN_IF_ERROR(
      WriteJson(folder + "/tokenizer.json",
                {{"added_tokens", added},
                 {"normalizer", nullptr},
                 {"pre_tokenizer", PreTokenizerOf(pre)},
                 {"post_processor", {{"type", "ByteLevel"}}},
                 {"decoder", {{"type", "ByteLevel"}}},
                 {"model",
                  {{"type", "BPE"},
                   {"ignore_merges", pre == "llama-bpe"},
                   {"vocab", vocab},
                   {"merges", std::vector<std::string>(merges.begin(), merges.end())}}}}));
  JsonValue config = JsonValue::object();
  for (const auto& [key, id_key] : {std::pair("bos_token", "tokenizer.ggml.bos_token_id"),
                                    std::pair("eos_token", "tokenizer.ggml.eos_token_id")}) {
    if (!file.Has(id_key)) continue;
    TIDAL_ASSIGN_OR_RETURN(const uint64_t id, file.GetUint(id_key));
    config[key] = tokens.at(id);
  }
  return WriteJson(folder + "/tokenizer_config.json", config);
}

}  // namespace

Status WriteTestFolder(const Model& model, const std::string& folder,
                       const TestFolderOptions& options) {
  TIDAL_CHECK(model.gguf() != nullptr && model.config().rope_freq_divisors.empty(),
              "{} is no GGUF file without RoPE scaling", model.path());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return IoError("{}: cannot make the folder: {}", folder, error.message());
  TIDAL_RETURN_IF_ERROR(WriteJson(folder + "/config.json", ConfigOf(model)));
  TIDAL_RETURN_IF_ERROR(WriteWeights(model, folder, options));
  TIDAL_RETURN_IF_ERROR(WriteTokenizer(*model.gguf(), folder));
  TIDAL_ASSIGN_OR_RETURN(const std::optional<std::string> chat, model.ReadChatTemplate());
  if (!chat) return OkStatus();
  return WriteWholeFile(folder + "/chat_template.jinja", std::as_bytes(std::span(*chat)));
}

}  // namespace tidal
