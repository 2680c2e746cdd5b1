// A model as Hugging Face's libraries save it: a folder with config.json and safetensors files.
#ifndef TIDAL_HF_HF_FOLDER_H_
#define TIDAL_HF_HF_FOLDER_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "hf/json_file.h"
#include "hf/safetensors_file.h"

namespace tidal {

class HfFolder {
 public:
  // Reads config.json and maps model.safetensors, or else every shard that
  // model.safetensors.index.json names. Errors: those of ReadJsonFile and SafetensorsFile::Open;
  // kNotFound (a folder without one of them, which are named), kCorrupt (an index that names no
  // plain file beside it, or a tensor that is not in its shard).
  static Result<HfFolder> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::string FilePath(std::string_view name) const;  // of a file in it, fit for opening
  const JsonValue& config() const { return config_; }
  std::span<const SafetensorsFile> files() const { return files_; }
  uint64_t file_bytes() const;  // of the safetensors files

  // By name. Pointers live as long as this folder, moved or not.
  const std::vector<const SafetensorsTensor*>& tensors() const { return tensors_; }
  const SafetensorsTensor* Find(std::string_view name) const;

  // A JSON file that a folder may lack; nothing where it does.
  Result<std::optional<JsonValue>> ReadOptional(std::string_view name) const;
  // The chat template: chat_template.jinja, or chat_template of tokenizer_config.json (of several
  // named ones "default"); nothing where there is none.
  Result<std::optional<std::string>> ReadChatTemplate() const;

  // SHA-256, in 64 lower-case hex digits, of the bytes of config.json and then, of each tensor by
  // name: a line each with its name, its type and its shape ("[64, 32]"), and its first 4 KiB, all
  // of it where it is smaller. How the tensors are dealt out to files makes no difference.
  std::string ModelHash() const;

 private:
  explicit HfFolder(std::string path) : path_(std::move(path)) {}
  Status OpenFiles();
  Status OpenShards(const std::string& index_path);
  Status AddTensor(std::string_view name, const std::string& index_path, size_t file);

  std::string path_;
  std::string config_text_;  // the file as it is
  JsonValue config_;
  std::vector<SafetensorsFile> files_;
  std::vector<const SafetensorsTensor*> tensors_;
};

}  // namespace tidal

#endif  // TIDAL_HF_HF_FOLDER_H_
