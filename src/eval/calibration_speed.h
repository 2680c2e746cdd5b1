// From which context on a step under a plan is faster than a full one.
#ifndef TIDAL_EVAL_CALIBRATION_SPEED_H_
#define TIDAL_EVAL_CALIBRATION_SPEED_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/calibration.h"
#include "eval/calibration_progress.h"
#include "eval/window.h"

namespace tidal {

// Tokens behind a context that timing it takes.
inline constexpr int32_t kSpeedTokens = 16;

// The contexts that are tried: powers of two and the middles between them, up to and with
// `prefill`.
std::vector<int32_t> SpeedContexts(int32_t prefill);

// Times full attention and the plans of *result after the beginnings of the window, and fills
// `speeds` and each plan's `below`: one more than the longest context where a plan is slower there,
// too. Errors: the engine's, kCancelled.
Status MeasureSpeeds(const Engine& engine, const Window& window, CalibrationProgress* progress,
                     CalibrationResult* result);

// What that takes, about, in rows of CalibrationProgress.
double SpeedWork(int32_t prefill, size_t num_plans);

// The shortest context from which on, at all that were tried, plan number `plan` is faster.
int32_t BelowOf(const std::vector<ContextSpeed>& speeds, size_t plan);

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_SPEED_H_
