#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <set>

namespace tidal {
namespace {

TEST(Quantile, InterpolatesBetweenOrderStatistics) {
  std::vector<double> values = {5, 1, 3, 2, 4};
  EXPECT_EQ(Quantile(&values, 0), 1);
  EXPECT_EQ(Quantile(&values, 0.5), 3);
  EXPECT_EQ(Quantile(&values, 1), 5);
  EXPECT_DOUBLE_EQ(Quantile(&values, 0.9), 4.6);
  std::vector<double> one = {7};
  EXPECT_EQ(Quantile(&one, 0.3), 7);
}

double MeanOf(const std::vector<double>& values, std::span<const int32_t> units) {
  double sum = 0;
  for (const int32_t unit : units) sum += values[static_cast<size_t>(unit)];
  return sum / static_cast<double>(units.size());
}

// The interval of a mean of many equal units is about 1.96 standard errors wide to either side.
TEST(Bootstrap, IntervalOfAMean) {
  std::mt19937 random(2);
  std::normal_distribution<double> normal(10, 3);
  std::vector<double> values(400);
  for (double& value : values) value = normal(random);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / 400;
  double variance = 0;
  for (const double value : values) variance += (value - mean) * (value - mean) / 399;
  const double half = 1.96 * std::sqrt(variance / 400);
  const Estimate estimate =
      Bootstrap(400, 3, [&](std::span<const int32_t> units) { return MeanOf(values, units); });
  EXPECT_DOUBLE_EQ(estimate.value, mean);
  // An order statistic of 1000 draws near 2.5 % is good to about a tenth of the half width.
  EXPECT_NEAR(estimate.low, mean - half, 0.15 * half);
  EXPECT_NEAR(estimate.high, mean + half, 0.15 * half);
}

TEST(Bootstrap, DrawsDependOnTheSeedAndTheCountAlone) {
  const auto draws_of = [](uint64_t seed) {
    std::vector<std::vector<int32_t>> draws;
    Bootstrap(
        7, seed,
        [&](std::span<const int32_t> units) {
          draws.emplace_back(units.begin(), units.end());
          return 0.0;
        },
        50);
    return draws;
  };
  const auto draws = draws_of(1);
  ASSERT_EQ(draws.size(), 51u);
  EXPECT_EQ(draws[0], (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6})) << "all units once";
  EXPECT_EQ(draws, draws_of(1));
  EXPECT_NE(draws, draws_of(2));
  std::set<int32_t> seen;
  for (const auto& draw : draws) seen.insert(draw.begin(), draw.end());
  EXPECT_EQ(seen.size(), 7u);
}

TEST(Bootstrap, OneUnitHasNoInterval) {
  const Estimate estimate = Bootstrap(1, 1, [](std::span<const int32_t>) { return 4.0; });
  EXPECT_EQ(estimate.value, 4);
  EXPECT_TRUE(std::isnan(estimate.low) && std::isnan(estimate.high));
}

TEST(Roc, AreaIsTheShareOfRightlyOrderedPairs) {
  std::mt19937 random(4);
  std::vector<float> scores(300);
  std::vector<uint8_t> bad(300);
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i] = static_cast<float>(random() % 40) / 40;  // with ties
    bad[i] = random() % 100 < 60 * (1 - scores[i]) ? 1 : 0;
  }
  double right = 0;
  double pairs = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    for (size_t j = 0; j < scores.size(); ++j) {
      if (bad[i] == 0 || bad[j] != 0) continue;
      right += scores[i] < scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
      pairs += 1;
    }
  }
  const RocCurve roc = RocOf(scores, bad);
  EXPECT_NEAR(roc.auc, right / pairs, 1e-12);
  EXPECT_EQ(roc.rows, 300);
  EXPECT_EQ(roc.points.front().true_positive_rate, 0);
  EXPECT_EQ(roc.points.back().true_positive_rate, 1);
  EXPECT_EQ(roc.points.back().false_positive_rate, 1);
  for (size_t i = 1; i < roc.points.size(); ++i) {
    EXPECT_GE(roc.points[i].true_positive_rate, roc.points[i - 1].true_positive_rate);
    EXPECT_GE(roc.points[i].threshold, roc.points[i - 1].threshold);
  }
}

TEST(Roc, PerfectUselessAndUndefined) {
  const std::vector<float> scores = {0.1F, 0.2F, 0.8F, 0.9F};
  EXPECT_EQ(RocOf(scores, std::vector<uint8_t>{1, 1, 0, 0}).auc, 1);
  EXPECT_EQ(RocOf(scores, std::vector<uint8_t>{0, 0, 1, 1}).auc, 0);
  const std::vector<float> same(4, 0.5F);
  EXPECT_EQ(RocOf(same, std::vector<uint8_t>{0, 1, 1, 0}).auc, 0.5);
  EXPECT_TRUE(RocOf(scores, std::vector<uint8_t>{0, 0, 0, 0}).points.empty());
  std::vector<float> many(5000);
  std::iota(many.begin(), many.end(), 0.0F);
  std::vector<uint8_t> bad(5000);
  bad[7] = 1;
  EXPECT_LE(RocOf(many, bad).points.size(), static_cast<size_t>(kRocPoints) + 1);
}

}  // namespace
}  // namespace tidal
