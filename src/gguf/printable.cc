#include "gguf/printable.h"

#include <cstdint>
#include <fmt/format.h>
#include <limits>

namespace tidal {
namespace {

// The length of the printable UTF-8 character that `bytes` starts with; 0 where it starts with
// none. Overlong forms, surrogates, values past U+10FFFF and control characters are none.
size_t PrintableCharacter(std::string_view bytes) {
  const auto byte = [bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  if (byte(0) < 0x80) return byte(0) >= 0x20 && byte(0) != 0x7f ? 1 : 0;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || bytes.size() < length) return 0;
  uint32_t code_point = byte(0) & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code_point = (code_point << 6) | (byte(i) & 0x3fU);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0xa0, 0x800,
                                    0x10000};  // U+0080 to U+009F are control characters
  if (code_point < kSmallest[length] || code_point > 0x10ffff) return 0;
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  const bool line_break = code_point == 0x2028 || code_point == 0x2029;
  return surrogate || line_break ? 0 : length;
}

}  // namespace

std::string Printable(std::string_view bytes, size_t max_bytes) {
  std::string out;
  while (!bytes.empty()) {
    if (out.size() >= max_bytes) return out + "...";
    size_t length = PrintableCharacter(bytes);
    if (length > 0) {
      out += bytes.substr(0, length);
    } else {
      length = 1;
      if (bytes[0] == '\n') {
        out += "\\n";
      } else if (bytes[0] == '\t') {
        out += "\\t";
      } else {
        out += fmt::format("\\x{:02x}", static_cast<uint8_t>(bytes[0]));
      }
    }
    bytes.remove_prefix(length);
  }
  return out;
}

std::string PrintablePath(std::string_view path) {
  return Printable(path, std::numeric_limits<size_t>::max());
}

}  // namespace tidal
