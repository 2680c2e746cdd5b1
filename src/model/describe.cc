#include "model/describe.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/math.h"
#include "gguf/printable.h"
#include "model/model_hash.h"
#include "model/model_reader.h"
#include "model/tensor_bytes.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

const char* NameOf(RopeStyle style) {
  return style == RopeStyle::kInterleaved ? "interleaved" : "half";
}

std::string TypeOf(const GgufEntry& entry) {
  if (entry.type != GgufType::kArray) return NameOf(entry.type);
  return fmt::format("{}[{}]", NameOf(entry.element_type), entry.count);
}

std::string ShapeOf(const GgufTensor& tensor) {
  return fmt::format("{}", fmt::join(tensor.dims, tensor.dims + tensor.num_dims, " x "));
}

// "98362432 bytes (93.8 MiB)".
std::string BytesText(int64_t bytes) {
  constexpr double kMib = 1024.0 * 1024.0;
  return fmt::format("{} bytes ({:.1f} MiB)", bytes, static_cast<double>(bytes) / kMib);
}

void AppendFileHead(const GgufFile& file, std::string* out) {
  *out += fmt::format("file            {}\n", PrintablePath(file.path()));
  *out += fmt::format("format          GGUF version {}, {} in {} file{}\n", file.version(),
                      BytesText(static_cast<int64_t>(file.file_bytes())), file.num_files(),
                      file.num_files() == 1 ? "" : "s");
  *out += fmt::format("model hash      {}\n", ModelHash(file));
}

void AppendDirectory(const GgufFile& file, std::string* out) {
  const std::vector<GgufEntry> entries = file.Entries();
  *out += fmt::format("\nmetadata: {} entries\n", entries.size());
  for (const GgufEntry& entry : entries) {
    *out += fmt::format("  {:<42} {:<16} {}\n", Printable(entry.key), TypeOf(entry), entry.text);
  }
  *out += fmt::format("\ntensors: {}\n", file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    const std::optional<int64_t> bytes = BytesOfTensor(tensor);
    *out += fmt::format("  {:<32} {:<8} {:<20} {:>12}\n", Printable(tensor.name),
                        NameOfGgmlType(tensor.ggml_type), ShapeOf(tensor),
                        bytes ? fmt::format("{}", *bytes) : "?");
  }
}

void AppendConfig(const Model& model, std::string* out) {
  const ModelConfig& config = model.config();
  const auto line = [out](const char* label, const auto& value) {
    *out += fmt::format("{:<15} {}\n", label, value);
  };
  line("name", Printable(config.name));
  line("architecture", config.architecture);
  line("parameters", model.num_parameters());
  line("layers", config.num_layers);
  line("model dim", config.model_dim);
  line("ffn dim", config.ffn_dim);
  line("heads", fmt::format("{} of {} elements, {} KV heads", config.num_heads, config.head_dim,
                            config.num_kv_heads));
  line("vocabulary", config.vocab_size);
  line("trained context", fmt::format("{} tokens", config.trained_seq_len));
  line("rope", fmt::format("theta {}, {} of {} elements, pairs {}{}", config.rope_theta,
                           config.rope_dim, config.head_dim, NameOf(config.rope_style),
                           config.rope_freq_divisors.empty() ? "" : ", scaled"));
  line("output matrix", model.weights().tied_output ? "tied to the embedding" : "separate");
}

void AppendMemory(const Model& model, int64_t context_tokens, std::string* out) {
  *out += fmt::format("\nweights: {}\n", BytesText(model.weight_bytes()));
  for (const WeightTypeBytes& weights : WeightBytesByType(model)) {
    *out += fmt::format("  {:<8} {:>4} tensors  {}\n", weights.type, weights.num_tensors,
                        BytesText(weights.bytes));
  }
  *out += fmt::format("\nkey-value cache for a context of {} tokens:\n", context_tokens);
  for (const CacheMemory& memory : CacheMemoryOf(model.config(), context_tokens)) {
    *out += fmt::format("  {:<8} {:>8} bytes a token  {}\n", memory.type, memory.bytes_per_token,
                        BytesText(memory.total_bytes));
  }
}

Json FileJson(const GgufFile& file) {
  Json json;
  json["path"] = PrintablePath(file.path());
  json["gguf_version"] = file.version();
  json["num_files"] = file.num_files();
  json["file_bytes"] = file.file_bytes();
  json["model_hash"] = ModelHash(file);
  return json;
}

void AddDirectory(const GgufFile& file, Json* json) {
  Json& metadata = (*json)["metadata"] = Json::array();
  for (const GgufEntry& entry : file.Entries()) {
    metadata.push_back({{"key", Printable(entry.key)},
                        {"type", TypeOf(entry)},
                        {"count", entry.count},
                        {"value", entry.text}});
  }
  Json& tensors = (*json)["tensors"] = Json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    const std::optional<int64_t> bytes = BytesOfTensor(tensor);
    tensors.push_back({{"name", Printable(tensor.name)},
                       {"type", NameOfGgmlType(tensor.ggml_type)},
                       {"shape", std::vector<int64_t>(tensor.dims, tensor.dims + tensor.num_dims)},
                       {"bytes", bytes ? Json(*bytes) : Json(nullptr)}});
  }
}

Json ConfigJson(const Model& model) {
  const ModelConfig& config = model.config();
  return {{"name", Printable(config.name)},
          {"architecture", config.architecture},
          {"num_layers", config.num_layers},
          {"model_dim", config.model_dim},
          {"ffn_dim", config.ffn_dim},
          {"num_heads", config.num_heads},
          {"num_kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"trained_seq_len", config.trained_seq_len},
          {"rms_norm_eps", config.rms_norm_eps},
          {"rope_theta", config.rope_theta},
          {"rope_dim", config.rope_dim},
          {"rope_style", NameOf(config.rope_style)},
          {"rope_scaled", !config.rope_freq_divisors.empty()},
          {"tied_output", model.weights().tied_output}};
}

Result<int64_t> ContextTokens(const Model& model, int64_t context_tokens) {
  if (context_tokens < 0 || context_tokens > kMaxSeqLen) {
    return InvalidArgument("the context is {} tokens, expected 0 (as trained) to {}",
                           context_tokens, kMaxSeqLen);
  }
  return context_tokens == 0 ? int64_t{model.config().trained_seq_len} : context_tokens;
}

// Every string in there is printable UTF-8, so that this cannot throw.
std::string Dump(const Json& json) { return json.dump(); }

}  // namespace

std::vector<CacheMemory> CacheMemoryOf(const ModelConfig& config, int64_t num_tokens) {
  TIDAL_CHECK(num_tokens >= 0 && num_tokens <= kMaxSeqLen, "{} tokens", num_tokens);
  constexpr int64_t kScaleBytes = 2;
  constexpr int64_t kScaleGroup = 32;
  const int64_t head_dim = config.head_dim;
  const std::pair<const char*, int64_t> head_bytes[] = {
      {"f32", 4 * head_dim},
      {"f16", 2 * head_dim},
      {"bf16", 2 * head_dim},
      {"q8_0", head_dim + kScaleBytes * CeilDiv(head_dim, kScaleGroup)}};
  std::vector<CacheMemory> memories;
  for (const auto& [type, bytes] : head_bytes) {
    const int64_t per_token = 2 * int64_t{config.num_layers} * config.num_kv_heads * bytes;
    memories.push_back({type, per_token, per_token * num_tokens});
  }
  return memories;
}

std::vector<WeightTypeBytes> WeightBytesByType(const Model& model) {
  std::vector<WeightTypeBytes> types;
  model.ForEachWeight([&](const TensorView& view) {
    const std::string name = NameOf(view.dtype);
    auto found = std::find_if(types.begin(), types.end(),
                              [&](const WeightTypeBytes& t) { return t.type == name; });
    if (found == types.end()) found = types.insert(types.end(), {name});
    found->num_tensors += 1;
    found->bytes += view.bytes();
  });
  return types;
}

Result<std::string> DescribeModel(const Model& model, int64_t context_tokens) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t tokens, ContextTokens(model, context_tokens));
  std::string out;
  AppendFileHead(model.gguf(), &out);
  AppendConfig(model, &out);
  AppendDirectory(model.gguf(), &out);
  AppendMemory(model, tokens, &out);
  return out;
}

Result<std::string> DescribeModelJson(const Model& model, int64_t context_tokens) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t tokens, ContextTokens(model, context_tokens));
  Json json = FileJson(model.gguf());
  json["model"] = ConfigJson(model);
  AddDirectory(model.gguf(), &json);
  json["num_parameters"] = model.num_parameters();
  json["weight_bytes"] = model.weight_bytes();
  Json& types = json["weights_by_type"] = Json::array();
  for (const WeightTypeBytes& weights : WeightBytesByType(model)) {
    types.push_back(
        {{"type", weights.type}, {"num_tensors", weights.num_tensors}, {"bytes", weights.bytes}});
  }
  json["context_tokens"] = tokens;
  Json& cache = json["cache"] = Json::array();
  for (const CacheMemory& memory : CacheMemoryOf(model.config(), tokens)) {
    cache.push_back({{"type", memory.type},
                     {"bytes_per_token", memory.bytes_per_token},
                     {"total_bytes", memory.total_bytes}});
  }
  return Dump(json);
}

std::string DescribeFile(const GgufFile& file) {
  std::string out;
  AppendFileHead(file, &out);
  AppendDirectory(file, &out);
  return out;
}

std::string DescribeFileJson(const GgufFile& file) {
  Json json = FileJson(file);
  AddDirectory(file, &json);
  return Dump(json);
}

}  // namespace tidal
