#include "eval/calibration_choice.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace tidal {
namespace {

// What plans are compared by.
double CostOf(const CalibrationPoint& point, const CalibrationTarget& target) {
  return target.max_kl > 0 ? point.bytes() : point.kl;
}

// The best of a budget within the target; else that with every layer choosing, so that a small
// budget does not get the layers of a large one.
CalibratedPlan PlanWith(int32_t budget, int32_t bits, const CalibrationTarget& target,
                        const CalibrationResult& measured) {
  const CalibrationPoint* best =
      BestPoint(measured.points, budget, bits, target, measured.all_bytes);
  CalibratedPlan plan;
  plan.meets_target = best != nullptr;
  for (const CalibrationPoint& point : measured.points) {
    if (plan.meets_target) break;
    const bool is_every = point.budget == budget && point.index_bits == bits &&
                          point.select.size() == static_cast<size_t>(measured.num_layers);
    if (is_every && (best == nullptr || point.kl < best->kl)) best = &point;
  }
  TIDAL_CHECK(best != nullptr, "every layer was not measured with budget {}", budget);
  plan.point = *best;
  return plan;
}

// Of plans within the target the one that costs least.
size_t RecommendedOf(const std::vector<CalibratedPlan>& plans, const CalibrationTarget& target) {
  const auto before = [&](const CalibratedPlan& a, const CalibratedPlan& b) {
    if (a.meets_target != b.meets_target) return a.meets_target;
    return CostOf(a.point, target) < CostOf(b.point, target);
  };
  return static_cast<size_t>(std::min_element(plans.begin(), plans.end(), before) - plans.begin());
}

}  // namespace

bool ChoosePlans(const CalibrationRequest& request, CalibrationResult* result) {
  std::pair<size_t, double> least;  // budgets that miss the target, and what the plans cost
  for (const int32_t bits : request.index_bits) {
    std::vector<CalibratedPlan> plans;
    std::pair<size_t, double> cost;
    for (const int32_t budget : request.budgets) {
      plans.push_back(PlanWith(budget, bits, request.target, *result));
      if (!plans.back().meets_target) ++cost.first;
      cost.second += CostOf(plans.back().point, request.target);
    }
    const bool any_meets = cost.first < plans.size();
    if (!any_meets || (!result->plans.empty() && cost >= least)) continue;
    least = cost;
    result->index_bits = bits;
    result->plans = std::move(plans);
  }
  if (result->plans.empty()) return false;
  result->recommended = RecommendedOf(result->plans, request.target);
  return true;
}

}  // namespace tidal
