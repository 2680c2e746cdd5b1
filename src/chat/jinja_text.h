// Escapes: those of string literals, of Python's repr and of HTML.
//
// Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_TEXT_H_
#define TIDAL_CHAT_JINJA_TEXT_H_

#include <string>
#include <string_view>

namespace tidal::jinja {

// Resolves the backslash escapes of a string literal as Python does (unknown ones stay as they
// are). Returns what is wrong with it, "" for nothing.
std::string Unescape(std::string_view body, std::string* out);

// repr(text): in quotes, with escapes for what cannot be printed.
std::string Quote(std::string_view text);

// &, <, >, ' and " as character references.
std::string EscapeHtml(std::string_view text);

// `text` as a JSON string in quotes, as json.dumps writes it.
enum class JsonCharset : bool { kUnicode, kAscii };
void AppendJsonString(std::string_view text, JsonCharset charset, std::string* out);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_TEXT_H_
