// Losses of plans on windows of texts, each measured once: a window is prefilled when it is first
// needed and stays, and every loss comes from the log where that has it.
#ifndef TIDAL_EVAL_CALIBRATION_METER_H_
#define TIDAL_EVAL_CALIBRATION_METER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/calibration_log.h"
#include "eval/calibration_progress.h"
#include "eval/loss.h"
#include "eval/window.h"

namespace tidal {

class CalibrationMeter {
 public:
  // So many plans are decoded side by side, beside full attention, in as many windows as make about
  // so many rows of a step.
  static constexpr int32_t kPlansAtOnce = 32;
  static constexpr int32_t kRowsAtOnce = 96;

  // Each text's window is its first prefill + decode + 1 tokens. All is borrowed; the engine has
  // what Needs says. REQUIRES: texts that are long enough.
  CalibrationMeter(Engine* engine, std::span<const EvalDocument> texts, int32_t prefill,
                   int32_t decode, CalibrationLog* log, CalibrationProgress* progress);

  static EvalNeeds Needs(size_t num_texts, int32_t prefill, int32_t decode);

  // Sees to it that the losses of these plans by the first `num_rows` (1 to decode) rows of every
  // window are known. Errors: those of the engine and of the log; kCancelled.
  Status Measure(std::span<const std::string> plans, int32_t num_rows);

  // Of a plan that was measured by at least so many rows: means over rows, of all windows and of
  // each.
  struct Loss {
    double kl = 0;
    double extra_nats = 0;
  };
  Loss MeanOf(const std::string& plan, int32_t num_rows) const;
  std::vector<Loss> WindowMeans(const std::string& plan, int32_t num_rows) const;

  // The first window, prefilled.
  Result<const Window*> FirstWindow() { return Opened(0); }

 private:
  struct Place {
    std::string name;  // in the log
    std::span<const TokenId> tokens;
    std::optional<Window> window;
  };

  Result<const Window*> Opened(size_t place);
  // The plans that the log does not have there by so many rows.
  std::vector<std::string> MissingAt(size_t place, std::span<const std::string> plans,
                                     int32_t num_rows) const;
  // In windows that all lack the same plans.
  Status MeasureAt(std::span<const size_t> places, std::span<const std::string> plans,
                   int32_t num_rows);

  Engine* engine_;
  std::vector<Place> places_;
  int32_t prefill_;
  CalibrationLog* log_;
  CalibrationProgress* progress_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_METER_H_
