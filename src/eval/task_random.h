// Random draws that are the same on every platform: those of the standard library's distributions
// and shuffles are not.
#ifndef TIDAL_EVAL_TASK_RANDOM_H_
#define TIDAL_EVAL_TASK_RANDOM_H_

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "sampler/random.h"

namespace tidal {

// A stream of draws, named by a seed and a text, so that streams of other names are independent of
// it. Not thread-safe.
class TaskRandom {
 public:
  TaskRandom(uint64_t seed, std::string_view name) : key_(seed) {
    // FNV-1a over the name, started from the seed.
    constexpr uint64_t kPrime = 0x100000001b3;
    key_ ^= 0xcbf29ce484222325;
    for (const char c : name) key_ = (key_ ^ static_cast<unsigned char>(c)) * kPrime;
  }

  // Uniform in [0, 1).
  double Uniform() { return UniformDraw(key_, draws_++); }
  // Uniform in [0, count). REQUIRES: 1 <= count <= 2^32.
  int64_t Below(int64_t count) {
    return std::min(static_cast<int64_t>(Uniform() * static_cast<double>(count)), count - 1);
  }
  template <typename T>
  const T& Pick(const std::vector<T>& values) {
    return values[static_cast<size_t>(Below(static_cast<int64_t>(values.size())))];
  }
  template <typename T>
  void Shuffle(std::vector<T>* values) {
    for (size_t i = values->size(); i > 1; --i)
      std::swap((*values)[i - 1], (*values)[static_cast<size_t>(Below(static_cast<int64_t>(i)))]);
  }

 private:
  uint64_t key_;
  uint64_t draws_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_RANDOM_H_
