// One line on a terminal that shows how far long work has come, at what rate, and what is left.
#ifndef TIDAL_CLI_PROGRESS_BAR_H_
#define TIDAL_CLI_PROGRESS_BAR_H_

#include <chrono>
#include <string>
#include <string_view>

#include "cli/console.h"

namespace tidal {

// The line alone, without control characters: `label`, a bar, the percentage, and what `detail`
// says; cut to `width` characters.
std::string ProgressLine(std::string_view label, double fraction, std::string_view detail,
                         int width, bool utf8);

// "0:07", "12:34", "1:02:03".
std::string FormatDuration(double seconds);

// Draws on the error stream where that is a terminal, nothing elsewhere. The line is taken away by
// Clear or at the end of its life. Work that is done in a blink draws nothing.
class ProgressBar {
 public:
  ProgressBar(const Console& console, std::string label);
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Draws if the last drawing is some time ago. `fraction` in [0, 1] of the work is done.
  void Update(double fraction, std::string_view detail = {});
  // The same for counted work: adds "1024/7211 tokens  2134 tokens/s". `already` of `done` were
  // there before the work began and do not count as work.
  void UpdateCount(int64_t done, int64_t total, std::string_view unit, int64_t already = 0);
  void Clear();

 private:
  using Clock = std::chrono::steady_clock;

  const Console& console_;
  std::string label_;
  Clock::time_point start_;
  Clock::time_point next_draw_;
  bool drawn_ = false;
};

}  // namespace tidal

#endif  // TIDAL_CLI_PROGRESS_BAR_H_
