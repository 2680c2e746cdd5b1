// Wall time of a scope, added to a sum.
#ifndef TIDAL_BASE_STOPWATCH_H_
#define TIDAL_BASE_STOPWATCH_H_

#include <chrono>

namespace tidal {

class Stopwatch {
 public:
  // Adds milliseconds to *ms, which outlives it, when it ends.
  explicit Stopwatch(double* ms) : ms_(ms), start_(Clock::now()) {}
  ~Stopwatch() { *ms_ += std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double* ms_;
  Clock::time_point start_;
};

}  // namespace tidal

#endif  // TIDAL_BASE_STOPWATCH_H_
