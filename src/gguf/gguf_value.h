// Metadata values read out of the file's bytes, and their text. Used inside this folder only.
#ifndef TIDAL_GGUF_GGUF_VALUE_H_
#define TIDAL_GGUF_GGUF_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "gguf/gguf_parse.h"

namespace tidal {

bool IsInteger(GgufType type);

// An integer of any width: its sign, and its value in two's complement.
struct GgufInteger {
  bool negative = false;
  uint64_t bits = 0;
};

// REQUIRES: IsInteger(type); `data` checked by ParseGguf, as below.
GgufInteger LoadInteger(GgufType type, const std::byte* data);

// One element, printable; a long string is cut.
std::string TextOfElement(GgufType type, const std::byte* data);

// A whole value, printable: of an array the first few elements.
std::string TextOf(const GgufRawEntry& entry);

// "uint32", "array of string".
std::string TypeText(const GgufRawEntry& entry);

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_VALUE_H_
