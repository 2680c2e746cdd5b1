#include "engine/key_index_choice.h"

#include <algorithm>

namespace tidal {
namespace {

// visit(plan) for the plan and its variants by context.
template <typename Visit>
void ForEachVariant(const AttentionPlan& plan, const Visit& visit) {
  visit(plan);
  for (const auto& [first, variant] : plan.variants) visit(variant);
}

}  // namespace

int32_t KeyIndexChoice::num_layers() const {
  return static_cast<int32_t>(
      std::count_if(layers.begin(), layers.end(), [](uint8_t has) { return has != 0; }));
}

KeyIndexChoice ChooseKeyIndex(IndexLayers layers, int32_t bits, int32_t num_layers,
                              std::span<const AttentionPlan> known_plans) {
  KeyIndexChoice choice;
  std::vector<uint8_t> used(static_cast<size_t>(num_layers), 0);
  bool only_two_bits = true;
  bool any = false;
  for (const AttentionPlan& known : known_plans) {
    ForEachVariant(known, [&](const AttentionPlan& plan) {
      const int32_t plan_bits = IndexBits(plan.scorer);
      if (plan.is_full() || plan_bits == 0) return;
      any = true;
      if (plan_bits != 2) only_two_bits = false;
      for (size_t layer = 0; layer < used.size(); ++layer)
        if (plan.selects[layer] != 0) used[layer] = 1;
    });
  }
  choice.bits = bits != 0 ? bits : any && only_two_bits ? 2 : 4;
  if (layers == IndexLayers::kAll || (layers == IndexLayers::kAuto && known_plans.empty())) {
    choice.layers.assign(used.size(), 1);
  } else if (layers == IndexLayers::kAuto && any) {
    choice.layers = std::move(used);
  }
  return choice;
}

int32_t FirstLayerWithoutIndex(const AttentionPlan& plan, const KeyIndexChoice& index) {
  int32_t first = -1;
  ForEachVariant(plan, [&](const AttentionPlan& variant) {
    if (variant.is_full() || IndexBits(variant.scorer) == 0) return;
    for (int32_t layer = 0; layer < static_cast<int32_t>(variant.selects.size()); ++layer)
      if (first < 0 && variant.Selects(layer) && !index.Has(layer)) first = layer;
  });
  return first;
}

}  // namespace tidal
