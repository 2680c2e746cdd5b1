// The text and JSON forms of attention plans, before and after a model is known.
//
// A spec is what a user wrote: a preset and the keys that override it. Resolve turns it into the
// plan of a model. Grammar, keys and presets: docs/attention_plans.md.
#ifndef TIDAL_ATTENTION_PLAN_SPEC_H_
#define TIDAL_ATTENTION_PLAN_SPEC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"

namespace tidal {

class Sidecar;

// What a plan must know of a model.
struct PlanModel {
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  const Sidecar* sidecar = nullptr;  // the model's calibrated plans; may be null
};

// The paper's re-selection layer for the models that it names, round(0.4 * num_layers) for others.
int32_t ReselectionLayer(const PlanModel& model);

class PlanSpec {
 public:
  PlanSpec() = default;  // "full"

  // PRESET[:key=value]..., or the JSON object where the text begins with '{'. kInvalidArgument
  // naming the key, the value and what is allowed; what does not need a model is checked here.
  static Result<PlanSpec> Parse(std::string_view text);
  // Specs separated by commas (those inside a JSON object's braces do not count).
  static Result<std::vector<PlanSpec>> ParseList(std::string_view text);

  // The plan for a model: layers checked against it, `R` and `auto` filled in. kInvalidArgument:
  // a layer that is not there, a reuse layer without a selection layer before it, a budget smaller
  // than what is always kept, keys that exclude each other.
  Result<AttentionPlan> Resolve(const PlanModel& model) const;

  const std::string& preset() const { return preset_; }
  const std::string& text() const { return text_; }  // as given

 private:
  std::string preset_ = "full";
  std::string text_ = "full";
  std::vector<std::pair<std::string, std::string>> keys_;  // in the order given, values as text
};

// A resolved plan as the JSON object of results: preset and every key, layers as arrays of
// integers, "all" or "none", numbers as numbers; one line of JSON text.
std::string PlanJson(const AttentionPlan& plan);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_PLAN_SPEC_H_
