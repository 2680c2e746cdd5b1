#include "gguf/gguf_writer.h"

#include <bit>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

void AppendString(std::string_view text, std::string* out) {
  const uint64_t length = text.size();
  out->append(reinterpret_cast<const char*>(&length), sizeof(length));
  out->append(text);
}

}  // namespace

// The growing image: every Put is a named field.
class GgufWriter::Output {
 public:
  void PutBytes(const std::string& name, const void* data, size_t bytes) {
    image_.fields.push_back({name, image_.bytes.size(), bytes});
    const auto* begin = static_cast<const std::byte*>(data);
    image_.bytes.insert(image_.bytes.end(), begin, begin + bytes);
  }
  template <typename T>
  void Put(const std::string& name, T value) {
    PutBytes(name, &value, sizeof(value));
  }
  void PadTo(size_t alignment) {
    const size_t padding = (alignment - image_.bytes.size() % alignment) % alignment;
    if (padding == 0) return;
    image_.fields.push_back({"padding", image_.bytes.size(), padding});
    image_.bytes.resize(image_.bytes.size() + padding);
  }
  GgufImage Take() { return std::move(image_); }

 private:
  GgufImage image_;
};

GgufWriter::GgufWriter(uint32_t alignment) : alignment_(alignment) {
  TIDAL_CHECK(std::has_single_bit(alignment), "alignment {} is not a power of two", alignment);
}

void GgufWriter::AddScalar(std::string_view key, GgufType type, const void* value, size_t bytes) {
  entries_.push_back(
      {std::string(key), type, type, 1, std::string(static_cast<const char*>(value), bytes)});
}

void GgufWriter::AddString(std::string_view key, std::string_view value) {
  entries_.push_back(
      {std::string(key), GgufType::kString, GgufType::kString, 1, std::string(value)});
}

void GgufWriter::AddNumbers(std::string_view key, GgufType element_type, uint64_t count,
                            const void* values, size_t bytes) {
  std::string value;
  if (bytes > 0) value.assign(static_cast<const char*>(values), bytes);
  entries_.push_back({std::string(key), GgufType::kArray, element_type, count, std::move(value)});
}

void GgufWriter::AddStringArray(std::string_view key, const std::vector<std::string>& values) {
  std::string packed;
  for (const std::string& value : values) AppendString(value, &packed);
  entries_.push_back(
      {std::string(key), GgufType::kArray, GgufType::kString, values.size(), std::move(packed)});
}

void GgufWriter::AddTensor(std::string_view name, uint32_t ggml_type, std::vector<int64_t> dims,
                           std::vector<std::byte> data) {
  tensors_.push_back({std::string(name), ggml_type, std::move(dims), std::move(data)});
}

bool GgufWriter::RemoveEntry(std::string_view key) {
  return std::erase_if(entries_, [key](const Entry& entry) { return entry.key == key; }) > 0;
}

bool GgufWriter::RemoveTensor(std::string_view name) {
  return std::erase_if(tensors_, [name](const Tensor& tensor) { return tensor.name == name; }) > 0;
}

void GgufWriter::WriteEntry(const Entry& entry, Output* out) {
  const std::string& key = entry.key;
  out->Put(key + "/key_length", uint64_t{key.size()});
  out->PutBytes(key + "/key", key.data(), key.size());
  out->Put(key + "/type", static_cast<uint32_t>(entry.type));
  if (entry.type == GgufType::kArray) {
    out->Put(key + "/element_type", static_cast<uint32_t>(entry.element_type));
    out->Put(key + "/count", entry.count);
  } else if (entry.type == GgufType::kString) {
    out->Put(key + "/length", uint64_t{entry.value.size()});
  }
  out->PutBytes(key + "/value", entry.value.data(), entry.value.size());
}

void GgufWriter::WriteTensors(Output* out) const {
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    out->Put(tensor.name + "/name_length", uint64_t{tensor.name.size()});
    out->PutBytes(tensor.name + "/name", tensor.name.data(), tensor.name.size());
    out->Put(tensor.name + "/num_dims", static_cast<uint32_t>(tensor.dims.size()));
    for (size_t i = 0; i < tensor.dims.size(); ++i) {
      out->Put(fmt::format("{}/dims[{}]", tensor.name, i), tensor.dims[i]);
    }
    out->Put(tensor.name + "/type", tensor.ggml_type);
    out->Put(tensor.name + "/offset", offset);
    offset += static_cast<uint64_t>(RoundUp(static_cast<int64_t>(tensor.data.size()), alignment_));
  }
  for (const Tensor& tensor : tensors_) {
    out->PadTo(alignment_);
    out->PutBytes(tensor.name + "/data", tensor.data.data(), tensor.data.size());
  }
}

GgufImage GgufWriter::Build() const {
  Output out;
  out.PutBytes("magic", kGgufMagic, sizeof(kGgufMagic));
  out.Put("version", kGgufMaxVersion);
  out.Put("tensor_count", uint64_t{tensors_.size()});
  out.Put("entry_count", uint64_t{entries_.size()});
  for (const Entry& entry : entries_) WriteEntry(entry, &out);
  WriteTensors(&out);
  return out.Take();
}

Status GgufWriter::WriteFile(const std::string& path) const {
  return WriteWholeFile(path, Build().bytes);
}

Status WriteWholeFile(const std::string& path, std::span<const std::byte> bytes) {
  const std::string temporary = path + ".partial";
  const auto failed = [&](const char* action) {
    const int error = errno;
    std::remove(temporary.c_str());
    return IoError("{}: cannot {} the file: {}", PrintablePath(path), action,
                   std::generic_category().message(error));
  };
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) return failed("create");
  const bool written =
      bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) return failed("write");
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return failed("rename");
  return OkStatus();
}

}  // namespace tidal
