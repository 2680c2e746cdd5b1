#include "chat/jinja_text.h"

#include <cstdint>
#include <fmt/format.h>
#include <iterator>

#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// \x, \u and \U: exactly `digits` hexadecimal digits at body[*pos].
std::string UnescapeHex(std::string_view body, int digits, size_t* pos, std::string* out) {
  uint32_t code = 0;
  for (int i = 0; i < digits; ++i, ++*pos) {
    const int value = *pos < body.size() ? HexValue(body[*pos]) : -1;
    if (value < 0) return fmt::format("expected {} hexadecimal digits in this escape", digits);
    code = code * 16 + static_cast<uint32_t>(value);
  }
  if (code > 0x10FFFF) return "this escape is beyond the last code point, 10FFFF";
  if (code >= 0xD800 && code < 0xE000) {
    return "this escape is half of a surrogate pair; write the character itself or \\U and eight "
           "digits";
  }
  AppendUtf8(code, out);
  return "";
}

void UnescapeOctal(std::string_view body, size_t* pos, std::string* out) {
  uint32_t code = 0;
  for (int i = 0; i < 3 && *pos < body.size() && body[*pos] >= '0' && body[*pos] <= '7'; ++i) {
    code = code * 8 + static_cast<uint32_t>(body[(*pos)++] - '0');
  }
  AppendUtf8(code, out);
}

// A code point in the form that Python's backslashreplace gives it, without the backslash.
std::string HexForm(char32_t code) {
  const auto value = static_cast<uint32_t>(code);
  if (value < 0x100) return fmt::format("x{:02x}", value);
  if (value < 0x10000) return fmt::format("u{:04x}", value);
  return fmt::format("U{:08x}", value);
}

}  // namespace

std::string Unescape(std::string_view body, std::string* out) {
  constexpr std::string_view kLetters = "\\'\"abfnrtv";
  constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  for (size_t pos = 0; pos < body.size();) {
    if (body[pos] != '\\') {
      out->push_back(body[pos++]);
      continue;
    }
    if (++pos == body.size()) return "a lone backslash ends this string";
    const char c = body[pos];
    const size_t known = kLetters.find(c);
    std::string problem;
    if (known != std::string_view::npos) {
      out->push_back(kMeanings[known]);
      ++pos;
    } else if (c == '\n') {
      ++pos;  // a joined line
    } else if (c == 'x' || c == 'u' || c == 'U') {
      ++pos;
      problem = UnescapeHex(body, c == 'x' ? 2 : c == 'u' ? 4 : 8, &pos, out);
    } else if (c >= '0' && c <= '7') {
      UnescapeOctal(body, &pos, out);
    } else if (c == 'N') {
      problem = "named characters (\\N{...}) are not supported; write the character itself";
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      // Jinja escapes such a character before it resolves escapes, so this backslash takes its
      // backslash.
      *out += '\\' + HexForm(DecodeUtf8(body, &pos));
    } else {
      out->push_back('\\');
    }
    if (!problem.empty()) return problem;
  }
  return "";
}

std::string Quote(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    if (code == static_cast<unsigned char>(quote) || code == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(code));
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (Contains(kPrintable, code)) {
      out += text.substr(begin, pos - begin);
    } else {
      out += '\\' + HexForm(code);
    }
  }
  out.push_back(quote);
  return out;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

void AppendJsonString(std::string_view text, JsonCharset charset, std::string* out) {
  constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
  constexpr std::string_view kLetters = "\"\\nrtfb";
  out->push_back('"');
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    const auto value = static_cast<uint32_t>(code);
    const size_t known =
        value < 0x80 ? kEscaped.find(static_cast<char>(code)) : std::string_view::npos;
    if (known != std::string_view::npos) {
      out->push_back('\\');
      out->push_back(kLetters[known]);
    } else if (value < 0x20 ||
               (charset == JsonCharset::kAscii && value >= 0x7F && value < 0x10000)) {
      *out += fmt::format("\\u{:04x}", value);
    } else if (charset == JsonCharset::kAscii && value >= 0x10000) {
      *out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((value - 0x10000) >> 10),
                          0xDC00 + (value & 0x3FF));
    } else {
      *out += text.substr(begin, pos - begin);
    }
  }
  out->push_back('"');
}

}  // namespace tidal::jinja
