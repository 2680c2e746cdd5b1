// Small integer helpers; the checked ones are for sizes that come from outside.
#ifndef TIDAL_BASE_MATH_H_
#define TIDAL_BASE_MATH_H_

#include <cstdint>

namespace tidal {

// REQUIRES: b >= 1. No overflow for any a.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }
// REQUIRES: multiple >= 1, and the result fits.
constexpr int64_t RoundUp(int64_t a, int64_t multiple) { return CeilDiv(a, multiple) * multiple; }

// False, and *out untouched, where the exact result does not fit.
template <typename T>
[[nodiscard]] bool CheckedMul(T a, T b, T* out) {
  T product;
  if (__builtin_mul_overflow(a, b, &product)) return false;
  *out = product;
  return true;
}
template <typename T>
[[nodiscard]] bool CheckedAdd(T a, T b, T* out) {
  T sum;
  if (__builtin_add_overflow(a, b, &sum)) return false;
  *out = sum;
  return true;
}

}  // namespace tidal

#endif  // TIDAL_BASE_MATH_H_
