#include "tokenizer/utf8.h"

#include <cstring>

namespace tidal {
namespace {

// The bytes of a character that starts with `lead`, and the range of its second byte; length 0
// where none starts so.
struct LeadInfo {
  int length;
  uint8_t second_min;
  uint8_t second_max;
};

LeadInfo InfoOf(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};  // continuation bytes, and C0 C1, which could only be overlong
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};  // below A0: overlong
  if (lead == 0xED) return {3, 0x80, 0x9F};  // above 9F: surrogates
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};  // below 90: overlong
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};  // above 8F: past U+10FFFF
  return {0, 0, 0};
}

}  // namespace

Utf8Unit ReadUtf8(std::string_view text) {
  const LeadInfo info = InfoOf(static_cast<uint8_t>(text[0]));
  if (info.length == 0) return {Utf8Kind::kInvalid, 1};
  for (int i = 1; i < info.length; ++i) {
    if (static_cast<size_t>(i) == text.size()) return {Utf8Kind::kIncomplete, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? info.second_min : 0x80;
    const uint8_t high = i == 1 ? info.second_max : 0xBF;
    if (byte < low || byte > high) return {Utf8Kind::kInvalid, i};
  }
  return {Utf8Kind::kCharacter, info.length};
}

uint32_t CodePointOf(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(character[i]); };
  if (character.size() == 1) return byte(0);
  uint32_t code = byte(0) & (0x7Fu >> character.size());
  for (size_t i = 1; i < character.size(); ++i) code = code << 6 | (byte(i) & 0x3Fu);
  return code;
}

void AppendUtf8(uint32_t code, std::string* text) {
  const auto tail = [&](int shift) { *text += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    *text += static_cast<char>(code);
  } else if (code < 0x800) {
    *text += static_cast<char>(0xC0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    *text += static_cast<char>(0xE0 | (code >> 12));
    tail(6);
    tail(0);
  } else {
    *text += static_cast<char>(0xF0 | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

size_t ValidUtf8Prefix(std::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  size_t pos = 0;
  while (pos < text.size()) {
    if (text.size() - pos >= sizeof(uint64_t)) {
      uint64_t chunk;
      std::memcpy(&chunk, text.data() + pos, sizeof(chunk));
      if ((chunk & kHighBits) == 0) {
        pos += sizeof(chunk);
        continue;
      }
    }
    const Utf8Unit unit = ReadUtf8(text.substr(pos));
    if (unit.kind != Utf8Kind::kCharacter) break;
    pos += unit.length;
  }
  return pos;
}

void DrainUtf8(std::string* bytes, std::string* text) {
  std::string_view rest = *bytes;
  while (true) {
    const size_t valid = ValidUtf8Prefix(rest);
    text->append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Unit unit = ReadUtf8(rest);
    if (unit.kind == Utf8Kind::kIncomplete) break;
    text->append(kReplacementCharacter);
    rest.remove_prefix(unit.length);
  }
  bytes->erase(0, bytes->size() - rest.size());
}

}  // namespace tidal
