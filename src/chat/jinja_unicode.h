// UTF-8 text handled by code points, with the classes and case mappings of Python's str.
//
// A byte that is not part of valid UTF-8 counts as one code point, kInvalidByteBase + byte, and is
// written back as that byte, so no text is lost. Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_UNICODE_H_
#define TIDAL_CHAT_JINJA_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "chat/jinja_unicode_tables.h"

namespace tidal::jinja {

// In the surrogate range, where no valid text can be.
inline constexpr char32_t kInvalidByteBase = 0xDC00;

// The code point at text[*pos]; moves *pos past it. REQUIRES: *pos < text.size().
char32_t DecodeUtf8(std::string_view text, size_t* pos);
void AppendUtf8(char32_t code, std::string* out);

bool IsAscii(std::string_view text);
int64_t CountCodePoints(std::string_view text);
// The byte offset of code point `index`, text.size() where there are no more than `index`.
size_t CodePointOffset(std::string_view text, int64_t index);

std::string ReverseCodePoints(std::string_view text);

bool Contains(const CodeSet& set, char32_t code);
// Python's str.isspace for one code point.
bool IsSpace(char32_t code);
// Where Python's str.splitlines ends a line ("\r\n" counts as one there).
bool IsLineBreak(char32_t code);
bool IsIdentifierStart(char32_t code);
bool IsIdentifierPart(char32_t code);

std::string_view StripLeft(std::string_view text);
std::string_view StripRight(std::string_view text);
std::string_view Strip(std::string_view text);

// Each as the str method of that name in Python: full mappings, so the result may be longer than
// the text (at most 3x).
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string CaseFold(std::string_view text);
std::string SwapCase(std::string_view text);
std::string Capitalize(std::string_view text);
std::string ToTitle(std::string_view text);
bool IsUpperText(std::string_view text);
bool IsLowerText(std::string_view text);
bool IsTitleText(std::string_view text);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_UNICODE_H_
