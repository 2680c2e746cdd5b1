// The best of a row of numbers.
#ifndef TIDAL_BASE_ARG_MAX_H_
#define TIDAL_BASE_ARG_MAX_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace tidal {

// Where the largest value is, the first among equals; -1 where none is above minus infinity, as NaN
// is not.
inline int64_t ArgMax(std::span<const float> values) {
  float best = -std::numeric_limits<float>::infinity();
  int64_t index = -1;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > best)) continue;
    best = values[i];
    index = static_cast<int64_t>(i);
  }
  return index;
}

}  // namespace tidal

#endif  // TIDAL_BASE_ARG_MAX_H_
