// A safetensors file, mapped read-only: 8 bytes with the size of a JSON header, the header, data.
//
// Everything in the file is distrusted: the header's size against the file and a limit, each
// tensor's type, shape and place, and that the tensors cover the data without overlap or gap.
// Source: the format's description in the repository of the Python package safetensors.
#ifndef TIDAL_HF_SAFETENSORS_FILE_H_
#define TIDAL_HF_SAFETENSORS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gguf/mapped_file.h"

namespace tidal {

// Headers of the largest real shards have about a tenth of this. Parsed JSON can take twenty times
// the memory of its text.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = uint64_t{8} << 20;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;                // as the file spells it: "F32", "BF16"
  std::vector<int64_t> shape;       // outermost first, at most 8 dimensions
  std::span<const std::byte> data;  // inside the mapping, of any alignment
};

class SafetensorsFile {
 public:
  // Errors, with the path: kNotFound, kIo, kCorrupt (what the format forbids, named with the
  // tensor), kUnsupported (an element type that is not known, which has no size to check).
  static Result<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return path_; }  // fit for a message
  std::span<const std::byte> bytes() const { return mapping_.bytes(); }
  std::span<const std::byte> header() const;                               // the JSON text
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }  // by name
  const SafetensorsTensor* Find(std::string_view name) const;

 private:
  SafetensorsFile(std::string path, MappedFile mapping)
      : path_(std::move(path)), mapping_(std::move(mapping)) {}
  Status ReadHeader();

  std::string path_;
  MappedFile mapping_;
  std::vector<SafetensorsTensor> tensors_;
};

// "[64, 32]".
std::string ShapeText(std::span<const int64_t> shape);

}  // namespace tidal

#endif  // TIDAL_HF_SAFETENSORS_FILE_H_
