// What a calibration has measured so far, also in a file, so that a run that was stopped goes on
// where it was. The search depends on measurements only: asked again, it takes the same way through
// those that are there already.
//
// The file is JSON lines. The first says what all measurements depend on; each other one holds the
// rows of one plan on one window: {"window", "plan", "kl": [...], "extra_nats": [...]}. Lines are
// appended; a last one that was cut off does not count.
#ifndef TIDAL_EVAL_CALIBRATION_LOG_H_
#define TIDAL_EVAL_CALIBRATION_LOG_H_

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tidal {

// One plan's losses on the first decoded rows of a window.
struct PlanRows {
  std::vector<float> kl;  // to full attention, nats
  std::vector<float> extra_nats;

  size_t size() const { return kl.size(); }
};

// What all measurements of a log depend on, as pairs of a name and a value, for comparison.
using CalibrationSetup = std::vector<std::pair<std::string, std::string>>;

class CalibrationLog {
 public:
  CalibrationLog() = default;  // in memory only

  // Goes on with the file at `path`, or begins one. Errors: kIo; kCorrupt (not such a file);
  // kInvalidArgument (made with another setup: names the first difference).
  static Result<CalibrationLog> Open(const std::string& path, const CalibrationSetup& setup);

  // Null where the log has not so many rows of it.
  const PlanRows* Find(std::string_view window, std::string_view plan, size_t num_rows) const;
  // Keeps the rows, in place of fewer, and appends them to the file. kIo.
  Status Add(std::string_view window, std::string_view plan, PlanRows rows);

  // How many plans on how many windows came from the file.
  int64_t num_read() const { return num_read_; }

 private:
  Status Read(const std::string& text, const CalibrationSetup& setup);
  Status Append(const std::string& line);
  static std::string KeyOf(std::string_view window, std::string_view plan);

  std::map<std::string, PlanRows> rows_;  // by KeyOf
  std::string path_;                      // empty: none
  std::ofstream file_;
  int64_t num_read_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_LOG_H_
