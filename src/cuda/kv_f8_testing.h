// For tests: rows of an f8e4m3 cache, plainly by the format's definition.
#ifndef TIDAL_CUDA_KV_F8_TESTING_H_
#define TIDAL_CUDA_KV_F8_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace tidal {

// A sign, four bits of exponent (bias 7, 0: subnormal), three of mantissa; all seven set: NaN.
inline double E4m3Value(uint8_t code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

// The nearest number, of two as near the even one; 448 for what is larger.
inline uint8_t NearestE4m3(double x) {
  if (std::isnan(x)) return 0x7f;
  const double magnitude = std::abs(x);
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  uint8_t low = 0;
  uint8_t high = 0x7e;
  if (magnitude >= E4m3Value(high)) return sign | high;
  while (high - low > 1) {
    const auto middle = static_cast<uint8_t>((low + high) / 2);
    (E4m3Value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - E4m3Value(low);
  const double above = E4m3Value(high) - magnitude;
  const bool takes_low = below < above || (below == above && low % 2 == 0);
  return sign | (takes_low ? low : high);
}

struct F8Row {
  std::vector<uint8_t> codes;
  double scale = 1;

  double At(int32_t i) const { return E4m3Value(codes[static_cast<size_t>(i)]) * scale; }
};

// The scale is the smallest power of two from 2^-40 to 2^40 by which no element exceeds 448; a row
// with a NaN or an infinity is NaN throughout.
inline F8Row QuantisedRow(const std::vector<float>& row) {
  F8Row out;
  double most = 0;
  bool is_finite = true;
  for (const float x : row) {
    is_finite = is_finite && std::isfinite(x);
    most = std::max(most, std::abs(static_cast<double>(x)));
  }
  if (!is_finite) return {std::vector<uint8_t>(row.size(), 0x7f), 1};
  int exponent = -40;
  while (exponent < 40 && most > std::ldexp(448.0, exponent)) ++exponent;
  out.scale = std::ldexp(1.0, exponent);
  for (const float x : row) out.codes.push_back(NearestE4m3(static_cast<double>(x) / out.scale));
  return out;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_KV_F8_TESTING_H_
