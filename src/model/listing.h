// What a model's file or folder holds, for people: the same lists whatever the format.
#ifndef TIDAL_MODEL_LISTING_H_
#define TIDAL_MODEL_LISTING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gguf/gguf_file.h"
#include "hf/hf_folder.h"

namespace tidal {

// Every text is printable, whatever the file holds.
struct ListedEntry {
  std::string key;
  std::string type;  // "uint32", "string[275]"
  uint64_t count = 1;
  std::string text;  // shortened
};

struct ListedTensor {
  std::string name;
  std::string type;            // "Q4_1"
  std::vector<int64_t> shape;  // the contiguous dimension first
  std::optional<int64_t> bytes;
};

struct Listing {
  std::string path;
  std::string format;  // "GGUF version 3", "Hugging Face folder"
  std::optional<uint32_t> gguf_version;
  int64_t num_files = 1;
  int64_t file_bytes = 0;
  std::string model_hash;
  std::vector<ListedEntry> entries;
  std::vector<ListedTensor> tensors;
};

Listing ListFile(const GgufFile& file);
// The entries are those of config.json, one level deep.
Listing ListFolder(const HfFolder& folder);

}  // namespace tidal

#endif  // TIDAL_MODEL_LISTING_H_
