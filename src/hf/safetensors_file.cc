#include "hf/safetensors_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "base/math.h"
#include "gguf/printable.h"
#include "hf/json_file.h"

namespace tidal {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr size_t kSizeBytes = 8;
constexpr size_t kMaxDims = 8;
constexpr const char* kDamaged = "the file is damaged or its download is incomplete";

struct ElementType {
  const char* name;
  int64_t bytes;
};
constexpr ElementType kElementTypes[] = {{"F64", 8},     {"F32", 4},     {"F16", 2}, {"BF16", 2},
                                         {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4},
                                         {"I16", 2},     {"I8", 1},      {"U64", 8}, {"U32", 4},
                                         {"U16", 2},     {"U8", 1},      {"BOOL", 1}};

// A tensor of the header, before it is tied to its bytes.
struct Entry {
  SafetensorsTensor tensor;
  int64_t begin = 0;
  int64_t end = 0;
};

Result<int64_t> ElementBytes(std::string_view where, std::string_view dtype) {
  const auto* type = std::ranges::find(
      kElementTypes, dtype, [](const ElementType& t) { return std::string_view(t.name); });
  if (type != std::end(kElementTypes)) return type->bytes;
  return Unsupported("{}: the type \"{}\" is not known; models have F32, F16 or BF16", where,
                     Printable(dtype));
}

Status ReadShape(const JsonFields& fields, std::vector<int64_t>* shape) {
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const dims, fields.Array("shape"));
  if (dims->size() > kMaxDims) {
    return Corrupt("{}: the shape has {} dimensions, expected at most {}", fields.where(),
                   dims->size(), kMaxDims);
  }
  for (const JsonValue& dim : *dims) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t{1} << 48)
      return fields.WrongValue("shape", "a list of counts up to 2^48");
    shape->push_back(dim.get<int64_t>());
  }
  return OkStatus();
}

Status ReadOffsets(const JsonFields& fields, uint64_t data_bytes, Entry* entry) {
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const offsets, fields.Array("data_offsets"));
  const auto fits = [&](const JsonValue& offset) {
    return offset.is_number_unsigned() && offset.get<uint64_t>() <= data_bytes;
  };
  if (offsets->size() != 2 || !fits((*offsets)[0]) || !fits((*offsets)[1]) ||
      (*offsets)[0].get<int64_t>() > (*offsets)[1].get<int64_t>()) {
    return fields.WrongValue(
        "data_offsets",
        fmt::format("begin and end within the {} bytes of data; {}", data_bytes, kDamaged));
  }
  entry->begin = (*offsets)[0].get<int64_t>();
  entry->end = (*offsets)[1].get<int64_t>();
  return OkStatus();
}

Result<Entry> ReadEntry(const std::string& path, const std::string& name, const JsonValue& value,
                        uint64_t data_bytes) {
  const std::string where = fmt::format("{}: tensor {}", path, Printable(name));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(where, value));
  Entry entry;
  entry.tensor.name = name;
  TIDAL_ASSIGN_OR_RETURN(entry.tensor.dtype, fields.Text("dtype"));
  TIDAL_RETURN_IF_ERROR(ReadShape(fields, &entry.tensor.shape));
  TIDAL_RETURN_IF_ERROR(ReadOffsets(fields, data_bytes, &entry));
  TIDAL_ASSIGN_OR_RETURN(int64_t bytes, ElementBytes(where, entry.tensor.dtype));
  for (const int64_t dim : entry.tensor.shape) {
    if (!CheckedMul(bytes, dim, &bytes)) {
      return Corrupt("{}: the shape {} has more than 2^63 bytes; {}", where,
                     ShapeText(entry.tensor.shape), kDamaged);
    }
  }
  if (bytes != entry.end - entry.begin) {
    return Corrupt("{}: {} of shape {} takes {} bytes, but {} are given; {}", where,
                   entry.tensor.dtype, ShapeText(entry.tensor.shape), bytes,
                   entry.end - entry.begin, kDamaged);
  }
  return entry;
}

// The tensors one after the other, in the order of their places, make up all of the data.
Status CheckCover(const std::string& path, const std::vector<Entry>& entries, uint64_t data_bytes) {
  std::vector<const Entry*> order;
  for (const Entry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  int64_t end = 0;
  for (const Entry* entry : order) {
    if (entry->begin != end) {
      return Corrupt(
          "{}: tensor {} begins at byte {} of the data, expected {}, where the one "
          "before it ends; {}",
          path, Printable(entry->tensor.name), entry->begin, end, kDamaged);
    }
    end = entry->end;
  }
  if (static_cast<uint64_t>(end) == data_bytes) return OkStatus();
  return Corrupt("{}: the tensors end after {} bytes, but there are {} bytes of data; {}", path,
                 end, data_bytes, kDamaged);
}

}  // namespace

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  Result<MappedFile> mapping = MappedFile::Open(path);
  if (!mapping.ok()) return mapping.status().Annotate(PrintablePath(path));
  SafetensorsFile file(PrintablePath(path), std::move(mapping).value());
  TIDAL_RETURN_IF_ERROR(file.ReadHeader());
  return file;
}

std::span<const std::byte> SafetensorsFile::header() const {
  uint64_t size = 0;
  std::memcpy(&size, bytes().data(), kSizeBytes);
  return bytes().subspan(kSizeBytes, size);
}

Status SafetensorsFile::ReadHeader() {
  if (bytes().size() < kSizeBytes) {
    return Corrupt("{}: the file has {} bytes, expected the {} of a header's size and more; {}",
                   path_, bytes().size(), kSizeBytes, kDamaged);
  }
  uint64_t size = 0;
  std::memcpy(&size, bytes().data(), kSizeBytes);
  const uint64_t room = bytes().size() - kSizeBytes;
  if (size > room || size > kMaxSafetensorsHeaderBytes) {
    return Corrupt("{}: the header has {} bytes, expected at most the {} that follow and {}; {}",
                   path_, size, room, kMaxSafetensorsHeaderBytes, kDamaged);
  }
  const std::span<const std::byte> text = header();
  Result<JsonValue> json =
      ParseJson(std::string_view(reinterpret_cast<const char*>(text.data()), text.size()));
  if (!json.ok()) return json.status().Annotate(path_ + ": the header");
  TIDAL_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(path_ + ": the header", *json));
  const std::span<const std::byte> data = bytes().subspan(kSizeBytes + size);
  std::vector<Entry> entries;
  for (const auto& [name, value] : fields.object().items()) {
    if (name == "__metadata__") continue;
    TIDAL_ASSIGN_OR_RETURN(Entry entry, ReadEntry(path_, name, value, data.size()));
    entries.push_back(std::move(entry));
  }
  TIDAL_RETURN_IF_ERROR(CheckCover(path_, entries, data.size()));
  for (Entry& entry : entries) {
    entry.tensor.data = data.subspan(static_cast<size_t>(entry.begin),
                                     static_cast<size_t>(entry.end - entry.begin));
    tensors_.push_back(std::move(entry.tensor));
  }
  return OkStatus();
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view name) const {
  // The header's keys come sorted from the parsed object.
  const auto found = std::ranges::lower_bound(
      tensors_, name, {}, [](const SafetensorsTensor& t) { return std::string_view(t.name); });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace tidal
