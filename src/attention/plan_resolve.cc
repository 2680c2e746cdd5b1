// PlanSpec::Resolve: from what a user wrote to the plan of a model.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "attention/plan_keys.h"
#include "attention/plan_rules.h"
#include "attention/plan_spec.h"
#include "attention/sidecar.h"
#include "base/check.h"

namespace tidal {
namespace {

using Keys = std::vector<std::pair<std::string, std::string>>;

// One mark per layer.
Result<std::vector<uint8_t>> LayerMarks(std::string_view key, const LayerList& list,
                                        const PlanModel& model) {
  const auto num_layers = static_cast<size_t>(model.num_layers);
  const bool all = list.kind == LayerList::Kind::kAll || list.kind == LayerList::Kind::kAuto;
  std::vector<uint8_t> marks(num_layers, all ? 1 : 0);
  if (list.kind != LayerList::Kind::kListed) return marks;
  for (const int32_t layer : list.layers) {
    if (layer >= model.num_layers)
      return InvalidArgument("{} has layer {}, but the model has layers 0 to {}", key, layer,
                             model.num_layers - 1);
    marks[static_cast<size_t>(layer)] = 1;
  }
  if (list.reselection) marks[static_cast<size_t>(ReselectionLayer(model))] = 1;
  return marks;
}

std::vector<uint8_t> BeforeFirst(const std::vector<uint8_t>& selects) {
  std::vector<uint8_t> marks(selects.size(), 0);
  const auto first = std::find(selects.begin(), selects.end(), 1) - selects.begin();
  std::fill(marks.begin(), marks.begin() + first, 1);
  return marks;
}

Status CheckLayers(const AttentionPlan& plan) {
  const auto first = static_cast<size_t>(std::find(plan.selects.begin(), plan.selects.end(), 1) -
                                         plan.selects.begin());
  for (size_t layer = 0; layer < first; ++layer) {
    if (plan.reads_all[layer] == 0)
      return InvalidArgument(
          "layer {} is neither in full nor in select and has no selection layer before it whose "
          "set it could use: add it to full, or select an earlier layer",
          layer);
  }
  return OkStatus();
}

// The entry's maps, one per reuse layer of the entry, by layer.
std::vector<std::vector<int32_t>> HeadmapByLayer(const SidecarEntry& entry,
                                                 const AttentionPlan& plan) {
  std::vector<std::vector<int32_t>> headmap(plan.selects.size());
  size_t next = 0;
  for (size_t layer = 0; layer < headmap.size() && next < entry.headmap.size(); ++layer) {
    const auto number = static_cast<int32_t>(layer);
    if (std::binary_search(entry.select.begin(), entry.select.end(), number) ||
        std::binary_search(entry.full.begin(), entry.full.end(), number))
      continue;
    const std::vector<int32_t>& map = entry.headmap[next++];
    if (plan.Role(number) == LayerRole::kReuse) headmap[layer] = map;
  }
  return headmap;
}

LayerList Listed(const std::vector<int32_t>& layers) {
  return {.kind = LayerList::Kind::kListed, .layers = layers};
}

// Puts what the entry says where the text says nothing.
void ApplyEntry(const SidecarEntry& entry, const Keys& keys, PlanSettings* settings) {
  settings->select = Listed(entry.select);
  if (!IsGiven(keys, "full")) settings->full = Listed(entry.full);
  if (entry.scope && !IsGiven(keys, "scope")) settings->plan.scope = *entry.scope;
  if (entry.scorer && !IsGiven(keys, "scorer")) settings->plan.scorer = *entry.scorer;
  if (entry.below && !IsGiven(keys, "below")) settings->plan.below = *entry.below;
}

// The plan with one entry of the sidecar, or with none.
Result<AttentionPlan> ResolveWith(PlanSettings settings, const Keys& keys,
                                  const SidecarEntry* entry, const PlanModel& model) {
  if (entry != nullptr) ApplyEntry(*entry, keys, &settings);
  AttentionPlan plan = std::move(settings.plan);
  TIDAL_RETURN_IF_ERROR(CheckPlan(plan));
  TIDAL_ASSIGN_OR_RETURN(plan.selects, LayerMarks("select", settings.select, model));
  if (entry == nullptr && IsGiven(keys, "select") && !IsGiven(keys, "full")) {
    plan.reads_all = BeforeFirst(plan.selects);
  } else {
    TIDAL_ASSIGN_OR_RETURN(plan.reads_all, LayerMarks("full", settings.full, model));
  }
  TIDAL_RETURN_IF_ERROR(CheckLayers(plan));
  if (std::count(plan.selects.begin(), plan.selects.end(), 1) == 0) return AttentionPlan();
  if (entry != nullptr && plan.preset == "kascade" && plan.scope == SetScope::kKvHead &&
      !entry->headmap.empty())
    plan.headmap = HeadmapByLayer(*entry, plan);
  return plan;
}

// The smallest kv_len at which the plan's percentage is so many tokens; 0: there is none.
int32_t FirstKvLenWith(const AttentionPlan& plan, int32_t tokens) {
  int32_t low = 1;
  int32_t high = std::numeric_limits<int32_t>::max();
  if (TokenBudgetAt(plan, high) < tokens) return 0;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (TokenBudgetAt(plan, middle) >= tokens) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// A percentage passes from entry to entry as the context grows.
Result<AttentionPlan> ResolvePercentage(const PlanSettings& settings, const Keys& keys,
                                        const PlanModel& model) {
  const SidecarEntry* const smallest = model.sidecar->Find(settings.plan.preset, 0);
  TIDAL_ASSIGN_OR_RETURN(AttentionPlan plan, ResolveWith(settings, keys, smallest, model));
  for (const SidecarEntry& entry : model.sidecar->entries()) {
    if (entry.preset != settings.plan.preset || &entry == smallest) continue;
    const int32_t first = FirstKvLenWith(settings.plan, entry.budget);
    if (first == 0) break;
    TIDAL_ASSIGN_OR_RETURN(AttentionPlan variant, ResolveWith(settings, keys, &entry, model));
    plan.variants.emplace_back(first, std::move(variant));
  }
  return plan;
}

}  // namespace

int32_t ReselectionLayer(const PlanModel& model) {
  // 32 layers: Llama-2 7B has as many KV heads as heads, Llama-3 and 3.1 8B have fewer.
  if (model.num_layers == 32) return model.num_heads == model.num_kv_heads ? 7 : 13;
  if (model.num_layers == 80) return 14;
  return static_cast<int32_t>(std::lround(0.4 * model.num_layers));
}

Result<AttentionPlan> PlanSpec::Resolve(const PlanModel& model) const {
  TIDAL_CHECK(model.num_layers >= 1, "a model has layers");
  const PlanPreset* const preset = FindPlanPreset(preset_);
  TIDAL_CHECK(preset != nullptr, "preset {} was checked when it was parsed", preset_);
  if (preset->name == "full") return AttentionPlan();
  PlanSettings settings = SettingsOf(*preset);
  for (const auto& [key, value] : keys_) TIDAL_RETURN_IF_ERROR(SetPlanKey(key, value, &settings));

  const auto resolve = [&]() -> Result<AttentionPlan> {
    const TokenAmount& budget = settings.plan.budget;
    const SidecarEntry* entry = nullptr;
    if (model.sidecar != nullptr && UsesSidecar(*preset, settings, keys_)) {
      const bool by_mass = settings.plan.mass > 0;
      entry = model.sidecar->Find(preset_, by_mass ? std::numeric_limits<int64_t>::max()
                                                   : static_cast<int64_t>(budget.value));
    }
    if (entry != nullptr && budget.unit == TokenAmount::Unit::kPercent)
      return ResolvePercentage(settings, keys_, model);
    return ResolveWith(settings, keys_, entry, model);
  };
  Result<AttentionPlan> plan = resolve();
  if (!plan.ok()) return plan.status().Annotate("attention plan " + QuotedText(text_));
  return plan;
}

}  // namespace tidal
