#include "model/listing.h"

#include "gguf/printable.h"
#include "model/model_hash.h"
#include "model/tensor_bytes.h"
#include "quant/dtype.h"

namespace tidal {
namespace {

std::string TypeOf(const GgufEntry& entry) {
  if (entry.type != GgufType::kArray) return NameOf(entry.type);
  return fmt::format("{}[{}]", NameOf(entry.element_type), entry.count);
}

std::string TypeOf(const JsonValue& value) {
  return value.is_array() ? fmt::format("array[{}]", value.size()) : value.type_name();
}

}  // namespace

Listing ListFile(const GgufFile& file) {
  Listing listing;
  listing.path = PrintablePath(file.path());
  listing.format = fmt::format("GGUF version {}", file.version());
  listing.gguf_version = file.version();
  listing.num_files = file.num_files();
  listing.file_bytes = static_cast<int64_t>(file.file_bytes());
  listing.model_hash = ModelHash(file);
  for (const GgufEntry& entry : file.Entries())
    listing.entries.push_back({Printable(entry.key), TypeOf(entry), entry.count, entry.text});
  for (const GgufTensor& tensor : file.tensors()) {
    listing.tensors.push_back({Printable(tensor.name),
                               NameOfGgmlType(tensor.ggml_type),
                               {tensor.dims, tensor.dims + tensor.num_dims},
                               BytesOfTensor(tensor)});
  }
  return listing;
}

Listing ListFolder(const HfFolder& folder) {
  Listing listing;
  listing.path = PrintablePath(folder.path());
  listing.format = "Hugging Face folder";
  listing.num_files = static_cast<int64_t>(folder.files().size());
  listing.file_bytes = static_cast<int64_t>(folder.file_bytes());
  listing.model_hash = folder.ModelHash();
  for (const auto& [key, value] : folder.config().items()) {
    const uint64_t count = value.is_array() ? value.size() : 1;
    listing.entries.push_back({Printable(key), TypeOf(value), count, ShortText(value)});
  }
  for (const SafetensorsTensor* tensor : folder.tensors()) {
    listing.tensors.push_back({Printable(tensor->name),
                               tensor->dtype,
                               {tensor->shape.rbegin(), tensor->shape.rend()},
                               static_cast<int64_t>(tensor->data.size())});
  }
  return listing;
}

}  // namespace tidal
