#include "hf/safetensors_writer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/math.h"
#include "gguf/gguf_writer.h"
#include "hf/json_file.h"

namespace tidal {

void SafetensorsWriter::Add(std::string name, std::string dtype, std::vector<int64_t> shape,
                            std::vector<std::byte> data) {
  tensors_.push_back({std::move(name), std::move(dtype), std::move(shape), std::move(data)});
}

bool SafetensorsWriter::Remove(std::string_view name) {
  return std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; }) > 0;
}

std::vector<std::string> SafetensorsWriter::Names() const {
  std::vector<std::string> names;
  for (const Tensor& tensor : tensors_) names.push_back(tensor.name);
  return names;
}

std::string SafetensorsWriter::Header() const {
  constexpr int64_t kAlignment = 8;
  JsonValue header = JsonValue::object();
  header["__metadata__"] = {{"format", "pt"}};
  size_t begin = 0;
  for (const Tensor& tensor : tensors_) {
    const size_t end = begin + tensor.data.size();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump(-1, ' ', false, JsonValue::error_handler_t::replace);
  const auto size = static_cast<int64_t>(text.size());
  text.append(static_cast<size_t>(RoundUp(size, kAlignment) - size), ' ');
  return text;
}

std::vector<std::byte> SafetensorsWriter::BuildWith(std::string_view header) const {
  std::vector<std::byte> bytes;
  for (int shift = 0; shift < 64; shift += 8)
    bytes.push_back(static_cast<std::byte>(uint64_t{header.size()} >> shift));
  const auto text = std::as_bytes(std::span(header));
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (const Tensor& tensor : tensors_)
    bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
  return bytes;
}

Status SafetensorsWriter::WriteFile(const std::string& path) const {
  return WriteWholeFile(path, Build());
}

}  // namespace tidal
