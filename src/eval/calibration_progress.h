// How far a calibration has come. How much a search will measure is not known before, so stages
// announce what they expect, and what they did without counts no more.
#ifndef TIDAL_EVAL_CALIBRATION_PROGRESS_H_
#define TIDAL_EVAL_CALIBRATION_PROGRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "eval/eval_hooks.h"

namespace tidal {

// Work is counted in decoded rows of a plan.
class CalibrationProgress {
 public:
  // Of a prefilled token: it chooses nothing and has no logits.
  static constexpr double kPrefillWork = 0.5;

  // Borrowed.
  explicit CalibrationProgress(const EvalHooks* hooks) : hooks_(hooks) {}

  // Another stage of the run, which will take about so much.
  void Expect(double work) { stages_.push_back(work); }
  // The next stage begins; nothing of the one before it is left.
  void Begin(std::string name);
  // So much of the stage need not be done.
  void Forgo(double work);

  // A part of the stage's work while it is done, `work` in all.
  class Part {
   public:
    Part(CalibrationProgress* progress, double work) : progress_(progress), work_(work) {}
    // For what does it; valid as long as this.
    EvalHooks hooks();

   private:
    CalibrationProgress* progress_;
    double work_;
    double done_ = 0;  // of it
  };

 private:
  void Advance(double work);

  const EvalHooks* hooks_;
  std::vector<double> stages_;  // what is left of each
  size_t next_ = 0;             // behind the stage at hand
  double done_ = 0;
  std::string name_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_PROGRESS_H_
