#include "eval/calibration_speed.h"

#include <algorithm>

namespace tidal {
namespace {

constexpr int32_t kSteps = kSpeedTokens - 3;  // the first token comes with the prompt
// The machine does other things as well; the best of a few times is the plan's.
constexpr int kRepetitions = 3;
constexpr int32_t kShortest = 512;

Result<double> BestSpeed(const Window& window, const AttentionPlan& plan, int32_t context,
                         const EvalHooks& hooks) {
  double best = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    TIDAL_ASSIGN_OR_RETURN(const PlanSpeed speed,
                           window.MeasureSpeed(plan, context, kSteps, hooks));
    best = std::max(best, speed.tokens_per_s);
  }
  return best;
}

}  // namespace

std::vector<int32_t> SpeedContexts(int32_t prefill) {
  std::vector<int32_t> contexts;
  for (int64_t power = kShortest; power < prefill; power *= 2)
    for (const int64_t context : {power, power + power / 2})
      if (context < prefill) contexts.push_back(static_cast<int32_t>(context));
  contexts.push_back(prefill);
  return contexts;
}

double SpeedWork(int32_t prefill, size_t num_plans) {
  // A row alone costs several times a row among others.
  constexpr double kAlone = 4;
  return kAlone * kRepetitions * kSteps * static_cast<double>(num_plans + 1) *
         static_cast<double>(SpeedContexts(prefill).size());
}

int32_t BelowOf(const std::vector<ContextSpeed>& speeds, size_t plan) {
  int32_t below = speeds.back().context + 1;
  for (auto speed = speeds.rbegin(); speed != speeds.rend(); ++speed) {
    if (speed->tokens_per_s[plan] <= speed->full_tokens_per_s) break;
    below = speed->context;
  }
  return below;
}

Status MeasureSpeeds(const Engine& engine, const Window& window, CalibrationProgress* progress,
                     CalibrationResult* result) {
  std::vector<AttentionPlan> plans;
  for (const CalibratedPlan& plan : result->plans) {
    TIDAL_ASSIGN_OR_RETURN(const PlanSpec spec, PlanSpec::Parse(PlanText(plan.point)));
    TIDAL_ASSIGN_OR_RETURN(plans.emplace_back(), engine.ResolvePlan(spec));
  }
  const std::vector<int32_t> contexts = SpeedContexts(window.prefill());
  CalibrationProgress::Part part(progress, SpeedWork(window.prefill(), plans.size()));
  const EvalHooks hooks = part.hooks();
  for (const int32_t context : contexts) {
    ContextSpeed& speed = result->speeds.emplace_back();
    speed.context = context;
    TIDAL_ASSIGN_OR_RETURN(speed.full_tokens_per_s,
                           BestSpeed(window, AttentionPlan(), context, hooks));
    for (const AttentionPlan& plan : plans) {
      TIDAL_ASSIGN_OR_RETURN(speed.tokens_per_s.emplace_back(),
                             BestSpeed(window, plan, context, hooks));
    }
    hooks.Report(static_cast<double>(result->speeds.size()) / static_cast<double>(contexts.size()),
                 "");
  }
  for (size_t i = 0; i < plans.size(); ++i) result->plans[i].below = BelowOf(result->speeds, i);
  return OkStatus();
}

}  // namespace tidal
