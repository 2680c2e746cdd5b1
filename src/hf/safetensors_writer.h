// Writes safetensors files: test models, and whatever else the program exports.
#ifndef TIDAL_HF_SAFETENSORS_WRITER_H_
#define TIDAL_HF_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tidal {

// Collects tensors in memory. Nothing is checked against the format's rules, because tests need
// files that break them.
class SafetensorsWriter {
 public:
  // `dtype` as the format spells it ("F32"), the shape outermost first.
  void Add(std::string name, std::string dtype, std::vector<int64_t> shape,
           std::vector<std::byte> data);
  bool Remove(std::string_view name);  // false where there is none

  std::vector<std::string> Names() const;
  std::string Header() const;  // the JSON text, padded to a multiple of 8 bytes
  // The whole file, with another header where tests want one.
  std::vector<std::byte> Build() const { return BuildWith(Header()); }
  std::vector<std::byte> BuildWith(std::string_view header) const;

  // By way of a temporary file beside it. Errors: kIo.
  Status WriteFile(const std::string& path) const;

 private:
  struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
    std::vector<std::byte> data;
  };
  std::vector<Tensor> tensors_;
};

}  // namespace tidal

#endif  // TIDAL_HF_SAFETENSORS_WRITER_H_
