// What the keys of a plan demand of each other, for the parsers of this folder.
#ifndef TIDAL_ATTENTION_PLAN_RULES_H_
#define TIDAL_ATTENTION_PLAN_RULES_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/plan_keys.h"
#include "base/status.h"

namespace tidal {

// Whether the text gives a key.
bool IsGiven(const std::vector<std::pair<std::string, std::string>>& keys, std::string_view key);

// Whether a sidecar has a say in the layers, scope and scorer of such a plan.
bool UsesSidecar(const PlanPreset& preset, const PlanSettings& settings,
                 const std::vector<std::pair<std::string, std::string>>& keys);

// What must hold before a model is known; what a sidecar may still change is left out.
Status CheckPlanKeys(const PlanPreset& preset, const PlanSettings& settings,
                     const std::vector<std::pair<std::string, std::string>>& keys);

// The same of a plan in which nothing is open any more, its layers aside.
Status CheckPlan(const AttentionPlan& plan);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_PLAN_RULES_H_
