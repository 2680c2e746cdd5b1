#include "gguf/gguf_file.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "gguf/gguf_format.h"
#include "gguf/gguf_parse.h"
#include "gguf/gguf_split.h"
#include "gguf/gguf_value.h"
#include "gguf/mapped_file.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

// Indices of `items` in the order of their names, for look-ups in O(log n) whatever the names are
// (an attacker picks them, so a hash table could be made slow).
template <typename Item, typename Name>
std::vector<uint32_t> SortedByName(const std::vector<Item>& items, Name name) {
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return name(items[a]) < name(items[b]); });
  return order;
}

template <typename Item, typename Name>
const Item* FindByName(const std::vector<Item>& items, const std::vector<uint32_t>& order,
                       std::string_view wanted, Name name) {
  const auto found =
      std::lower_bound(order.begin(), order.end(), wanted,
                       [&](uint32_t i, std::string_view w) { return name(items[i]) < w; });
  return found != order.end() && name(items[*found]) == wanted ? &items[*found] : nullptr;
}

// The first name that occurs twice.
template <typename Item, typename Name>
std::optional<std::string_view> FindDuplicate(const std::vector<Item>& items,
                                              const std::vector<uint32_t>& order, Name name) {
  const auto found = std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return name(items[a]) == name(items[b]);
  });
  if (found == order.end()) return std::nullopt;
  return name(items[*found]);
}

constexpr auto kKeyOf = [](const GgufRawEntry& entry) { return entry.key; };
constexpr auto kTensorName = [](const GgufTensor& tensor) { return tensor.name; };

// One mapped file and what is in it.
struct Part {
  std::string path;  // as in messages
  MappedFile mapping;
  GgufDirectory directory;
  std::vector<uint32_t> entry_order;
};

Status WrongType(const Part& part, const GgufRawEntry& entry, const char* expected) {
  return Corrupt(
      "{}: metadata key {} has the type {}, expected {}; the file is damaged or made for another "
      "program",
      part.path, Printable(entry.key), TypeText(entry), expected);
}

Result<const GgufRawEntry*> FindEntry(const Part& part, std::string_view key) {
  const GgufRawEntry* entry = FindByName(part.directory.entries, part.entry_order, key, kKeyOf);
  if (entry == nullptr)
    return NotFound("{}: metadata key {} is missing", part.path, Printable(key));
  return entry;
}

Result<const GgufRawEntry*> FindArray(const Part& part, std::string_view key,
                                      bool (*accepts)(GgufType), const char* expected) {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry, FindEntry(part, key));
  if (entry->type != GgufType::kArray || !accepts(entry->element_type))
    return WrongType(part, *entry, expected);
  return entry;
}

Result<uint64_t> LoadUint(const Part& part, std::string_view key) {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry, FindEntry(part, key));
  if (!IsInteger(entry->type)) return WrongType(part, *entry, "an integer");
  const GgufInteger value = LoadInteger(entry->type, entry->data);
  if (value.negative) {
    return Corrupt("{}: metadata key {} is {}, expected no negative number; the file is damaged",
                   part.path, Printable(key), TextOfElement(entry->type, entry->data));
  }
  return value.bits;
}

Result<Part> OpenPart(const std::string& path) {
  const std::string printable = PrintablePath(path);
  Result<MappedFile> mapping = MappedFile::Open(path);
  if (!mapping.ok()) return mapping.status().Annotate(printable);
  Result<GgufDirectory> directory = ParseGguf(mapping->bytes());
  if (!directory.ok()) return directory.status().Annotate(printable);
  Part part{printable, std::move(mapping).value(), std::move(directory).value(), {}};
  part.entry_order = SortedByName(part.directory.entries, kKeyOf);
  if (const auto duplicate = FindDuplicate(part.directory.entries, part.entry_order, kKeyOf)) {
    return Corrupt("{}: metadata key {} occurs twice; the file is damaged", printable,
                   Printable(*duplicate));
  }
  return part;
}

// A key that a split model must have.
Result<uint64_t> LoadSplitKey(const Part& part, std::string_view key) {
  Result<uint64_t> value = LoadUint(part, key);
  if (value.status().code() != StatusCode::kNotFound) return value;
  return Corrupt("{}: metadata key {} is missing, expected beside split.count; the file is damaged",
                 part.path, key);
}

// What the split keys of a file say; a file without them is the only one of its model.
struct SplitInfo {
  uint64_t number = 0;  // from 0
  uint64_t count = 1;
};

Result<SplitInfo> SplitInfoOf(const Part& part) {
  SplitInfo info;
  if (!FindEntry(part, "split.count").ok()) return info;
  TIDAL_ASSIGN_OR_RETURN(info.count, LoadUint(part, "split.count"));
  if (info.count <= 1) return SplitInfo{};
  TIDAL_ASSIGN_OR_RETURN(info.number, LoadSplitKey(part, "split.no"));
  if (info.number >= info.count) {
    return Corrupt(
        "{}: metadata key split.no is {}, expected less than split.count, {}; the file is damaged",
        part.path, info.number, info.count);
  }
  return info;
}

// The name of a split file, checked against its keys.
Result<SplitName> SplitNameOf(const std::string& path, const Part& part, const SplitInfo& info) {
  const std::optional<SplitName> name = ParseSplitName(path);
  if (info.number != 0) {
    return InvalidArgument("{}: this is file {} of a model split into {}; open the first one{}",
                           part.path, info.number + 1, info.count,
                           name ? ", " + PrintablePath(name->PathOf(1)) : "");
  }
  if (!name || name->number != 1 || name->count != info.count) {
    return Corrupt(
        "{}: this is the first file of a model split into {}, expected a name that ends in "
        "-00001-of-{:05}.gguf, by which the others are found; rename the files",
        part.path, info.count, info.count);
  }
  return *name;
}

// Opens the files after the first one.
Status OpenSisters(const SplitName& name, std::vector<Part>* parts) {
  for (uint64_t i = 1; i < name.count; ++i) {
    TIDAL_ASSIGN_OR_RETURN(Part part, OpenPart(name.PathOf(i + 1)));
    TIDAL_ASSIGN_OR_RETURN(const SplitInfo info, SplitInfoOf(part));
    if (info.number != i || info.count != name.count) {
      return Corrupt(
          "{}: its metadata says file {} of {}, expected file {} of {}; the files are mixed up",
          part.path, info.number + 1, info.count, i + 1, name.count);
    }
    parts->push_back(std::move(part));
  }
  return OkStatus();
}

}  // namespace

const char* NameOf(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return "uint8";
    case GgufType::kInt8:
      return "int8";
    case GgufType::kUint16:
      return "uint16";
    case GgufType::kInt16:
      return "int16";
    case GgufType::kUint32:
      return "uint32";
    case GgufType::kInt32:
      return "int32";
    case GgufType::kFloat32:
      return "float32";
    case GgufType::kBool:
      return "bool";
    case GgufType::kString:
      return "string";
    case GgufType::kArray:
      return "array";
    case GgufType::kUint64:
      return "uint64";
    case GgufType::kInt64:
      return "int64";
    case GgufType::kFloat64:
      return "float64";
  }
  return "unknown";
}

struct GgufFile::Impl {
  std::string path;
  std::vector<Part> parts;          // at least one; metadata is the first one's
  std::vector<GgufTensor> tensors;  // of all parts
  std::vector<uint32_t> tensor_order;

  const Part& first() const { return parts.front(); }
};

GgufFile::GgufFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

Result<GgufFile> GgufFile::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  TIDAL_ASSIGN_OR_RETURN(Part first_part, OpenPart(path));
  impl->parts.push_back(std::move(first_part));
  TIDAL_ASSIGN_OR_RETURN(const SplitInfo split, SplitInfoOf(impl->first()));
  if (split.count > 1) {
    TIDAL_ASSIGN_OR_RETURN(const SplitName name, SplitNameOf(path, impl->first(), split));
    TIDAL_RETURN_IF_ERROR(OpenSisters(name, &impl->parts));
  }
  for (size_t i = 0; i < impl->parts.size(); ++i) {
    for (GgufTensor tensor : impl->parts[i].directory.tensors) {
      tensor.file_index = static_cast<int>(i);
      impl->tensors.push_back(tensor);
    }
  }
  const std::string& where = impl->first().path;
  if (split.count > 1) {
    TIDAL_ASSIGN_OR_RETURN(const uint64_t expected,
                           LoadSplitKey(impl->first(), "split.tensors.count"));
    if (expected != impl->tensors.size()) {
      return Corrupt(
          "{}: metadata key split.tensors.count is {}, but the {} files have {} tensors; the files "
          "are mixed up",
          where, expected, split.count, impl->tensors.size());
    }
  }
  impl->tensor_order = SortedByName(impl->tensors, kTensorName);
  if (const auto duplicate = FindDuplicate(impl->tensors, impl->tensor_order, kTensorName)) {
    return Corrupt("{}: tensor {} occurs twice; the file is damaged", where, Printable(*duplicate));
  }
  return GgufFile(std::move(impl));
}

const std::string& GgufFile::path() const { return impl_->path; }
uint32_t GgufFile::version() const { return impl_->first().directory.version; }
int GgufFile::num_files() const { return static_cast<int>(impl_->parts.size()); }

uint64_t GgufFile::file_bytes() const {
  uint64_t bytes = 0;
  for (const Part& part : impl_->parts) bytes += part.mapping.bytes().size();
  return bytes;
}

bool GgufFile::Has(std::string_view key) const {
  const Part& part = impl_->first();
  return FindByName(part.directory.entries, part.entry_order, key, kKeyOf) != nullptr;
}

Result<uint64_t> GgufFile::GetUint(std::string_view key) const {
  return LoadUint(impl_->first(), key);
}

Result<double> GgufFile::GetFloat(std::string_view key) const {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry, FindEntry(impl_->first(), key));
  if (entry->type == GgufType::kFloat32) return double{LoadUnaligned<float>(entry->data)};
  if (entry->type == GgufType::kFloat64) return LoadUnaligned<double>(entry->data);
  if (!IsInteger(entry->type)) return WrongType(impl_->first(), *entry, "a number");
  const GgufInteger value = LoadInteger(entry->type, entry->data);
  return value.negative ? static_cast<double>(static_cast<int64_t>(value.bits))
                        : static_cast<double>(value.bits);
}

Result<bool> GgufFile::GetBool(std::string_view key) const {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry, FindEntry(impl_->first(), key));
  if (entry->type != GgufType::kBool) return WrongType(impl_->first(), *entry, "bool");
  return *entry->data != std::byte{0};
}

Result<std::string_view> GgufFile::GetString(std::string_view key) const {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry, FindEntry(impl_->first(), key));
  if (entry->type != GgufType::kString) return WrongType(impl_->first(), *entry, "string");
  return LoadString(entry->data);
}

Result<std::vector<std::string_view>> GgufFile::GetStringArray(std::string_view key) const {
  const auto accepts = [](GgufType type) { return type == GgufType::kString; };
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry,
                         FindArray(impl_->first(), key, accepts, "array of string"));
  std::vector<std::string_view> strings(entry->count);
  const std::byte* data = entry->data;
  for (std::string_view& string : strings) {
    string = LoadString(data);
    data += sizeof(uint64_t) + string.size();
  }
  return strings;
}

Result<std::vector<int64_t>> GgufFile::GetIntArray(std::string_view key) const {
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry,
                         FindArray(impl_->first(), key, IsInteger, "array of integers"));
  const uint64_t stride = GgufTypeBytes(entry->element_type);
  std::vector<int64_t> integers(entry->count);
  for (uint64_t i = 0; i < entry->count; ++i) {
    const GgufInteger value = LoadInteger(entry->element_type, entry->data + i * stride);
    if (!value.negative &&
        value.bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Corrupt(
          "{}: element {} of metadata key {} is {}, expected at most {}; the file is damaged",
          impl_->first().path, i, Printable(key), value.bits, std::numeric_limits<int64_t>::max());
    }
    integers[i] = static_cast<int64_t>(value.bits);
  }
  return integers;
}

Result<std::vector<float>> GgufFile::GetFloatArray(std::string_view key) const {
  const auto accepts = [](GgufType type) {
    return type == GgufType::kFloat32 || type == GgufType::kFloat64;
  };
  TIDAL_ASSIGN_OR_RETURN(const GgufRawEntry* const entry,
                         FindArray(impl_->first(), key, accepts, "array of floats"));
  const uint64_t stride = GgufTypeBytes(entry->element_type);
  std::vector<float> floats(entry->count);
  for (uint64_t i = 0; i < entry->count; ++i) {
    const std::byte* data = entry->data + i * stride;
    floats[i] = stride == sizeof(float) ? LoadUnaligned<float>(data)
                                        : static_cast<float>(LoadUnaligned<double>(data));
  }
  return floats;
}

std::span<const GgufTensor> GgufFile::tensors() const { return impl_->tensors; }

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  return FindByName(impl_->tensors, impl_->tensor_order, name, kTensorName);
}

std::vector<GgufEntry> GgufFile::Entries() const {
  std::vector<GgufEntry> entries;
  for (const GgufRawEntry& entry : impl_->first().directory.entries) {
    entries.push_back({entry.key, entry.type, entry.element_type, entry.count, TextOf(entry)});
  }
  return entries;
}

std::vector<std::span<const std::byte>> GgufFile::Heads() const {
  std::vector<std::span<const std::byte>> heads;
  for (const Part& part : impl_->parts)
    heads.push_back(part.mapping.bytes().first(part.directory.directory_bytes));
  return heads;
}

}  // namespace tidal
