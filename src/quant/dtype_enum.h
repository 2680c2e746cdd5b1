// The element types of weights and caches: a header light enough for device code.
#ifndef TIDAL_QUANT_DTYPE_ENUM_H_
#define TIDAL_QUANT_DTYPE_ENUM_H_

#include <cstdint>

namespace tidal {

// Those that weights are kept as in memory come first.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kIQ4_NL,
  kIQ4_XS
};
inline constexpr int kNumDTypes = 15;
inline constexpr int kNumKeptDTypes = 11;

}  // namespace tidal

#endif  // TIDAL_QUANT_DTYPE_ENUM_H_
