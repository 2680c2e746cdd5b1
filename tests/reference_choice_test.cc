// The reference of the plan tests itself, on cases small enough to choose by hand.

#include "reference_choice.h"

#include <cmath>
#include <gtest/gtest.h>

namespace tidal {
namespace {

// One channel, so that a token's score is q * key: each KV head's keys are given, and one q per
// head.
class Keys {
 public:
  Keys(const std::vector<std::vector<double>>& keys, std::vector<double> q)
      : kv_(static_cast<int32_t>(keys.size()), 1, static_cast<int32_t>(keys[0].size())),
        q_(std::move(q)) {
    for (size_t head = 0; head < keys.size(); ++head)
      std::copy(keys[head].begin(), keys[head].end(), kv_.Channel(static_cast<int32_t>(head), 0));
  }
  ChoiceInput Input(const AttentionPlan& plan) const {
    return {.plan = &plan,
            .num_heads = static_cast<int32_t>(q_.size()),
            .kv_len = kv_.capacity,
            .q = q_.data(),
            .kv = &kv_};
  }

 private:
  ReferenceKv kv_;
  std::vector<double> q_;
};

TokenAmount Tokens(double count) { return {TokenAmount::Unit::kTokens, count}; }
TokenAmount Percent(double count) { return {TokenAmount::Unit::kPercent, count}; }

AttentionPlan Plan(SetScope scope, Merge merge, double budget) {
  AttentionPlan plan;
  plan.selects = plan.reads_all = {1};
  plan.scope = scope;
  plan.merge = merge;
  plan.budget = Tokens(budget);
  plan.recent = Tokens(0);
  return plan;
}

std::vector<std::vector<int32_t>> Chosen(const ChoiceInput& input) {
  std::vector<std::vector<int32_t>> all;
  for (const TokenMask& set : ChooseSets(input).sets) {
    all.emplace_back();
    for (size_t pos = 0; pos < set.size(); ++pos) {
      if (set[pos] != 0) all.back().push_back(static_cast<int32_t>(pos));
    }
  }
  return all;
}

using Sets = std::vector<std::vector<int32_t>>;

TEST(ReferenceChoice, TakesEachHeadsBestScores) {
  const Keys keys({{5, 1, 4, 2, 3}, {0, -1, -2, 7, 0}}, {1, -1, 1, 1});
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kHead, Merge::kScore, 2))),
            (Sets{{0, 2}, {1, 3}, {0, 3}, {0, 3}}));
}

TEST(ReferenceChoice, TiesGoToTheSmallerPosition) {
  const Keys keys({{1, 2, 2, 1, 2, 2}}, {1});
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kHead, Merge::kScore, 3))), (Sets{{1, 2, 4}}));
  const Keys constant({{3, 3, 3, 3}}, {1});
  EXPECT_EQ(Chosen(constant.Input(Plan(SetScope::kShared, Merge::kMass, 2))), (Sets{{0, 1}}));
}

TEST(ReferenceChoice, TheCurrentTokenCompetesUnlessItIsKept) {
  const Keys keys({{5, 4, 3, 1}}, {1});
  AttentionPlan plan = Plan(SetScope::kHead, Merge::kScore, 2);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1}}));
  plan.recent = Tokens(1);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 3}}));
}

TEST(ReferenceChoice, KeptTokensCountInTheBudget) {
  const Keys keys({{0, 9, 8, 7, 6, 0, 0}}, {1});
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 4);
  plan.sinks = 1;
  plan.recent = Tokens(2);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 5, 6}}));
  plan.recent = {TokenAmount::Unit::kRest, 0};
  plan.scorer = Scorer::kNone;
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 4, 5, 6}}));
  plan.recent = Percent(25);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 6}}));
}

TEST(ReferenceChoice, NewestNewlinesAreKeptUpToHalfTheBudget) {
  const Keys keys({{9, 9, 9, 9, 0, 0, 0, 0, 0, 0}}, {1});
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 5);
  plan.recent = Tokens(1);
  plan.keep_newlines = true;
  ChoiceInput input = keys.Input(plan);
  const std::vector<int32_t> newlines{9, 7, 5, 4};
  input.newlines = newlines;
  EXPECT_EQ(Chosen(input), (Sets{{0, 1, 5, 7, 9}}));
}

TEST(ReferenceChoice, MergesOfTwoHeadsDiffer) {
  const Keys keys({{2, 0, 0, 0, 0, 0}, {0, 1, 1, 1.1, 0, 0}}, {1, 1});
  // Probabilities of head 0: .60, then .08 each; of head 1: .09 .23 .23 .26 .09 .09.
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kMass, 2))), (Sets{{0, 3}}));
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kMax, 3))), (Sets{{0, 1, 3}}));
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kKvHead, Merge::kMass, 2))), (Sets{{0, 1}, {1, 3}}));
}

TEST(ReferenceChoice, MassAndMaxDisagreeWhereOneHeadIsSure) {
  // Probabilities .4 .3 .3 and .1 .3 .6: sums .5 .6 .9, maxima .4 .3 .6.
  const Keys keys(
      {{std::log(.4), std::log(.3), std::log(.3)}, {std::log(.1), std::log(.3), std::log(.6)}},
      {1, 1});
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kMass, 2))), (Sets{{1, 2}}));
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kMax, 2))), (Sets{{0, 2}}));
}

TEST(ReferenceChoice, RanksWalkOverTheHeadsInTurn) {
  const Keys keys({{9, 8, 7, 6, 5, 0}, {0, 5, 9, 8, 7, 0}}, {1, 1});
  // Rank 0: 0 and 2; rank 1: 1 and 3; rank 2: 2 (known) and 4.
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kRank, 3))), (Sets{{0, 1, 2}}));
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kRank, 4))), (Sets{{0, 1, 2, 3}}));
  EXPECT_EQ(Chosen(keys.Input(Plan(SetScope::kShared, Merge::kRank, 5))), (Sets{{0, 1, 2, 3, 4}}));
  // recent=25% of 4 under rank: 4 - floor(3) - 1 sink = 0; without a sink 1.
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kRank, 4);
  plan.recent = Percent(25);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 5}}));
  plan.sinks = 1;
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 3}}));
}

TEST(ReferenceChoice, MassTakesTheFewestTokens) {
  // Probabilities .5, .25, .125, .125.
  const double ln2 = std::log(2.0);
  const Keys keys({{3 * ln2, 2 * ln2, ln2, ln2}}, {1});
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 0);
  const auto chosen = [&](double mass, int32_t floor, int32_t ceil) {
    plan.mass = mass;
    plan.floor = floor;
    plan.ceil = ceil;
    return Chosen(keys.Input(plan));
  };
  EXPECT_EQ(chosen(0.45, 1, 0), (Sets{{0}}));
  EXPECT_EQ(chosen(0.55, 1, 0), (Sets{{0, 1}}));
  EXPECT_EQ(chosen(0.8, 1, 0), (Sets{{0, 1, 2}}));
  EXPECT_EQ(chosen(0.8, 1, 2), (Sets{{0, 1}}));
  EXPECT_EQ(chosen(0.45, 3, 0), (Sets{{0, 1, 2}}));
  plan.recent = Tokens(1);  // its share counts
  EXPECT_EQ(chosen(0.6, 1, 0), (Sets{{0, 3}}));
}

TEST(ReferenceChoice, APercentageRoundsUpAndHasAFloor) {
  const Keys keys({{7, 6, 5, 4, 3, 2, 1}}, {1});
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 0);
  plan.budget = Percent(30);  // of 7: 2.1
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2}}));
  plan.floor = 5;
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 3, 4}}));
  plan.floor = 50;
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 3, 4, 5, 6}}));
}

TEST(ReferenceChoice, WholePagesByTheirBestToken) {
  const Keys keys({{0, 1, 5, 0, 3, 3, 0}}, {1});
  AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 5);
  plan.page = 2;  // two pages: the current token's, and the best
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{2, 3, 6}}));
  plan.budget = Tokens(6);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{2, 3, 4, 5, 6}}));
  plan.budget = Tokens(1);
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{6}}));
}

TEST(ReferenceChoice, PageBoundsByEitherScorer) {
  // Pages of two: (-4, 4), (2, 3), (0, 0), (0). q = 1: minmax 4, 3, 0; mean and deviation 0 + 4,
  // 2.5 + .5. With q = -1: 4, -2, 0 and 4, -2.
  const Keys keys({{-4, 4, 2, 3, 0, 0, 0}}, {1, -1});
  AttentionPlan plan = Plan(SetScope::kHead, Merge::kScore, 6);
  plan.page = 2;
  for (const Scorer scorer : {Scorer::kPagesMinMax, Scorer::kPagesMeanStd}) {
    plan.scorer = scorer;
    EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 3, 6}, {0, 1, 4, 5, 6}}));
  }
  plan.scope = SetScope::kShared;
  EXPECT_EQ(Chosen(keys.Input(plan)), (Sets{{0, 1, 2, 3, 6}}));
}

TEST(ReferenceChoice, MassInsideASet) {
  const double ln2 = std::log(2.0);
  const Keys keys({{3 * ln2, 2 * ln2, ln2, ln2}}, {1, 0});
  const AttentionPlan plan = Plan(SetScope::kShared, Merge::kMass, 2);
  // Head 0: .5 + .25, head 1 (all equal): .25 + .25.
  EXPECT_NEAR(SelectedMass(keys.Input(plan), {{1, 1, 0, 0}}), 0.625, 1e-12);
  EXPECT_NEAR(SelectedMass(keys.Input(plan), {{1, 0, 0, 0}, {0, 0, 1, 1}}), 0.5, 1e-12);
  AttentionPlan streaming = plan;
  streaming.scorer = Scorer::kNone;
  EXPECT_TRUE(std::isnan(SelectedMass(keys.Input(streaming), {{1, 0, 0, 0}})));
}

TEST(ReferenceChoice, AnIndexHoldsMinimumStepAndCodes) {
  ReferenceKv kv(1, 1, 70);
  for (int32_t pos = 0; pos < 70; ++pos) kv.Channel(0, 0)[pos] = -1 + pos * 0.0501;
  kv.Channel(0, 0)[63] = 14;  // step 1 in 4 bits, 5 in 2
  const ReferenceKv four = IndexedKeys(kv, 70, 4);
  const ReferenceKv two = IndexedKeys(kv, 70, 2);
  EXPECT_EQ(four.Channel(0, 0)[0], -1);
  EXPECT_EQ(four.Channel(0, 0)[9], -1);  // -0.549: code .45
  EXPECT_EQ(four.Channel(0, 0)[11], 0);  // -0.449: code .55
  EXPECT_EQ(four.Channel(0, 0)[63], 14);
  EXPECT_EQ(two.Channel(0, 0)[49], -1);  // 1.45: code .49
  EXPECT_EQ(two.Channel(0, 0)[51], 4);   // 1.56: code .51
  EXPECT_EQ(two.Channel(0, 0)[63], 14);
  EXPECT_EQ(four.Channel(0, 0)[64], kv.Channel(0, 0)[64]);  // not sealed
  ReferenceKv short_kv(1, 1, 63);
  std::copy_n(kv.Channel(0, 0), 63, short_kv.Channel(0, 0));
  const ReferenceKv unsealed = IndexedKeys(short_kv, 63, 4);
  EXPECT_EQ(unsealed.keys, short_kv.keys);
}

TEST(ReferenceChoice, AnIndexOfAConstantChannelIsItsMinimum) {
  ReferenceKv kv(1, 1, 64);
  std::fill(kv.keys.begin(), kv.keys.end(), 0.5);
  EXPECT_EQ(IndexedKeys(kv, 64, 4).keys, kv.keys);
}

}  // namespace
}  // namespace tidal
