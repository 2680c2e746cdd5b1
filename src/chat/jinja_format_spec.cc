#include "chat/jinja_format_spec.h"

#include <algorithm>
#include <cmath>

#include "base/math.h"
#include "chat/jinja_number.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

constexpr int64_t kMaxPrecision = 400;  // beyond it a double has no digits left

// A separator between every `size` digits before the point.
std::string Group(const std::string& digits, char separator, size_t size) {
  const size_t whole = std::min(digits.find_first_of(".eE"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % size == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out + digits.substr(whole);
}

std::string FormatMagnitude(double magnitude, const FormatSpec& spec) {
  if (std::isinf(magnitude)) return "inf";
  if (std::isnan(magnitude)) return "nan";
  const int precision =
      static_cast<int>(spec.precision < 0 ? 6 : std::min(spec.precision, kMaxPrecision));
  switch (spec.type | 0x20) {
    case 'e':
      return spec.alternate ? fmt::format("{:#.{}e}", magnitude, precision)
                            : fmt::format("{:.{}e}", magnitude, precision);
    case 'g':
      return spec.alternate ? fmt::format("{:#.{}g}", magnitude, precision)
                            : fmt::format("{:.{}g}", magnitude, precision);
    case 'f':
      return spec.alternate ? fmt::format("{:#.{}f}", magnitude, precision)
                            : FormatFixed(magnitude, precision);
    default:
      break;
  }
  if (spec.type == '%') return FormatFixed(magnitude * 100, precision) + "%";
  // No type: as str, or as g with a digit after the point.
  if (spec.precision < 0) return FormatFloat(magnitude);
  std::string text = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string Signed(bool negative, const FormatSpec& spec) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string Uppercase(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

}  // namespace

bool IsOneOf(char c, std::string_view set) {
  return c != '\0' && set.find(c) != std::string_view::npos;
}

bool ReadCount(std::string_view text, size_t* pos, int64_t* out) {
  int64_t value = 0;
  for (; *pos < text.size() && text[*pos] >= '0' && text[*pos] <= '9'; ++*pos) {
    if (!CheckedMul<int64_t>(value, 10, &value) ||
        !CheckedAdd<int64_t>(value, text[*pos] - '0', &value)) {
      return false;
    }
  }
  *out = value;
  return true;
}

Status CheckSpec(const Runtime& runtime, const FormatSpec& spec) {
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(spec.width));
  if (spec.precision > kMaxPrecision && spec.type != 's' && spec.type != '\0') {
    return InvalidArgument("expected a precision of at most {}, found {}", kMaxPrecision,
                           spec.precision);
  }
  return OkStatus();
}

std::string Pad(std::string text, size_t sign_size, const FormatSpec& spec, char default_align) {
  const int64_t missing = spec.width - CountCodePoints(text);
  if (missing <= 0) return text;
  const char align = spec.align != '\0' ? spec.align : default_align;
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string left;
  std::string right;
  for (int64_t i = 0; i < before; ++i) left += spec.fill;
  for (int64_t i = before; i < missing; ++i) right += spec.fill;
  if (align == '=') return text.substr(0, sign_size) + left + text.substr(sign_size);
  return left + text + right;
}

std::string FormatReal(double value, const FormatSpec& spec) {
  std::string digits = FormatMagnitude(std::fabs(value), spec);
  if (IsOneOf(spec.type, "EFG")) digits = Uppercase(std::move(digits));
  if (spec.grouping != '\0') digits = Group(digits, spec.grouping, 3);
  const std::string sign = Signed(std::signbit(value) && !std::isnan(value), spec);
  return Pad(sign + digits, sign.size(), spec, '>');
}

std::string FormatInteger(int64_t value, const FormatSpec& spec) {
  const uint64_t magnitude =
      value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      digits = fmt::format("{:x}", magnitude);
      prefix = "0x";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      prefix = "0b";
      break;
    default:
      digits = fmt::format("{}", magnitude);
  }
  if (spec.grouping != '\0') digits = Group(digits, spec.grouping, prefix.empty() ? 3 : 4);
  if (spec.precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  if (spec.type == 'X') {
    digits = Uppercase(std::move(digits));
    prefix = "0X";
  }
  const std::string sign = Signed(value < 0, spec) + (spec.alternate ? prefix : "");
  return Pad(sign + digits, sign.size(), spec, '>');
}

std::string FormatString(std::string text, const FormatSpec& spec) {
  if (spec.precision >= 0) text.resize(CodePointOffset(text, spec.precision));
  return Pad(std::move(text), 0, spec, '<');
}

}  // namespace tidal::jinja
