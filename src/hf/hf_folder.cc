#include "hf/hf_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "base/sha256.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kTokenizerConfig = "tokenizer_config.json";
constexpr std::string_view kTemplateFile = "chat_template.jinja";
constexpr std::string_view kTemplateKey = "chat_template";
constexpr size_t kMaxShards = 1024;
constexpr int64_t kMaxIndexBytes = int64_t{16} << 20;
constexpr size_t kHashedTensorBytes = 4096;

// Also what cannot be opened is there, and opening it says why: a link that leads nowhere, as an
// unfinished download leaves it, or a folder that this user may not look into.
bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::symlink_status(path, error).type() !=
         std::filesystem::file_type::not_found;
}

// A name in the same folder, and nothing that leads out of it.
bool IsPlainName(std::string_view name) {
  return name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// What tokenizer_config.json has under chat_template.
Result<std::optional<std::string>> TemplateOf(const JsonFields& fields) {
  const JsonValue* value = fields.Find(kTemplateKey);
  if (value == nullptr) return std::optional<std::string>();
  if (value->is_string()) return std::optional(value->get<std::string>());
  const JsonValue* first = nullptr;
  if (value->is_array()) {
    for (const JsonValue& entry : *value) {
      TIDAL_ASSIGN_OR_RETURN(
          const JsonFields named,
          JsonFields::Of(fmt::format("{}: {}", fields.where(), kTemplateKey), entry));
      TIDAL_ASSIGN_OR_RETURN(const std::string_view name, named.Text("name"));
      TIDAL_ASSIGN_OR_RETURN(const std::string_view text, named.Text("template"));
      if (name == "default") return std::optional(std::string(text));
      first = &entry;
    }
  }
  return fields.WrongValue(kTemplateKey, first == nullptr ? "a text or a list of named ones"
                                                          : "a list with one named \"default\"");
}

}  // namespace

Result<HfFolder> HfFolder::Open(const std::string& path) {
  HfFolder folder(path);
  const std::string config_path = folder.FilePath(kConfig);
  if (!Exists(config_path)) {
    return NotFound(
        "{}: the folder has no {}; give a GGUF file, or a folder as Hugging Face's "
        "libraries save it",
        PrintablePath(path), kConfig);
  }
  TIDAL_ASSIGN_OR_RETURN(folder.config_text_, ReadTextFile(config_path, kMaxConfigBytes));
  Result<JsonValue> config = ParseJson(folder.config_text_);
  if (!config.ok()) return config.status().Annotate(PrintablePath(config_path));
  folder.config_ = std::move(config).value();
  TIDAL_RETURN_IF_ERROR(folder.OpenFiles());
  return folder;
}

std::string HfFolder::FilePath(std::string_view name) const {
  return (std::filesystem::path(path_) / name).string();
}

Status HfFolder::OpenFiles() {
  const std::string single = FilePath(kSingleFile);
  const std::string index = FilePath(kIndex);
  if (!Exists(single) && Exists(index)) return OpenShards(index);
  if (!Exists(single)) {
    return NotFound(
        "{}: the folder has neither {} nor {}; other formats of weights are not "
        "supported",
        PrintablePath(path_), kSingleFile, kIndex);
  }
  TIDAL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(single));
  files_.push_back(std::move(file));
  for (const SafetensorsTensor& tensor : files_[0].tensors()) tensors_.push_back(&tensor);
  return OkStatus();
}

Status HfFolder::OpenShards(const std::string& index_path) {
  TIDAL_ASSIGN_OR_RETURN(const JsonValue index, ReadJsonFile(index_path, kMaxIndexBytes));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(PrintablePath(index_path), index));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields weight_map, fields.Object("weight_map"));
  std::map<std::string, size_t, std::less<>> shards;  // a place in files_ for each name
  for (const auto& [name, value] : weight_map.object().items()) {
    TIDAL_ASSIGN_OR_RETURN(const std::string_view shard, weight_map.Text(name));
    if (!IsPlainName(shard))
      return weight_map.WrongValue(Printable(name), "a .safetensors file in the same folder");
    shards.emplace(shard, 0);
    if (shards.size() > kMaxShards)
      return Corrupt("{}: more than {} shards", fields.where(), kMaxShards);
  }
  files_.reserve(shards.size());
  for (auto& [name, place] : shards) {
    TIDAL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(FilePath(name)));
    place = files_.size();
    files_.push_back(std::move(file));
  }
  for (const auto& [name, value] : weight_map.object().items()) {
    const auto shard = shards.find(value.get_ref<const std::string&>());
    TIDAL_RETURN_IF_ERROR(AddTensor(name, fields.where(), shard->second));
  }
  return OkStatus();
}

Status HfFolder::AddTensor(std::string_view name, const std::string& index_path, size_t file) {
  const SafetensorsTensor* tensor = files_[file].Find(name);
  if (tensor == nullptr) {
    return Corrupt("{}: tensor {} is missing, which {} says it has", files_[file].path(),
                   Printable(name), index_path);
  }
  tensors_.push_back(tensor);  // the index's keys come sorted
  return OkStatus();
}

uint64_t HfFolder::file_bytes() const {
  uint64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += file.bytes().size();
  return bytes;
}

const SafetensorsTensor* HfFolder::Find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      tensors_, name, {}, [](const SafetensorsTensor* t) { return std::string_view(t->name); });
  return found != tensors_.end() && (*found)->name == name ? *found : nullptr;
}

Result<std::optional<JsonValue>> HfFolder::ReadOptional(std::string_view name) const {
  const std::string path = FilePath(name);
  if (!Exists(path)) return std::optional<JsonValue>();
  TIDAL_ASSIGN_OR_RETURN(JsonValue json, ReadJsonFile(path, kMaxConfigBytes));
  return std::optional<JsonValue>(std::move(json));
}

Result<std::optional<std::string>> HfFolder::ReadChatTemplate() const {
  if (const std::string path = FilePath(kTemplateFile); Exists(path)) {
    TIDAL_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kMaxConfigBytes));
    return std::optional(std::move(text));
  }
  TIDAL_ASSIGN_OR_RETURN(const std::optional<JsonValue> config, ReadOptional(kTokenizerConfig));
  if (!config) return std::optional<std::string>();
  TIDAL_ASSIGN_OR_RETURN(const JsonFields fields,
                         JsonFields::Of(PrintablePath(FilePath(kTokenizerConfig)), *config));
  return TemplateOf(fields);
}

std::string HfFolder::ModelHash() const {
  Sha256 hash;
  const auto add_text = [&hash](std::string_view text) {
    hash.Update(std::as_bytes(std::span(text)));
  };
  add_text(config_text_);
  for (const SafetensorsTensor* tensor : tensors_) {
    add_text(fmt::format("{}\n{}\n{}\n", tensor->name, tensor->dtype, ShapeText(tensor->shape)));
    hash.Update(tensor->data.first(std::min(tensor->data.size(), kHashedTensorBytes)));
  }
  return hash.FinishHex();
}

}  // namespace tidal
