// A GGUF file (version 2 or 3; one file or split as NAME-00001-of-0000N.gguf), mapped read-only.
// Knows no model.
//
// Everything in the file is distrusted: counts, lengths, offsets, types and alignment are checked
// before use, and each error names the file, the field, what was expected and what was found.
// Source: the GGUF specification in ggml's docs.
#ifndef TIDAL_GGUF_GGUF_FILE_H_
#define TIDAL_GGUF_GGUF_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tidal {

// The value types of the format, with the numbers they have there.
enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};
const char* NameOf(GgufType type);

struct GgufTensor {
  std::string_view name;
  uint32_t ggml_type = 0;           // not yet known to be supported: DTypeFromGgml decides
  int num_dims = 0;                 // 1 to 4
  int64_t dims[4] = {1, 1, 1, 1};   // GGML order: dims[0] is contiguous
  const std::byte* data = nullptr;  // inside the mapping; aligned to the file's alignment
  size_t available_bytes = 0;       // from data to the end of its file
  int file_index = 0;               // which split file it lies in
};

// One metadata entry, for listings. `text` is a printable, shortened form of the value.
struct GgufEntry {
  std::string_view key;
  GgufType type;  // kArray: see element_type and count
  GgufType element_type;
  uint64_t count = 1;
  std::string text;
};

class GgufFile {
 public:
  // Maps `path`, and its sisters where it is the first of a split model. Errors: kNotFound (no such
  // file), kIo (not readable), kCorrupt (not a GGUF file, truncated, or a field out of bounds),
  // kUnsupported (version, big-endian).
  static Result<GgufFile> Open(const std::string& path);

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  const std::string& path() const;
  uint32_t version() const;
  uint64_t file_bytes() const;  // all splits
  int num_files() const;

  bool Has(std::string_view key) const;
  // Errors: kNotFound (no such key), kCorrupt (another type than asked for; both are named).
  // Integers of every width and sign are accepted where the value fits; GetFloat takes both widths,
  // and integers.
  Result<uint64_t> GetUint(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key) const;
  Result<std::vector<std::string_view>> GetStringArray(std::string_view key) const;
  Result<std::vector<int64_t>> GetIntArray(std::string_view key) const;
  Result<std::vector<float>> GetFloatArray(std::string_view key) const;

  std::span<const GgufTensor> tensors() const;  // in file order
  const GgufTensor* FindTensor(std::string_view name) const;
  std::vector<GgufEntry> Entries() const;  // in file order
  // Of each file, header, metadata and tensor directory: its bytes up to the padding before the
  // first tensor. They point into the mapping.
  std::vector<std::span<const std::byte>> Heads() const;

 private:
  struct Impl;
  explicit GgufFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_FILE_H_
