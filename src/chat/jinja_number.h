// Numbers as Python reads and prints them, independent of the locale.
//
// Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_NUMBER_H_
#define TIDAL_CHAT_JINJA_NUMBER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidal::jinja {

// The double nearest to `text`, which is digits, a fraction and an exponent as in 12.5e-3; too
// large gives infinity.
double ParseDecimal(std::string_view text);

// Python's float(text): with space around, signs, underscores, inf and nan. Nothing where Python
// raises ValueError.
std::optional<double> ParseFloat(std::string_view text);

enum class IntParse : uint8_t { kOk, kInvalid, kTooLarge };
// Python's int(text, base), kTooLarge beyond 64 bits. REQUIRES: base is 0 or 2 to 36.
IntParse ParseInt(std::string_view text, int base, int64_t* value);

// repr(value): the shortest text that reads back as `value`.
std::string FormatFloat(double value);

// `digits` decimals in fixed notation, correctly rounded. REQUIRES: value is finite, 0 <= digits <=
// 400.
std::string FormatFixed(double value, int digits);

// round(value, digits) of Python: correctly rounded in decimal, halves to even. REQUIRES: value is
// finite.
double RoundDecimal(double value, int64_t digits);

// Whether value is a whole number that fits; *out has it.
bool DoubleToInt(double value, int64_t* out);

// Exact comparison of an integer with a double: -1, 0, 1; 2 where value is NaN.
int CompareIntDouble(int64_t integer, double value);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_NUMBER_H_
