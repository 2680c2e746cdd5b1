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

// Plain double precision.
std::vector<double> Softmax(const std::vector<float>& logits) {
  std::vector<double> probs;
  for (const float logit : logits) probs.push_back(std::exp(static_cast<double>(logit)));
  const double sum = std::accumulate(probs.begin(), probs.end(), 0.0);
  for (double& prob : probs) prob /= sum;
  return probs;
}

double Kl(const std::vector<float>& a, const std::vector<float>& b) {
  const auto p = Softmax(a);
  const auto q = Softmax(b);
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
  return kl;
}

double KlBetween(const std::vector<float>& a, const std::vector<float>& b) {
  return ReferenceRow(a).KlTo(b, LogSumExp(b));
}

TEST(ReferenceRow, HandCases) {
  const float ln3 = std::log(3.0F);
  // (3/4, 1/4) against (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
  EXPECT_NEAR(KlBetween({ln3, 0}, {0, 0}), 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-7);
  EXPECT_NEAR(KlBetween({0, 0}, {ln3, 0}), 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-7);
  // A shift of all logits is the same distribution.
  EXPECT_NEAR(KlBetween({1, 2, 3}, {101, 102, 103}), 0, 1e-5) << "float32 rounding of 100";
  EXPECT_NEAR(ReferenceRow(std::vector<float>{ln3, 0}).Logprob(0), std::log(0.75), 1e-7);
}

TEST(ReferenceRow, RandomRowsAgreeWithDoublePrecision) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 4);
  for (int i = 0; i < 20; ++i) {
    std::vector<float> a(3000);
    for (float& logit : a) logit = normal(random);
    std::vector<float> b = a;
    for (float& logit : b) logit += 0.05F * normal(random);
    const double expected = Kl(a, b);
    // Probabilities are float32, which leaves 1e-7 of differences of about a unit.
    EXPECT_NEAR(KlBetween(a, b), expected, 1e-6 + 1e-5 * expected);
    EXPECT_EQ(KlBetween(a, a), 0) << "exactly";
    EXPECT_EQ(ReferenceRow(a).best(), std::max_element(a.begin(), a.end()) - a.begin());
  }
}

TEST(ReferenceRow, TokensThatCannotCome) {
  const float never = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(KlBetween({0, never}, {0, never}), 0);
  EXPECT_NEAR(KlBetween({0, never}, {0, 0}), std::log(2.0), 1e-7);
  EXPECT_EQ(KlBetween({0, 0}, {0, never}), std::numeric_limits<double>::infinity());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(KlBetween({0, nan}, {0, never}), 0);
  EXPECT_EQ(ArgMax(std::vector<float>{nan, 1, 1}), 1) << "the first of the largest";
}

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
