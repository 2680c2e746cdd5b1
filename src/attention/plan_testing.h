// Help for the tests of this folder.
#ifndef TIDAL_ATTENTION_PLAN_TESTING_H_
#define TIDAL_ATTENTION_PLAN_TESTING_H_

#include <gtest/gtest.h>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention_plan.h"
#include "attention/plan_spec.h"

namespace tidal {

inline PlanModel ModelWith(int32_t num_layers) {
  return {.num_layers = num_layers, .num_heads = 9, .num_kv_heads = 3};
}

// The plan of a text that is right.
inline AttentionPlan Resolved(std::string_view text, int32_t num_layers = 30) {
  const Result<PlanSpec> spec = PlanSpec::Parse(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  if (!spec.ok()) return {};
  const Result<AttentionPlan> plan = spec->Resolve(ModelWith(num_layers));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : AttentionPlan();
}

// Every field of a plan, variants and headmap too.
inline std::string AllFields(const AttentionPlan& plan) {
  std::string text = fmt::format(
      "{} scorer {} scope {} merge {} budget {}/{} mass {} floor {} ceil {} sinks {} "
      "recent {}/{} newlines {} page {} refresh {} correct {}/{} guard {} below {}",
      plan.preset, NameOf(plan.scorer), NameOf(plan.scope), NameOf(plan.merge),
      static_cast<int>(plan.budget.unit), plan.budget.value, plan.mass, plan.floor, plan.ceil,
      plan.sinks, static_cast<int>(plan.recent.unit), plan.recent.value, plan.keep_newlines,
      plan.page, plan.refresh_cosine, static_cast<int>(plan.correct.when), plan.correct.rows,
      plan.guard, plan.below);
  for (size_t layer = 0; layer < plan.reads_all.size(); ++layer)
    text += fmt::format(" {}{}", plan.reads_all[layer], plan.selects[layer]);
  for (const auto& map : plan.headmap) {
    text += " map";
    for (const int32_t set : map) text += fmt::format(" {}", set);
  }
  for (const auto& [first, variant] : plan.variants)
    text += fmt::format(" from {} {{{}}}", first, AllFields(variant));
  return text;
}

// The layers that a plan's marks name.
inline std::vector<int32_t> MarkedLayers(const std::vector<uint8_t>& marks) {
  std::vector<int32_t> layers;
  for (size_t layer = 0; layer < marks.size(); ++layer)
    if (marks[layer] != 0) layers.push_back(static_cast<int32_t>(layer));
  return layers;
}

}  // namespace tidal

#endif  // TIDAL_ATTENTION_PLAN_TESTING_H_
