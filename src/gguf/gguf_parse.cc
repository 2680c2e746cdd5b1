#include "gguf/gguf_parse.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/math.h"
#include "gguf/gguf_format.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr const char* kDamaged = "the file is damaged or its download incomplete";

// A position in the file that never passes its end.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> file) : file_(file) {}

  size_t position() const { return position_; }
  size_t remaining() const { return file_.size() - position_; }
  const std::byte* here() const { return file_.data() + position_; }

  // False, and nothing moved, where fewer bytes are left.
  [[nodiscard]] bool Skip(uint64_t bytes) {
    if (bytes > remaining()) return false;
    position_ += bytes;
    return true;
  }
  template <typename T>
  [[nodiscard]] bool Read(T* value) {
    if (sizeof(T) > remaining()) return false;
    *value = LoadUnaligned<T>(here());
    position_ += sizeof(T);
    return true;
  }
  [[nodiscard]] bool ReadString(std::string_view* value) {
    uint64_t length = 0;
    if (remaining() < sizeof(length)) return false;
    length = LoadUnaligned<uint64_t>(here());
    if (length > remaining() - sizeof(length)) return false;
    *value = {reinterpret_cast<const char*>(here()) + sizeof(length), length};
    position_ += sizeof(length) + length;
    return true;
  }

 private:
  std::span<const std::byte> file_;
  size_t position_ = 0;
};

class Parser {
 public:
  explicit Parser(std::span<const std::byte> file) : file_(file), cursor_(file) {}

  Result<GgufDirectory> Parse() {
    TIDAL_RETURN_IF_ERROR(ParseHeader());
    for (uint64_t i = 0; i < entry_count_; ++i) TIDAL_RETURN_IF_ERROR(ParseEntry(i));
    TIDAL_RETURN_IF_ERROR(FindAlignment());
    for (uint64_t i = 0; i < tensor_count_; ++i) TIDAL_RETURN_IF_ERROR(ParseTensor(i));
    directory_.directory_bytes = cursor_.position();
    TIDAL_RETURN_IF_ERROR(PlaceTensors());
    return std::move(directory_);
  }

 private:
  Status ParseHeader();
  Status CheckCount(const char* what, uint64_t count, uint64_t limit, uint64_t min_bytes) const;
  Status ParseName(const char* what, uint64_t index, std::string_view* name);
  Status ParseType(const std::string& where, const char* what, GgufType* type);
  Status ParseEntry(uint64_t index);
  Status SkipValue(const std::string& where, const GgufRawEntry& entry);
  Status SkipStrings(const std::string& where, uint64_t count);
  Status FindAlignment();
  Status ParseTensor(uint64_t index);
  Status ParseDims(const std::string& where, GgufTensor* tensor);
  Status PlaceTensors();

  Status Truncated(std::string_view what) const {
    return Corrupt("the file ends inside {} (byte {} of {}); {}", what, cursor_.position(),
                   file_.size(), kDamaged);
  }

  std::span<const std::byte> file_;
  Cursor cursor_;
  GgufDirectory directory_;
  uint64_t entry_count_ = 0;
  uint64_t tensor_count_ = 0;
  std::vector<uint64_t> tensor_offsets_;
};

Status Parser::ParseHeader() {
  char magic[sizeof(kGgufMagic)] = {};
  const size_t magic_bytes = std::min(sizeof(magic), file_.size());
  std::memcpy(magic, file_.data(), magic_bytes);
  if (std::memcmp(magic, kGgufMagic, magic_bytes) != 0) {
    return Corrupt(
        "it begins with \"{}\", expected \"GGUF\"; this is not a GGUF file (of a Hugging Face "
        "model "
        "name the folder)",
        Printable({magic, magic_bytes}));
  }
  if (!cursor_.Skip(sizeof(magic))) return Truncated("the magic number");
  uint32_t& version = directory_.version;
  if (!cursor_.Read(&version)) return Truncated("the version");
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= kGgufMaxVersion) {
    return Unsupported(
        "this is a big-endian file (its version reads {} byte-swapped); convert it to "
        "little-endian",
        swapped);
  }
  if (version < kGgufMinVersion || version > kGgufMaxVersion) {
    return Unsupported("GGUF version {} is not supported; supported are {} to {}", version,
                       kGgufMinVersion, kGgufMaxVersion);
  }
  if (!cursor_.Read(&tensor_count_)) return Truncated("the tensor count");
  if (!cursor_.Read(&entry_count_)) return Truncated("the metadata count");
  TIDAL_RETURN_IF_ERROR(
      CheckCount("metadata count", entry_count_, kGgufMaxEntries, kGgufMinEntryBytes));
  return CheckCount("tensor count", tensor_count_, kGgufMaxTensors, kGgufMinTensorBytes);
}

Status Parser::CheckCount(const char* what, uint64_t count, uint64_t limit,
                          uint64_t min_bytes) const {
  if (count > limit)
    return Corrupt("the {} is {}, expected at most {}; the file is damaged", what, count, limit);
  if (count > cursor_.remaining() / min_bytes) {
    return Corrupt("the {} is {}, but only {} bytes follow; {}", what, count, cursor_.remaining(),
                   kDamaged);
  }
  return OkStatus();
}

Status Parser::ParseName(const char* what, uint64_t index, std::string_view* name) {
  const size_t begin = cursor_.position();
  if (!cursor_.ReadString(name)) {
    uint64_t length = 0;
    if (!cursor_.Read(&length)) return Truncated(fmt::format("the name of {} {}", what, index));
    return Corrupt("the name of {} {} at byte {} has a length of {} bytes, but only {} follow; {}",
                   what, index, begin, length, cursor_.remaining(), kDamaged);
  }
  if (name->empty() || name->size() > kGgufMaxNameBytes) {
    return Corrupt(
        "the name of {} {} at byte {} has {} bytes, expected 1 to {}; the file is damaged", what,
        index, begin, name->size(), kGgufMaxNameBytes);
  }
  return OkStatus();
}

Status Parser::ParseType(const std::string& where, const char* what, GgufType* type) {
  uint32_t number = 0;
  if (!cursor_.Read(&number)) return Truncated(fmt::format("the {} of {}", what, where));
  if (number >= kGgufNumTypes) {
    return Corrupt("the {} of {} is {}, expected 0 to {}; the file is damaged", what, where, number,
                   kGgufNumTypes - 1);
  }
  *type = static_cast<GgufType>(number);
  return OkStatus();
}

Status Parser::ParseEntry(uint64_t index) {
  GgufRawEntry entry;
  TIDAL_RETURN_IF_ERROR(ParseName("metadata entry", index, &entry.key));
  const std::string where = fmt::format("metadata key {}", Printable(entry.key));
  TIDAL_RETURN_IF_ERROR(ParseType(where, "type", &entry.type));
  entry.element_type = entry.type;
  if (entry.type == GgufType::kArray) {
    TIDAL_RETURN_IF_ERROR(ParseType(where, "element type", &entry.element_type));
    if (entry.element_type == GgufType::kArray) {
      return Unsupported("{} is an array of arrays, which is not supported", where);
    }
    if (!cursor_.Read(&entry.count)) return Truncated(fmt::format("the count of {}", where));
  }
  entry.data = cursor_.here();
  TIDAL_RETURN_IF_ERROR(SkipValue(where, entry));
  directory_.entries.push_back(entry);
  return OkStatus();
}

Status Parser::SkipValue(const std::string& where, const GgufRawEntry& entry) {
  const bool strings = entry.element_type == GgufType::kString;
  const uint64_t min_bytes = strings ? kGgufMinStringBytes : GgufTypeBytes(entry.element_type);
  if (entry.count > cursor_.remaining() / min_bytes) {
    if (entry.type != GgufType::kArray) return Truncated(fmt::format("the value of {}", where));
    return Corrupt("{} has a count of {} elements, but only {} bytes follow; {}", where,
                   entry.count, cursor_.remaining(), kDamaged);
  }
  if (strings) return SkipStrings(where, entry.count);
  if (entry.element_type == GgufType::kBool) {
    const auto* end = entry.data + entry.count;
    const auto* bad = std::find_if(entry.data, end, [](std::byte b) { return b > std::byte{1}; });
    if (bad != end) {
      return Corrupt("{} has the bool {}, expected 0 or 1; the file is damaged", where,
                     std::to_integer<int>(*bad));
    }
  }
  if (!cursor_.Skip(entry.count * min_bytes)) return Truncated(where);
  return OkStatus();
}

Status Parser::SkipStrings(const std::string& where, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view ignored;
    if (cursor_.ReadString(&ignored)) continue;
    uint64_t length = 0;
    if (!cursor_.Read(&length)) return Truncated(fmt::format("string {} of {}", i, where));
    return Corrupt("string {} of {} has a length of {} bytes, but only {} follow; {}", i, where,
                   length, cursor_.remaining(), kDamaged);
  }
  return OkStatus();
}

Status Parser::FindAlignment() {
  directory_.alignment = kGgufDefaultAlignment;
  for (const GgufRawEntry& entry : directory_.entries) {
    if (entry.key != "general.alignment") continue;
    if (entry.type != GgufType::kUint32) {
      return Corrupt(
          "metadata key general.alignment has the type {}, expected {}; the file is damaged",
          NameOf(entry.type), NameOf(GgufType::kUint32));
    }
    directory_.alignment = LoadUnaligned<uint32_t>(entry.data);
  }
  if (!std::has_single_bit(directory_.alignment) || directory_.alignment < kGgufMinAlignment) {
    return Corrupt(
        "metadata key general.alignment is {}, expected a power of two of at least {}; the file is "
        "damaged",
        directory_.alignment, kGgufMinAlignment);
  }
  return OkStatus();
}

Status Parser::ParseTensor(uint64_t index) {
  GgufTensor tensor;
  TIDAL_RETURN_IF_ERROR(ParseName("tensor", index, &tensor.name));
  const std::string where = fmt::format("tensor {}", Printable(tensor.name));
  TIDAL_RETURN_IF_ERROR(ParseDims(where, &tensor));
  uint64_t offset = 0;
  if (!cursor_.Read(&tensor.ggml_type)) return Truncated(fmt::format("the type of {}", where));
  if (!cursor_.Read(&offset)) return Truncated(fmt::format("the offset of {}", where));
  if (offset % directory_.alignment != 0) {
    return Corrupt(
        "{} has the offset {}, expected a multiple of the alignment {}; the file is damaged", where,
        offset, directory_.alignment);
  }
  tensor_offsets_.push_back(offset);
  directory_.tensors.push_back(tensor);
  return OkStatus();
}

Status Parser::ParseDims(const std::string& where, GgufTensor* tensor) {
  uint32_t num_dims = 0;
  if (!cursor_.Read(&num_dims))
    return Truncated(fmt::format("the number of dimensions of {}", where));
  if (num_dims < 1 || num_dims > kGgufMaxDims) {
    return Corrupt("{} has {} dimensions, expected 1 to {}; the file is damaged", where, num_dims,
                   kGgufMaxDims);
  }
  tensor->num_dims = static_cast<int>(num_dims);
  int64_t elements = 1;
  for (int i = 0; i < tensor->num_dims; ++i) {
    uint64_t dim = 0;
    if (!cursor_.Read(&dim)) return Truncated(fmt::format("the dimensions of {}", where));
    if (dim < 1 || dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Corrupt("dimension {} of {} is {}, expected 1 to {}; the file is damaged", i, where,
                     dim, std::numeric_limits<int64_t>::max());
    }
    tensor->dims[i] = static_cast<int64_t>(dim);
    if (!CheckedMul(elements, tensor->dims[i], &elements)) {
      return Corrupt("{} has more than 2^63 elements; the file is damaged", where);
    }
  }
  return OkStatus();
}

Status Parser::PlaceTensors() {
  const auto alignment = uint64_t{directory_.alignment};
  const uint64_t data_begin = (cursor_.position() + alignment - 1) / alignment * alignment;
  for (size_t i = 0; i < directory_.tensors.size(); ++i) {
    GgufTensor& tensor = directory_.tensors[i];
    uint64_t begin = 0;
    if (!CheckedAdd(data_begin, tensor_offsets_[i], &begin) || begin >= file_.size()) {
      return Corrupt(
          "tensor {} begins {} bytes into the data at byte {}, past the end of the file's {} "
          "bytes; {}",
          Printable(tensor.name), tensor_offsets_[i], data_begin, file_.size(), kDamaged);
    }
    tensor.data = file_.data() + begin;
    tensor.available_bytes = file_.size() - begin;
  }
  return OkStatus();
}

}  // namespace

Result<GgufDirectory> ParseGguf(std::span<const std::byte> file) { return Parser(file).Parse(); }

}  // namespace tidal
