// UTF-8 well-formedness, as in table 3-7 of the Unicode Standard.
#ifndef TIDAL_TOKENIZER_UTF8_H_
#define TIDAL_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tidal {

enum class Utf8Kind : uint8_t {
  kCharacter,   // One whole character.
  kIncomplete,  // The text ends inside a character that more bytes could complete.
  kInvalid,     // Never the start of a character, whatever follows.
};

struct Utf8Unit {
  Utf8Kind kind;
  int length;  // Bytes, 1 to 4. For kInvalid and kIncomplete: the maximal subpart (section 3.9).
};

// What `text` starts with. REQUIRES: text is not empty.
Utf8Unit ReadUtf8(std::string_view text);

// REQUIRES: `character` is one whole, valid character.
uint32_t CodePointOf(std::string_view character);
// REQUIRES: a code point that is no surrogate, at most 0x10FFFF.
void AppendUtf8(uint32_t code, std::string* text);

// Bytes of the longest prefix that is whole, valid characters.
size_t ValidUtf8Prefix(std::string_view text);

// Moves whole characters from the front of *bytes to the end of *text; each maximal subpart that
// can never become one turns into U+FFFD. What stays in *bytes is an incomplete character (at most
// 3 bytes) or nothing.
void DrainUtf8(std::string* bytes, std::string* text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_UTF8_H_
