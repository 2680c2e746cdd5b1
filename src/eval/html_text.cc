#include "eval/html_text.h"

#include <cmath>
#include <fmt/format.h>

namespace tidal {

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f)
          escaped += "\xef\xbf\xbd";
        else
          escaped += c;
    }
  }
  return escaped;
}

std::string CsvField(std::string_view text) {
  constexpr std::string_view kFormulaStarts = "=+-@\t\r";
  std::string field;
  if (!text.empty() && kFormulaStarts.find(text[0]) != std::string_view::npos) field += '\'';
  field += text;
  if (field.find_first_of("\",\r\n") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string ShortFigure(double value, int digits) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  const double size = std::fabs(value);
  if (size == 0) return "0";
  if (size >= 1e-4 && size < 1e7) {
    const int before = size < 1 ? 0 : static_cast<int>(std::floor(std::log10(size))) + 1;
    const int leading = size < 1 ? -static_cast<int>(std::floor(std::log10(size))) - 1 : 0;
    return fmt::format("{:.{}f}", value, before >= digits ? 0 : digits - before + leading);
  }
  return fmt::format("{:.{}g}", value, digits);
}

}  // namespace tidal
