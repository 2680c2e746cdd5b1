// The options of one conversion, which both kinds of format share, and the text that they give.
//
// Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_FORMAT_SPEC_H_
#define TIDAL_CHAT_JINJA_FORMAT_SPEC_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "chat/jinja_runtime.h"

namespace tidal::jinja {

struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =, or none
  char sign = '-';    // - + or space
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';  // , or _
  int64_t precision = -1;
  char type = '\0';
};

// Whether c is one of the characters of `set`; never for '\0'.
bool IsOneOf(char c, std::string_view set);

// Digits at text[*pos], 0 for none; false where they pass 64 bits.
bool ReadCount(std::string_view text, size_t* pos, int64_t* out);

// Before a spec is used. Errors: kInvalidArgument for a width beyond the limits or an absurd
// precision.
Status CheckSpec(const Runtime& runtime, const FormatSpec& spec);

// Pads `text` to spec.width code points; `sign_size` leading bytes stay in front of '=' padding.
std::string Pad(std::string text, size_t sign_size, const FormatSpec& spec, char default_align);

// REQUIRES for each: CheckSpec(spec).
std::string FormatReal(double value, const FormatSpec& spec);
std::string FormatInteger(int64_t value, const FormatSpec& spec);
std::string FormatString(std::string text, const FormatSpec& spec);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_FORMAT_SPEC_H_
