#include "attention/attention_plan.h"

#include <gtest/gtest.h>

#include "attention/plan_spec.h"

namespace tidal {
namespace {

constexpr PlanModel kModel = {.num_layers = 10, .num_heads = 6, .num_kv_heads = 2};

AttentionPlan Resolved(std::string_view text) {
  const Result<PlanSpec> spec = PlanSpec::Parse(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  const Result<AttentionPlan> plan = spec->Resolve(kModel);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return *plan;
}

TEST(AttentionPlanTest, EachLayerHasARole) {
  const AttentionPlan plan = Resolved("tidal:full=0+1+4:select=1+2+6");
  const LayerRole kF = LayerRole::kFull;
  const LayerRole kS = LayerRole::kSelection;
  const LayerRole kR = LayerRole::kReuse;
  const LayerRole roles[] = {kF, kF, kS, kR, kF, kR, kS, kR, kR, kR};
  const bool selects[] = {false, true, true, false, false, false, true, false, false, false};
  for (int32_t layer = 0; layer < 10; ++layer) {
    EXPECT_EQ(plan.Role(layer), roles[layer]) << layer;
    EXPECT_EQ(plan.Selects(layer), selects[layer]) << layer;
  }
}

TEST(AttentionPlanTest, TheFullPlanReadsAllAndChoosesNothing) {
  const AttentionPlan plan;
  EXPECT_TRUE(plan.is_full());
  EXPECT_TRUE(plan.RunsFull(1 << 20));
  EXPECT_EQ(plan.Role(7), LayerRole::kFull);
  EXPECT_FALSE(plan.Selects(7));
  EXPECT_TRUE(plan.CheckAt(1).ok());
  EXPECT_EQ(plan.ToString(), "full");
  EXPECT_EQ(&plan.At(5), &plan);
}

TEST(AttentionPlanTest, RowsBelowAContextRunFull) {
  const AttentionPlan plan = Resolved("tidal:below=100");
  EXPECT_TRUE(plan.RunsFull(99));
  EXPECT_FALSE(plan.RunsFull(100));
  EXPECT_FALSE(Resolved("tidal:below=0").RunsFull(1));
}

TEST(AttentionPlanTest, ARowUsesTheLastVariantThatHasBegun) {
  AttentionPlan plan = Resolved("tidal");
  plan.variants = {{100, Resolved("tidal:select=0+5")}, {1000, Resolved("tidal:select=0+7")}};
  EXPECT_EQ(&plan.At(1), &plan);
  EXPECT_EQ(&plan.At(99), &plan);
  EXPECT_EQ(&plan.At(100), &plan.variants[0].second);
  EXPECT_EQ(&plan.At(999), &plan.variants[0].second);
  EXPECT_EQ(&plan.At(1000), &plan.variants[1].second);
  EXPECT_EQ(&plan.At(1 << 30), &plan.variants[1].second);
}

void ExpectSizes(std::string_view text, int32_t kv_len, const SetSizes& expected) {
  const SetSizes sizes = Resolved(text).SizesAt(kv_len);
  EXPECT_EQ(sizes.token_budget, expected.token_budget) << text << " at " << kv_len;
  EXPECT_EQ(sizes.sinks, expected.sinks) << text << " at " << kv_len;
  EXPECT_EQ(sizes.recent, expected.recent) << text << " at " << kv_len;
  EXPECT_EQ(sizes.max_keep, expected.max_keep) << text << " at " << kv_len;
  EXPECT_EQ(sizes.pages, expected.pages) << text << " at " << kv_len;
}

TEST(AttentionPlanTest, SizesOfCountsAndShares) {
  ExpectSizes("tidal", 5000, {.token_budget = 1024, .sinks = 4, .recent = 64});
  ExpectSizes("tidal", 3, {.token_budget = 1024, .sinks = 3, .recent = 3});
  ExpectSizes("tidal:budget=10%", 5001, {.token_budget = 501, .sinks = 4, .recent = 64});
  // Exact multiples stay exact: no rounding up by a last bit.
  for (int32_t n = 10; n < 200000; n += 10)
    ASSERT_EQ(Resolved("tidal:budget=10%").SizesAt(n).token_budget, n / 10) << n;
  for (int32_t n = 16; n < 200000; n += 16)
    ASSERT_EQ(Resolved("tidal:budget=6.25%").SizesAt(n).token_budget, n / 16) << n;
  ExpectSizes("kascade", 200, {.token_budget = 128, .recent = 1});
  ExpectSizes("kascade", 1281, {.token_budget = 129, .recent = 1});
  ExpectSizes("tidal:budget=1000:recent=12.5%", 5000,
              {.token_budget = 1000, .sinks = 4, .recent = 125});
  ExpectSizes("tidal:budget=1001:recent=12.5%", 5000,
              {.token_budget = 1001, .sinks = 4, .recent = 126});
}

TEST(AttentionPlanTest, SizesOfTheOtherWindows) {
  ExpectSizes("streaming", 5000, {.token_budget = 512, .sinks = 4, .recent = 508});
  ExpectSizes("streaming", 100, {.token_budget = 512, .sinks = 4, .recent = 100});
  // 510 - floor(382.5) - 4
  ExpectSizes("lessismore:budget=510", 5000, {.token_budget = 510, .sinks = 4, .recent = 124});
  // Where the window's share is less than the sinks, none is left of it.
  ExpectSizes("lessismore:budget=8", 5000, {.token_budget = 8, .sinks = 4, .recent = 0});
  ExpectSizes("zipvl", 5000, {.token_budget = 0, .recent = 1});
  ExpectSizes("zipvl:recent=10%:sinks=2", 5001, {.sinks = 2, .recent = 501});
}

TEST(AttentionPlanTest, SizesInPages) {
  ExpectSizes("quest", 5000, {.token_budget = 512, .recent = 1, .pages = 32});
  ExpectSizes("quest:budget=527", 5000, {.token_budget = 527, .recent = 1, .pages = 32});
  ExpectSizes("quest:budget=15", 5000, {.token_budget = 15, .recent = 1, .pages = 1});
}

TEST(AttentionPlanTest, NewlinesTakeAtMostHalfTheBudget) {
  ExpectSizes("tidal:keep=newline:budget=201", 5000,
              {.token_budget = 201, .sinks = 4, .recent = 64, .max_keep = 100});
  // and no more than sinks and recent leave of it
  ExpectSizes("tidal:keep=newline:budget=100", 5000,
              {.token_budget = 100, .sinks = 4, .recent = 64, .max_keep = 32});
  ExpectSizes("streaming:keep=newline", 5000, {.token_budget = 512, .sinks = 4, .recent = 508});
  ExpectSizes("zipvl:keep=newline", 5000, {.recent = 1, .max_keep = 2500});
}

TEST(AttentionPlanTest, ABudgetBelowWhatIsAlwaysKeptIsRefusedByContext) {
  const AttentionPlan plan = Resolved("tidal:budget=5%");
  EXPECT_TRUE(plan.CheckAt(1).ok());  // one token, and it is the budget
  const Status status = plan.CheckAt(1000);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "budget=5%, 50 tokens at a context of 1000, is less than the 68 tokens always kept "
            "(sinks 4 + recent 64): raise budget, or lower sinks or recent");
  EXPECT_FALSE(plan.CheckAt(1340).ok());
  EXPECT_TRUE(plan.CheckAt(1341).ok());
  EXPECT_TRUE(Resolved("tidal:budget=5%:page=16").CheckAt(1000).ok());
  EXPECT_TRUE(Resolved("zipvl").CheckAt(1).ok());
  EXPECT_TRUE(Resolved("tidal").CheckAt(1).ok());
}

TEST(AttentionPlanTest, TextNamesEveryKey) {
  EXPECT_EQ(
      Resolved("tidal").ToString(),
      "tidal:full=none:select=all:scorer=index4:scope=shared:merge=mass:budget=1024:floor=1:"
      "ceil=0:sinks=4:recent=64:keep=none:page=1:refresh=step:correct=off:guard=0:below=1024");
  EXPECT_EQ(Resolved("twilight:correct=turn:refresh=cos0.85:guard=0.5:keep=newline:recent=2.5%")
                .ToString(),
            "twilight:full=0+1:select=all:scorer=index4:scope=head:merge=score:mass=0.9:floor=1:"
            "ceil=0:sinks=0:recent=2.5%:keep=newline:page=1:refresh=cos0.85:correct=turn:guard=0.5:"
            "below=1024");
}

TEST(AttentionPlanTest, Names) {
  EXPECT_STREQ(NameOf(LayerRole::kFull), "full");
  EXPECT_STREQ(NameOf(LayerRole::kSelection), "selection");
  EXPECT_STREQ(NameOf(LayerRole::kReuse), "reuse");
  EXPECT_STREQ(NameOf(Scorer::kPagesMinMax), "pages-minmax");
  EXPECT_STREQ(NameOf(Scorer::kNone), "none");
  EXPECT_STREQ(NameOf(SetScope::kKvHead), "kv");
  EXPECT_STREQ(NameOf(Merge::kRank), "rank");
}

TEST(AttentionPlanTest, WhatScorersNeedAndGive) {
  EXPECT_EQ(IndexBits(Scorer::kIndex4), 4);
  EXPECT_EQ(IndexBits(Scorer::kIndex2), 2);
  for (const Scorer scorer :
       {Scorer::kExact, Scorer::kPagesMinMax, Scorer::kPagesMeanStd, Scorer::kNone})
    EXPECT_EQ(IndexBits(scorer), 0) << NameOf(scorer);
  for (const Scorer scorer : {Scorer::kExact, Scorer::kIndex4, Scorer::kIndex2})
    EXPECT_TRUE(HasMass(scorer)) << NameOf(scorer);
  for (const Scorer scorer : {Scorer::kPagesMinMax, Scorer::kPagesMeanStd, Scorer::kNone})
    EXPECT_FALSE(HasMass(scorer)) << NameOf(scorer);
}

TEST(AttentionPlan, SetsByScopeAndTheMostTokensOfOne) {
  EXPECT_EQ(NumSets(SetScope::kShared, 12, 2), 1);
  EXPECT_EQ(NumSets(SetScope::kKvHead, 12, 2), 2);
  EXPECT_EQ(NumSets(SetScope::kHead, 12, 2), 12);
  AttentionPlan plan;
  plan.budget.value = 100;
  EXPECT_EQ(MaxSetTokens(plan, 5000), 100);
  EXPECT_EQ(MaxSetTokens(plan, 60), 60);
  plan.page = 128;  // one page at least
  EXPECT_EQ(MaxSetTokens(plan, 5000), 128);
  AttentionPlan wider = plan;
  wider.budget.value = 700;
  plan.variants.emplace_back(1000, wider);
  EXPECT_EQ(MaxSetTokens(plan, 5000), 700);
  // What may grow with the context: a share of mass, a percentage, kept sets.
  AttentionPlan by_mass;
  by_mass.mass = 0.9;
  EXPECT_EQ(MaxSetTokens(by_mass, 5000), 5000);
  AttentionPlan percent;
  percent.budget = {TokenAmount::Unit::kPercent, 10};
  EXPECT_EQ(MaxSetTokens(percent, 5000), 5000);
  AttentionPlan kept;
  kept.budget.value = 100;
  kept.refresh_cosine = 0.9;
  EXPECT_EQ(MaxSetTokens(kept, 5000), 5000);
}

}  // namespace
}  // namespace tidal
