#include "eval/calibration_progress.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace tidal {

void CalibrationProgress::Begin(std::string name) {
  TIDAL_CHECK(next_ < stages_.size(), "{} stages were announced", stages_.size());
  if (next_ > 0) stages_[next_ - 1] = 0;
  ++next_;
  name_ = std::move(name);
}

void CalibrationProgress::Forgo(double work) {
  double& left = stages_[next_ - 1];
  left = std::max(0.0, left - work);
}

void CalibrationProgress::Advance(double work) {
  Forgo(work);
  done_ += work;
  const double left = std::accumulate(stages_.begin(), stages_.end(), 0.0);
  hooks_->Report(done_ / (done_ + left), name_);
}

EvalHooks CalibrationProgress::Part::hooks() {
  return {progress_->hooks_->stop, [this](double fraction, const std::string&) {
            const double done = fraction * work_;
            progress_->Advance(done - std::exchange(done_, done));
          }};
}

}  // namespace tidal
