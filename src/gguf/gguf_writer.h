// Writes GGUF files (version 3): test models, and whatever else the program exports.
#ifndef TIDAL_GGUF_GGUF_WRITER_H_
#define TIDAL_GGUF_GGUF_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "gguf/gguf_format.h"

namespace tidal {

// Where a field of the file lies; tests damage files by these. Names: "magic", "version",
// "tensor_count", "entry_count"; for a metadata entry KEY "KEY/key_length", "KEY/key", "KEY/type",
// "KEY/element_type" and "KEY/count" (arrays), "KEY/length" (strings), "KEY/value"; for a tensor
// NAME "NAME/name_length", "NAME/name", "NAME/num_dims", "NAME/dims[I]", "NAME/type",
// "NAME/offset", "NAME/data"; "padding" before and between data.
struct GgufField {
  std::string name;
  size_t offset = 0;
  size_t bytes = 0;
};

struct GgufImage {
  std::vector<std::byte> bytes;   // the whole file
  std::vector<GgufField> fields;  // in file order, without gaps
};

// Collects entries and tensors in memory, then writes them in the order they were added. Nothing is
// checked against the format's rules (a key given twice is written twice), because tests need files
// that break them; a caller that exports for others keeps the rules itself.
class GgufWriter {
 public:
  // REQUIRES: alignment a power of two. Files with another alignment than 32 also need the key
  // general.alignment.
  explicit GgufWriter(uint32_t alignment = kGgufDefaultAlignment);

  // T: the fixed-width integers, float, double, bool.
  template <typename T>
  void Add(std::string_view key, T value) {
    AddScalar(key, GgufTypeOf<T>(), &value, sizeof(value));
  }
  void AddString(std::string_view key, std::string_view value);
  template <typename T>
  void AddArray(std::string_view key, const std::vector<T>& values) {
    AddNumbers(key, GgufTypeOf<T>(), values.size(), values.data(), values.size() * sizeof(T));
  }
  void AddStringArray(std::string_view key, const std::vector<std::string>& values);

  // `dims` in GGML order: dims[0] is contiguous. `data` is written as it is, whatever the type
  // needs.
  void AddTensor(std::string_view name, uint32_t ggml_type, std::vector<int64_t> dims,
                 std::vector<std::byte> data);

  // Take out every entry or tensor of that name; false where there is none.
  bool RemoveEntry(std::string_view key);
  bool RemoveTensor(std::string_view name);

  GgufImage Build() const;

  // Writes Build().bytes to a temporary file beside `path` and renames it, so that a failure leaves
  // no half-written file under that name. Errors: kIo.
  Status WriteFile(const std::string& path) const;

 private:
  struct Entry {
    std::string key;
    GgufType type;
    GgufType element_type;  // arrays
    uint64_t count = 1;
    std::string value;  // as in the file, after the type, the element type and the count
  };
  struct Tensor {
    std::string name;
    uint32_t ggml_type = 0;
    std::vector<int64_t> dims;
    std::vector<std::byte> data;
  };
  class Output;

  void AddScalar(std::string_view key, GgufType type, const void* value, size_t bytes);
  void AddNumbers(std::string_view key, GgufType element_type, uint64_t count, const void* values,
                  size_t bytes);
  static void WriteEntry(const Entry& entry, Output* out);
  void WriteTensors(Output* out) const;

  uint32_t alignment_;
  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
};

// Writes all of `bytes` to `path` by way of a temporary file beside it. Errors: kIo.
Status WriteWholeFile(const std::string& path, std::span<const std::byte> bytes);

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_WRITER_H_
