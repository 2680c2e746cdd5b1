// Finds the plan of a model: which layers choose, for whom, how many tokens and by how many bits,
// by the loss to full attention that the very plan has on given texts. docs/calibration.md explains
// it.
#ifndef TIDAL_EVAL_CALIBRATION_H_
#define TIDAL_EVAL_CALIBRATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/calibration_front.h"
#include "eval/calibration_log.h"
#include "eval/eval_hooks.h"
#include "eval/loss.h"
#include "eval/statistics.h"

namespace tidal {

struct CalibrationRequest {
  std::vector<EvalDocument> texts;     // to choose by
  std::vector<EvalDocument> held_out;  // to check with; may be empty
  int32_t prefill = 4096;              // the context
  int32_t decode = 24;                 // rows of each text's window to choose by
  int32_t held_out_decode = 48;        // rows of each window to check with
  CalibrationTarget target;            // exactly one of its limits is set
  std::vector<int32_t> budgets;        // ascending; each gets a plan
  std::vector<SetScope> scopes = {SetScope::kShared};
  std::vector<int32_t> index_bits = {4};  // 4, 2 or both; the search runs with the first
  bool times_steps = true;                // for CalibratedPlan::below, which is a machine's
  uint64_t seed = 1;                      // of intervals
};

// A plan that was chosen.
struct CalibratedPlan {
  CalibrationPoint point;
  // False: no plan of this budget is within the target, and every layer chooses.
  bool meets_target = true;
  // On held-out texts, where there are any; means over rows, intervals by bootstrap over texts.
  std::optional<Estimate> held_out_kl;
  std::optional<Estimate> held_out_extra_nats;
  std::optional<Estimate> every_layer_kl;  // of every layer choosing, with the same budget
  // The shortest context, of those tried, from which a step is faster than a full one; absent where
  // steps are not timed.
  std::optional<int32_t> below;
};

// Decode steps at one context.
struct ContextSpeed {
  int32_t context = 0;
  double full_tokens_per_s = 0;
  std::vector<double> tokens_per_s;  // of each of CalibrationResult::plans
};

struct CalibrationResult {
  int32_t num_layers = 0;
  int32_t index_bits = 4;                // chosen
  double all_bytes = 0;                  // what a full step reads of the cache at the context
  std::vector<CalibratedPlan> plans;     // by ascending budget
  size_t recommended = 0;                // of plans: the one within the target that reads least
  std::vector<CalibrationPoint> points;  // all that were measured by all rows
  std::vector<ContextSpeed> speeds;      // empty where steps are not timed
};

// Makes an engine with an index of so many bits in all layers. Called between stages, when the last
// one is gone.
using MakeEngineFn =
    std::function<Result<std::unique_ptr<Engine>>(const EvalNeeds& needs, int32_t index_bits)>;

// Runs it. The same request gives the same plans, `below` aside, which is measured time; with a log
// of a run that was stopped it goes on there. Errors: kInvalidArgument (a text that is too short; a
// target that nothing meets: says what is possible), those of the engine and the log, kCancelled.
// REQUIRES: at least one text, budgets that are at most half of the context and at least what is
// always kept, decode >= 2.
Result<CalibrationResult> Calibrate(const CalibrationRequest& request, const MakeEngineFn& make,
                                    CalibrationLog* log, const EvalHooks& hooks);

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_H_
