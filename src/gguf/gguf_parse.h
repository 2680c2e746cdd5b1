// Reads header, metadata and tensor directory of one GGUF file out of its bytes. Used by
// gguf_file.cc only.
#ifndef TIDAL_GGUF_GGUF_PARSE_H_
#define TIDAL_GGUF_GGUF_PARSE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"

namespace tidal {

// A metadata entry as it lies in the file. Its bytes have been checked: `count` elements are there,
// strings end inside the file, bools are 0 or 1. Array elements are not copied: whoever asks for
// them walks them.
struct GgufRawEntry {
  std::string_view key;
  GgufType type;
  GgufType element_type;  // as `type` where that is not kArray
  uint64_t count = 1;
  const std::byte* data = nullptr;  // the first element; a string starts with its 8-byte length
};

struct GgufDirectory {
  uint32_t version = 0;
  uint32_t alignment = 0;
  std::vector<GgufRawEntry> entries;  // in file order
  std::vector<GgufTensor> tensors;    // in file order; file_index 0
  size_t directory_bytes = 0;         // of header, metadata and tensor directory
};

// Takes time and memory linear in the size of what it reads (not of tensor data), whatever the
// counts in the file claim. Views point into `file`. Errors, without the path: kCorrupt,
// kUnsupported. Duplicates are not looked for here.
Result<GgufDirectory> ParseGguf(std::span<const std::byte> file);

// Reads a number at any alignment.
template <typename T>
T LoadUnaligned(const std::byte* data) {
  T value;
  __builtin_memcpy(&value, data, sizeof(value));
  return value;
}

// The string whose 8-byte length `data` points at. REQUIRES: checked by ParseGguf.
inline std::string_view LoadString(const std::byte* data) {
  return {reinterpret_cast<const char*>(data) + sizeof(uint64_t), LoadUnaligned<uint64_t>(data)};
}

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_PARSE_H_
