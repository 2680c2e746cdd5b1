#include "engine/key_index_choice.h"

#include <gtest/gtest.h>

namespace tidal {
namespace {

AttentionPlan PlanThatSelects(std::vector<uint8_t> layers, Scorer scorer) {
  AttentionPlan plan;
  plan.reads_all.assign(layers.size(), 0);
  plan.selects = std::move(layers);
  plan.scorer = scorer;
  return plan;
}

using Layers = std::vector<uint8_t>;

KeyIndexChoice Auto(std::vector<AttentionPlan> plans) {
  return ChooseKeyIndex(IndexLayers::kAuto, 0, 4, plans);
}

TEST(KeyIndexChoice, WithoutAPlanEveryLayerAndFourBits) {
  const KeyIndexChoice choice = Auto({});
  EXPECT_EQ(choice.layers, (Layers{1, 1, 1, 1}));
  EXPECT_EQ(choice.bits, 4);
  EXPECT_EQ(choice.num_layers(), 4);
}

TEST(KeyIndexChoice, WhatTheKnownPlansSelectBy) {
  const AttentionPlan full;
  EXPECT_EQ(Auto({full}).num_layers(), 0);
  const AttentionPlan exact = PlanThatSelects({1, 1, 1, 1}, Scorer::kExact);
  const AttentionPlan quest = PlanThatSelects({1, 1, 1, 1}, Scorer::kPagesMinMax);
  EXPECT_EQ(Auto({exact, quest}).num_layers(), 0);
  const AttentionPlan four = PlanThatSelects({0, 1, 0, 0}, Scorer::kIndex4);
  const AttentionPlan two = PlanThatSelects({0, 0, 0, 1}, Scorer::kIndex2);
  EXPECT_EQ(Auto({full, exact, four}).layers, (Layers{0, 1, 0, 0}));
  EXPECT_EQ(Auto({full, exact, four}).bits, 4);
  EXPECT_EQ(Auto({two, quest}).layers, (Layers{0, 0, 0, 1}));
  EXPECT_EQ(Auto({two, quest}).bits, 2);
  EXPECT_EQ(Auto({two, four}).layers, (Layers{0, 1, 0, 1}));
  EXPECT_EQ(Auto({two, four}).bits, 4) << "they differ";
}

TEST(KeyIndexChoice, VariantsByContextCount) {
  AttentionPlan plan = PlanThatSelects({1, 0, 0, 0}, Scorer::kIndex4);
  plan.variants.emplace_back(1000, PlanThatSelects({0, 0, 1, 0}, Scorer::kIndex4));
  const KeyIndexChoice choice = Auto({plan});
  EXPECT_EQ(choice.layers, (Layers{1, 0, 1, 0}));
  EXPECT_EQ(FirstLayerWithoutIndex(plan, choice), -1);
  EXPECT_EQ(FirstLayerWithoutIndex(plan, {{1, 0, 0, 0}, 4}), 2);
}

TEST(KeyIndexChoice, FlagsDecide) {
  const std::vector<AttentionPlan> plans = {PlanThatSelects({0, 1, 0, 0}, Scorer::kIndex4)};
  EXPECT_EQ(ChooseKeyIndex(IndexLayers::kAll, 0, 4, plans).num_layers(), 4);
  EXPECT_EQ(ChooseKeyIndex(IndexLayers::kNone, 0, 4, plans).num_layers(), 0);
  EXPECT_EQ(ChooseKeyIndex(IndexLayers::kNone, 0, 4, {}).num_layers(), 0);
  EXPECT_EQ(ChooseKeyIndex(IndexLayers::kAuto, 2, 4, plans).bits, 2);
  EXPECT_EQ(ChooseKeyIndex(IndexLayers::kAuto, 2, 4, {}).bits, 2);
}

TEST(KeyIndexChoice, NamesTheFirstLayerWithout) {
  const AttentionPlan plan = PlanThatSelects({0, 1, 1, 0}, Scorer::kIndex4);
  EXPECT_EQ(FirstLayerWithoutIndex(plan, {{0, 1, 1, 0}, 4}), -1);
  EXPECT_EQ(FirstLayerWithoutIndex(plan, {{0, 1, 0, 0}, 4}), 2);
  EXPECT_EQ(FirstLayerWithoutIndex(plan, {{}, 4}), 1);
  EXPECT_EQ(FirstLayerWithoutIndex(PlanThatSelects({1, 1, 1, 1}, Scorer::kExact), {{}, 4}), -1);
  EXPECT_EQ(FirstLayerWithoutIndex(AttentionPlan(), {{}, 4}), -1);
}

}  // namespace
}  // namespace tidal
