// Small integer helpers; the checked ones are for sizes that come from outside.
#ifndef TIDAL_BASE_MATH_H_
#define TIDAL_BASE_MATH_H_

#include <cstdint>

namespace tidal {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t multiple) { return CeilDiv(a, multiple) * multiple; }

// False, and *out untouched, where the exact result does not fit.
template <typename T>
[[nodiscard]] bool CheckedMul(T a, T b, T* out) {
  return !__builtin_mul_overflow(a, b, out);
}
template <typename T>
[[nodiscard]] bool CheckedAdd(T a, T b, T* out) {
  return !__builtin_add_overflow(a, b, out);
}

}  // namespace tidal

#endif  // TIDAL_BASE_MATH_H_
