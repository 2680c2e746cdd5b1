#include "attention/plan_rules.h"

#include <algorithm>
#include <limits>

namespace tidal {
namespace {

using Keys = std::vector<std::pair<std::string, std::string>>;

// Scorers without probabilities have nothing to merge, so `merge` says nothing there.
Status CheckScorer(const AttentionPlan& plan) {
  if (plan.mass > 0 && !HasMass(plan.scorer))
    return InvalidArgument(
        "mass={} needs probabilities, which scorer={} does not give: take scorer exact, index4 or "
        "index2, or a budget",
        plan.mass, NameOf(plan.scorer));
  if (plan.guard > 0 && !HasMass(plan.scorer))
    return InvalidArgument(
        "guard={} needs a selected mass, which scorer={} does not give: take scorer exact, index4 "
        "or index2, or guard=0",
        plan.guard, NameOf(plan.scorer));
  if (plan.merge == Merge::kRank && plan.page > 1 && HasMass(plan.scorer))
    return InvalidArgument(
        "page={} does not go with merge=rank, which ranks tokens: take page=1 or another merge "
        "(score, mass, max)",
        plan.page);
  return OkStatus();
}

Status CheckScope(const AttentionPlan& plan) {
  if (plan.merge == Merge::kScore && plan.scope != SetScope::kHead && HasMass(plan.scorer))
    return InvalidArgument(
        "merge=score ranks by one head's score and needs scope=head, but scope={}: take "
        "merge=mass, "
        "max or rank, or scope=head",
        NameOf(plan.scope));
  return OkStatus();
}

// What neither layers nor scope nor scorer change.
Status CheckAmounts(const AttentionPlan& plan) {
  if (plan.mass > 0 && plan.merge == Merge::kRank)
    return InvalidArgument(
        "mass={} does not go with merge=rank, which fills a budget: give a budget or another merge "
        "(score, mass, max)",
        plan.mass);
  if (plan.mass > 0 && plan.page > 1)
    return InvalidArgument(
        "mass={} does not go with page={}: take page=1, or a budget instead of mass", plan.mass,
        plan.page);
  if (plan.mass > 0 && plan.recent.unit == TokenAmount::Unit::kRest)
    return InvalidArgument(
        "recent=rest is what a budget leaves, but mass={} decides: give a budget, or recent as "
        "tokens",
        plan.mass);
  if (plan.ceil > 0 && plan.floor > plan.ceil)
    return InvalidArgument("floor={} is above ceil={}: lower floor, or take ceil=0 for no bound",
                           plan.floor, plan.ceil);
  // A percentage is known at a row's kv_len only.
  if (plan.budget.unit == TokenAmount::Unit::kPercent) return OkStatus();
  return CheckSizesAt(plan, std::numeric_limits<int32_t>::max());
}

Status CheckFull(const Keys& keys) {
  for (const auto& [key, value] : keys) {
    if ((key == "full" && value == "all") || (key == "select" && value == "none")) continue;
    return InvalidArgument(
        "{}={} does not go with the preset full, which reads everything in every layer and takes "
        "no key: leave it out or take another preset",
        key, value);
  }
  return OkStatus();
}

}  // namespace

bool IsGiven(const Keys& keys, std::string_view key) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const auto& given) { return given.first == key; });
}

bool UsesSidecar(const PlanPreset& preset, const PlanSettings& settings, const Keys& keys) {
  return settings.select.kind == LayerList::Kind::kAuto ||
         (preset.calibrated && !IsGiven(keys, "select") && !IsGiven(keys, "full"));
}

Status CheckPlanKeys(const PlanPreset& preset, const PlanSettings& settings, const Keys& keys) {
  if (preset.name == "full") return CheckFull(keys);
  TIDAL_RETURN_IF_ERROR(CheckAmounts(settings.plan));
  const bool is_open = UsesSidecar(preset, settings, keys);
  const bool has_scorer = !is_open || IsGiven(keys, "scorer");
  const bool has_scope = !is_open || IsGiven(keys, "scope");
  if (has_scorer) TIDAL_RETURN_IF_ERROR(CheckScorer(settings.plan));
  return has_scorer && has_scope ? CheckScope(settings.plan) : OkStatus();
}

Status CheckPlan(const AttentionPlan& plan) {
  TIDAL_RETURN_IF_ERROR(CheckAmounts(plan));
  TIDAL_RETURN_IF_ERROR(CheckScorer(plan));
  return CheckScope(plan);
}

}  // namespace tidal
