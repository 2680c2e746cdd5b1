#include "chat/jinja_number.h"

#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The text without the underscores that stand between digits; nothing where one stands elsewhere.
std::optional<std::string> DropUnderscores(std::string_view text) {
  std::string out;
  const auto is_alnum = [](char c) {
    return IsDigit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !is_alnum(text[i - 1]) || !is_alnum(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] | 0x20) : text[i];
    if (c != lower[i]) return false;
  }
  return true;
}

// digits [. digits] [e [sign] digits], with a digit on at least one side of the point.
bool IsDecimal(std::string_view text) {
  size_t pos = 0;
  size_t count = 0;
  for (; pos < text.size() && IsDigit(text[pos]); ++pos) ++count;
  if (pos < text.size() && text[pos] == '.') {
    for (++pos; pos < text.size() && IsDigit(text[pos]); ++pos) ++count;
  }
  if (count == 0) return false;
  if (pos == text.size()) return true;
  if ((text[pos] | 0x20) != 'e') return false;
  ++pos;
  if (pos < text.size() && (text[pos] == '+' || text[pos] == '-')) ++pos;
  const size_t exponent = pos;
  while (pos < text.size() && IsDigit(text[pos])) ++pos;
  return pos > exponent && pos == text.size();
}

}  // namespace

double ParseDecimal(std::string_view text) {
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc::result_out_of_range) return value;
  // Out of range on either side; which one shows in the sign of the exponent, or in the leading
  // zero.
  const size_t exponent = text.find_first_of("eE");
  const bool tiny = exponent == std::string_view::npos ? text.substr(0, 1) == "0"
                                                       : text.substr(exponent + 1, 1) == "-";
  return tiny ? 0.0 : std::numeric_limits<double>::infinity();
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> clean = DropUnderscores(Strip(text));
  if (!clean) return std::nullopt;
  std::string_view digits = *clean;
  double sign = 1;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    if (digits[0] == '-') sign = -1;
    digits.remove_prefix(1);
  }
  if (EqualsIgnoringCase(digits, "inf") || EqualsIgnoringCase(digits, "infinity")) {
    return sign * std::numeric_limits<double>::infinity();
  }
  if (EqualsIgnoringCase(digits, "nan")) return std::numeric_limits<double>::quiet_NaN();
  if (!IsDecimal(digits)) return std::nullopt;
  return sign * ParseDecimal(digits);
}

IntParse ParseInt(std::string_view text, int base, int64_t* value) {
  std::string_view digits = Strip(text);
  bool negative = false;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    negative = digits[0] == '-';
    digits.remove_prefix(1);
  }
  bool underscore_may_follow = false;
  if (digits.size() > 2 && digits[0] == '0') {
    const char marker = static_cast<char>(digits[1] | 0x20);
    const int prefixed = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
    if (prefixed != 0 && (base == prefixed || base == 0)) {
      digits.remove_prefix(2);
      base = prefixed;
      underscore_may_follow = true;
    }
  }
  if (underscore_may_follow && digits[0] == '_') digits.remove_prefix(1);
  const bool base_by_prefix = base == 0;
  if (base_by_prefix) base = 10;
  const std::optional<std::string> clean = DropUnderscores(digits);
  if (!clean || clean->empty()) return IntParse::kInvalid;
  // Without a prefix, base 0 takes no leading zeros.
  if (base_by_prefix && (*clean)[0] == '0' && clean->find_first_not_of('0') != std::string::npos) {
    return IntParse::kInvalid;
  }
  const std::string signed_digits = (negative ? "-" : "") + *clean;
  const char* end = signed_digits.data() + signed_digits.size();
  const char* begin = signed_digits.data();
  if ((*clean)[0] == '-') return IntParse::kInvalid;
  const auto result = std::from_chars(begin, end, *value, base);
  if (result.ec == std::errc::invalid_argument || result.ptr != end) return IntParse::kInvalid;
  return result.ec == std::errc() ? IntParse::kOk : IntParse::kTooLarge;
}

std::string FormatFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), std::fabs(value),
                                    std::chars_format::scientific);
  const std::string_view scientific(buffer, static_cast<size_t>(result.ptr - buffer));
  const size_t e = scientific.find('e');
  int exponent = 0;
  const size_t sign = scientific[e + 1] == '+' ? 1 : 0;
  std::from_chars(buffer + e + 1 + sign, result.ptr, exponent);
  std::string digits(scientific.substr(0, 1));
  if (e > 2) digits += scientific.substr(2, e - 2);

  std::string out = std::signbit(value) ? "-" : "";
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent + 1);
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string FormatFixed(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }

double RoundDecimal(double value, int64_t digits) {
  // A double has no decimals beyond 2^-1074, and none above 10^308.
  constexpr int64_t kMostDecimals = 340;
  constexpr int64_t kMostZeros = 308;
  if (digits > kMostDecimals) return value;
  if (digits >= 0) {
    const std::string text = FormatFixed(std::fabs(value), static_cast<int>(digits));
    return std::copysign(ParseDecimal(text), value);
  }
  if (digits < -kMostZeros) return std::copysign(0.0, value);
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / unit) * unit;
}

bool DoubleToInt(double value, int64_t* out) {
  if (!(value >= -0x1p63 && value < 0x1p63) || value != std::trunc(value)) return false;
  *out = static_cast<int64_t>(value);
  return true;
}

int CompareIntDouble(int64_t integer, double value) {
  if (std::isnan(value)) return 2;
  if (value >= 0x1p63) return -1;
  if (value < -0x1p63) return 1;
  const double whole = std::trunc(value);
  const auto truncated = static_cast<int64_t>(whole);
  if (integer != truncated) return integer < truncated ? -1 : 1;
  return value > whole ? -1 : value < whole ? 1 : 0;
}

}  // namespace tidal::jinja
