#include "gguf/gguf_value.h"

#include <algorithm>
#include <type_traits>

#include "gguf/gguf_format.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

constexpr size_t kListedStringBytes = 80;
constexpr uint64_t kListedElements = 8;

template <typename T>
GgufInteger LoadIntegerOf(const std::byte* data) {
  const T value = LoadUnaligned<T>(data);
  if constexpr (std::is_signed_v<T>) return {value < 0, static_cast<uint64_t>(int64_t{value})};
  return {false, static_cast<uint64_t>(value)};
}

// Bytes from one element to the next.
uint64_t StrideOf(GgufType type, const std::byte* data) {
  return type == GgufType::kString ? sizeof(uint64_t) + LoadString(data).size()
                                   : GgufTypeBytes(type);
}

}  // namespace

bool IsInteger(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kUint16:
    case GgufType::kInt16:
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kUint64:
    case GgufType::kInt64:
      return true;
    default:
      return false;
  }
}

GgufInteger LoadInteger(GgufType type, const std::byte* data) {
  switch (type) {
    case GgufType::kUint8:
      return LoadIntegerOf<uint8_t>(data);
    case GgufType::kInt8:
      return LoadIntegerOf<int8_t>(data);
    case GgufType::kUint16:
      return LoadIntegerOf<uint16_t>(data);
    case GgufType::kInt16:
      return LoadIntegerOf<int16_t>(data);
    case GgufType::kUint32:
      return LoadIntegerOf<uint32_t>(data);
    case GgufType::kInt32:
      return LoadIntegerOf<int32_t>(data);
    case GgufType::kUint64:
      return LoadIntegerOf<uint64_t>(data);
    default:
      return LoadIntegerOf<int64_t>(data);
  }
}

std::string TextOfElement(GgufType type, const std::byte* data) {
  if (type == GgufType::kString) return Printable(LoadString(data), kListedStringBytes);
  if (type == GgufType::kBool) return *data == std::byte{0} ? "false" : "true";
  if (type == GgufType::kFloat32) return fmt::format("{}", LoadUnaligned<float>(data));
  if (type == GgufType::kFloat64) return fmt::format("{}", LoadUnaligned<double>(data));
  const GgufInteger value = LoadInteger(type, data);
  return value.negative ? fmt::format("{}", static_cast<int64_t>(value.bits))
                        : fmt::format("{}", value.bits);
}

std::string TextOf(const GgufRawEntry& entry) {
  if (entry.type != GgufType::kArray) return TextOfElement(entry.type, entry.data);
  std::string text = "[";
  const std::byte* data = entry.data;
  const uint64_t listed = std::min(entry.count, kListedElements);
  for (uint64_t i = 0; i < listed; ++i) {
    text += (i == 0 ? "" : ", ") + TextOfElement(entry.element_type, data);
    data += StrideOf(entry.element_type, data);
  }
  return text + (entry.count > listed ? ", ...]" : "]");
}

std::string TypeText(const GgufRawEntry& entry) {
  if (entry.type != GgufType::kArray) return NameOf(entry.type);
  return fmt::format("array of {}", NameOf(entry.element_type));
}

}  // namespace tidal
