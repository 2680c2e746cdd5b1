#include "eval/calibration_front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eval/calibration_choice.h"

namespace tidal {
namespace {

using testing::ElementsAre;

// Four layers of 100 bytes, 10 of which are an index of 4 bits and 5 one of 2; a budget is as many
// bytes.
CalibrationPoint Point(int32_t budget, int32_t bits, LayerSet select, double kl) {
  CalibrationPoint point;
  point.budget = budget;
  point.index_bits = bits;
  point.scan_bytes = static_cast<double>(select.size()) * (bits == 4 ? 10 : 5);
  point.gather_bytes = budget;
  point.select = std::move(select);
  point.kl = kl;
  return point;
}

const std::vector<CalibrationPoint> kPoints = {
    Point(50, 4, {0, 1, 2, 3}, 0.05),  Point(50, 4, {0, 2}, 0.06),
    Point(50, 4, {0, 3}, 0.07),        Point(90, 4, {0, 1, 2, 3}, 0.01),
    Point(90, 4, {0, 2}, 0.02),        Point(90, 4, {0}, 0.03),
    Point(50, 2, {0, 1, 2, 3}, 0.055), Point(50, 2, {0, 1, 2}, 0.058),
    Point(90, 2, {0, 1, 2, 3}, 0.02),  Point(90, 2, {0, 1, 2}, 0.021),
};

TEST(CalibrationFront, ThePlanTextTellsPointsApart) {
  CalibrationPoint point = Point(50, 2, {0, 3}, 0);
  point.scope = SetScope::kKvHead;
  EXPECT_EQ(PlanText(point), "tidal:budget=50:select=0+3:scope=kv:scorer=index2:below=0");
}

TEST(CalibrationFront, NoPointOfItIsBeaten) {
  std::vector<std::string> texts;
  for (const CalibrationPoint& point : FrontOf(kPoints))
    texts.push_back(fmt::format("{} {}", point.bytes(), point.kl));
  EXPECT_THAT(texts, ElementsAre("65 0.058", "70 0.055", "90 0.05", "100 0.03", "105 0.021",
                                 "110 0.02", "130 0.01"));
}

TEST(CalibrationFront, TheBestPointIsWithinTheTarget) {
  const auto best = [](int32_t budget, const CalibrationTarget& target) {
    const CalibrationPoint* point = BestPoint(kPoints, budget, 4, target, 400);
    return point == nullptr ? LayerSet() : point->select;
  };
  EXPECT_THAT(best(90, {.max_kl = 0.02}), ElementsAre(0, 2)) << "within it the fewest bytes";
  EXPECT_THAT(best(90, {.max_kl = 0.5}), ElementsAre(0));
  EXPECT_THAT(best(50, {.max_kl = 0.02}), ElementsAre());
  EXPECT_THAT(best(50, {.max_scan_share = 0.05}), ElementsAre(0, 2)) << "the least loss";
  EXPECT_THAT(best(50, {.max_scan_share = 0.04}), ElementsAre());
}

TEST(CalibrationFront, CostsAreThoseOfACache) {
  CacheCosts costs;
  costs.num_layers = 4;
  costs.layer_bytes = 100;
  costs.layer_index_bytes = 10;
  costs.token_bytes = 2;
  costs.gqa_ratio = 3;
  EXPECT_DOUBLE_EQ(costs.ScanShare(2), 0.05);
  EXPECT_EQ(costs.MostLayers(0.05), 2) << "a share that was meant exactly";
  EXPECT_EQ(costs.MostLayers(0.049), 1);
  EXPECT_EQ(costs.MostLayers(0.001), 0);
  EXPECT_EQ(costs.MostLayers(1), 4);
  CalibrationPoint point = Point(7, 4, {0, 1}, 0);
  costs.Fill(&point);
  EXPECT_EQ(point.scan_bytes, 20);
  EXPECT_EQ(point.gather_bytes, 4 * 2 * 7);
  point.scope = SetScope::kHead;
  costs.Fill(&point);
  EXPECT_EQ(point.gather_bytes, 3 * 4 * 2 * 7) << "each head of a group reads alone";
}

CalibrationResult Chosen(const CalibrationTarget& target, bool* done) {
  CalibrationRequest request;
  request.target = target;
  request.budgets = {50, 90};
  request.index_bits = {4, 2};
  CalibrationResult result;
  result.num_layers = 4;
  result.all_bytes = 400;
  result.points = kPoints;
  *done = ChoosePlans(request, &result);
  return result;
}

TEST(CalibrationChoice, AllPlansShareTheBitsThatCostLeast) {
  bool done = false;
  // 4 bits: 50 + 40 (every layer, nothing is within) and 90 + 10; 2 bits: 50 + 20 and 90 + 15.
  const CalibrationResult by_loss = Chosen({.max_kl = 0.03}, &done);
  ASSERT_TRUE(done);
  EXPECT_EQ(by_loss.index_bits, 2);
  ASSERT_EQ(by_loss.plans.size(), 2u);
  EXPECT_FALSE(by_loss.plans[0].meets_target);
  EXPECT_THAT(by_loss.plans[0].point.select, ElementsAre(0, 1, 2, 3));
  EXPECT_TRUE(by_loss.plans[1].meets_target);
  EXPECT_THAT(by_loss.plans[1].point.select, ElementsAre(0, 1, 2));
  EXPECT_EQ(by_loss.recommended, 1u);
  // Both budgets come before fewer bytes: 2 bits would read less, but miss the target with one.
  const CalibrationResult both = Chosen({.max_kl = 0.05}, &done);
  ASSERT_TRUE(done);
  EXPECT_EQ(both.index_bits, 4);
  // A tighter one only 4 bits meet.
  const CalibrationResult tight = Chosen({.max_kl = 0.015}, &done);
  ASSERT_TRUE(done);
  EXPECT_EQ(tight.index_bits, 4);
  // 5 % is two layers with 4 bits, four with 2.
  const CalibrationResult by_scan = Chosen({.max_scan_share = 0.05}, &done);
  ASSERT_TRUE(done);
  EXPECT_EQ(by_scan.index_bits, 2);
  EXPECT_EQ(by_scan.recommended, 1u);
  EXPECT_TRUE(Chosen({.max_kl = 0.001}, &done).plans.empty());
  EXPECT_FALSE(done);
}

}  // namespace
}  // namespace tidal
