// Which of the plans that a calibration measured it keeps.
#ifndef TIDAL_EVAL_CALIBRATION_CHOICE_H_
#define TIDAL_EVAL_CALIBRATION_CHOICE_H_

#include "eval/calibration.h"

namespace tidal {

// Fills index_bits, plans and recommended from the points of *result. A cache has one index, so
// that all plans share its bits: those with which most budgets are within the target, and then
// those with which the plans together read least, or lose least under a limit of scanning. False,
// and nothing done, where no plan is within the target. REQUIRES: every layer choosing was measured
// with each budget and bits.
bool ChoosePlans(const CalibrationRequest& request, CalibrationResult* result);

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_CHOICE_H_
