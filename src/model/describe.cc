#include "model/describe.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/math.h"
#include "gguf/printable.h"
#include "model/listing.h"
#include "model/model_reader.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

const char* NameOf(RopeStyle style) {
  return style == RopeStyle::kInterleaved ? "interleaved" : "half";
}

// "98362432 bytes (93.8 MiB)".
std::string BytesText(int64_t bytes) {
  constexpr double kMib = 1024.0 * 1024.0;
  return fmt::format("{} bytes ({:.1f} MiB)", bytes, static_cast<double>(bytes) / kMib);
}

Listing ListModel(const Model& model) {
  const HfFolder* folder = model.hf_folder();
  return folder != nullptr ? ListFolder(*folder) : ListFile(*model.gguf());
}

void AppendFileHead(const Listing& listing, std::string* out) {
  *out += fmt::format("file            {}\n", listing.path);
  *out += fmt::format("format          {}, {} in {} file{}\n", listing.format,
                      BytesText(listing.file_bytes), listing.num_files,
                      listing.num_files == 1 ? "" : "s");
  *out += fmt::format("model hash      {}\n", listing.model_hash);
}

void AppendDirectory(const Listing& listing, std::string* out) {
  *out += fmt::format("\nmetadata: {} entries\n", listing.entries.size());
  for (const ListedEntry& entry : listing.entries)
    *out += fmt::format("  {:<42} {:<16} {}\n", entry.key, entry.type, entry.text);
  *out += fmt::format("\ntensors: {}\n", listing.tensors.size());
  for (const ListedTensor& tensor : listing.tensors) {
    *out += fmt::format("  {:<32} {:<8} {:<20} {:>12}\n", tensor.name, tensor.type,
                        fmt::format("{}", fmt::join(tensor.shape, " x ")),
                        tensor.bytes ? fmt::format("{}", *tensor.bytes) : "?");
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
    *out += fmt::format("  {:<8} {:>4} tensors  {}{}\n", weights.type, weights.num_tensors,
                        BytesText(weights.bytes),
                        weights.kept_as == weights.type ? "" : ", kept as " + weights.kept_as);
  }
  *out += fmt::format("\nkey-value cache for a context of {} tokens:\n", context_tokens);
  for (const CacheMemory& memory : CacheMemoryOf(model.config(), context_tokens)) {
    *out += fmt::format("  {:<8} {:>8} bytes a token  {}\n", memory.type, memory.bytes_per_token,
                        BytesText(memory.total_bytes));
  }
}

Json FileJson(const Listing& listing) {
  Json json;
  json["path"] = listing.path;
  json["format"] = listing.format;
  if (listing.gguf_version) json["gguf_version"] = *listing.gguf_version;
  json["num_files"] = listing.num_files;
  json["file_bytes"] = listing.file_bytes;
  json["model_hash"] = listing.model_hash;
  return json;
}

void AddDirectory(const Listing& listing, Json* json) {
  Json& metadata = (*json)["metadata"] = Json::array();
  for (const ListedEntry& entry : listing.entries) {
    metadata.push_back(
        {{"key", entry.key}, {"type", entry.type}, {"count", entry.count}, {"value", entry.text}});
  }
  Json& tensors = (*json)["tensors"] = Json::array();
  for (const ListedTensor& tensor : listing.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"type", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes ? Json(*tensor.bytes) : Json(nullptr)}});
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
          {"rope_attn_factor", config.rope_attn_factor},
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

std::string DescribeListing(const Listing& listing) {
  std::string out;
  AppendFileHead(listing, &out);
  AppendDirectory(listing, &out);
  return out;
}

std::string DescribeListingJson(const Listing& listing) {
  Json json = FileJson(listing);
  AddDirectory(listing, &json);
  return Dump(json);
}

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
      {"q8_0", head_dim + kScaleBytes * CeilDiv(head_dim, kScaleGroup)},
      {"f8e4m3", head_dim + kScaleBytes}};
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
    if (found == types.end()) found = types.insert(types.end(), {name, NameOf(KeptAs(view.dtype))});
    found->num_tensors += 1;
    found->bytes += view.kept_bytes();
  });
  return types;
}

Result<std::string> DescribeModel(const Model& model, int64_t context_tokens) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t tokens, ContextTokens(model, context_tokens));
  const Listing listing = ListModel(model);
  std::string out;
  AppendFileHead(listing, &out);
  AppendConfig(model, &out);
  AppendDirectory(listing, &out);
  AppendMemory(model, tokens, &out);
  return out;
}

Result<std::string> DescribeModelJson(const Model& model, int64_t context_tokens) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t tokens, ContextTokens(model, context_tokens));
  const Listing listing = ListModel(model);
  Json json = FileJson(listing);
  json["model"] = ConfigJson(model);
  AddDirectory(listing, &json);
  json["num_parameters"] = model.num_parameters();
  json["weight_bytes"] = model.weight_bytes();
  Json& types = json["weights_by_type"] = Json::array();
  for (const WeightTypeBytes& weights : WeightBytesByType(model)) {
    types.push_back({{"type", weights.type},
                     {"kept_as", weights.kept_as},
                     {"num_tensors", weights.num_tensors},
                     {"bytes", weights.bytes}});
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

std::string DescribeFile(const GgufFile& file) { return DescribeListing(ListFile(file)); }
std::string DescribeFileJson(const GgufFile& file) { return DescribeListingJson(ListFile(file)); }
std::string DescribeFolder(const HfFolder& folder) { return DescribeListing(ListFolder(folder)); }
std::string DescribeFolderJson(const HfFolder& folder) {
  return DescribeListingJson(ListFolder(folder));
}

}  // namespace tidal
