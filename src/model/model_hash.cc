#include "model/model_hash.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "base/sha256.h"
#include "hf/hf_folder.h"
#include "model/tensor_bytes.h"

namespace tidal {
namespace {

constexpr size_t kHashedTensorBytes = 4096;

}  // namespace

std::string ModelHash(const GgufFile& file) {
  Sha256 hash;
  for (const std::span<const std::byte> head : file.Heads()) hash.Update(head);
  for (const GgufTensor& tensor : file.tensors()) {
    size_t bytes = std::min(tensor.available_bytes, kHashedTensorBytes);
    if (const std::optional<int64_t> tensor_bytes = BytesOfTensor(tensor))
      bytes = std::min(bytes, static_cast<size_t>(*tensor_bytes));
    hash.Update({tensor.data, bytes});
  }
  return hash.FinishHex();
}

Result<std::string> ModelHash(const Model& model) {
  const HfFolder* folder = model.hf_folder();
  return folder != nullptr ? folder->ModelHash() : ModelHash(*model.gguf());
}

}  // namespace tidal
