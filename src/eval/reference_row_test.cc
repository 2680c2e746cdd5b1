#include "eval/reference_row.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

namespace tidal {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Plain double precision, from the definitions.
double LogSumExp(const std::vector<float>& logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

double Kl(const std::vector<float>& a, const std::vector<float>& b) {
  const double log_a = LogSumExp(a);
  const double log_b = LogSumExp(b);
  double kl = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double log_p = static_cast<double>(a[i]) - log_a;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(b[i]) - log_b));
  }
  return kl;
}

ComparedRow Compared(const std::vector<float>& a, const std::vector<float>& b, int threads = 1) {
  ThreadPool pool(threads);
  return ReferenceRow(a, &pool).Compare(b, &pool);
}

double KlBetween(const std::vector<float>& a, const std::vector<float>& b) {
  return Compared(a, b).kl;
}

std::vector<float> RandomRow(size_t size, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> row(size);
  for (float& logit : row) logit = normal(random);
  return row;
}

std::vector<float> Sum(std::vector<float> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST(ReferenceRow, HandCases) {
  const float ln3 = std::log(3.0F);
  // (3/4, 1/4) against (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
  EXPECT_NEAR(KlBetween({ln3, 0}, {0, 0}), 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-7);
  EXPECT_NEAR(KlBetween({0, 0}, {ln3, 0}), 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-7);
  const std::vector<float> row = {ln3, 0};
  ThreadPool pool(1);
  EXPECT_NEAR(Logprob(row, 0, ReferenceRow(row, &pool).log_sum_exp()), std::log(0.75), 1e-7);
}

// Exponentials are float32: each probability is off by 1e-7 of it, which is what the differences of
// logits and the sums of exponentials are off by.
TEST(ReferenceRow, AgreesWithDoublePrecision) {
  uint32_t seed = 1;
  for (const size_t size : {size_t{1}, size_t{7}, size_t{100}, size_t{2048}, size_t{2049},
                            size_t{6151}, size_t{49152}}) {
    for (const float deviation : {0.1F, 4.0F, 20.0F}) {
      for (const float noise : {0.0F, 0.001F, 0.3F, 5.0F}) {
        const std::vector<float> a = RandomRow(size, deviation, seed++);
        const std::vector<float> b = Sum(a, RandomRow(size, noise, seed++));
        const ComparedRow row = Compared(a, b);
        const double tolerance = 3e-7 * (1 + static_cast<double>(noise));
        EXPECT_NEAR(row.kl, Kl(a, b), tolerance) << size << " " << deviation << " " << noise;
        EXPECT_NEAR(row.log_sum_exp, LogSumExp(b), 2e-7);
        EXPECT_EQ(row.best, std::max_element(b.begin(), b.end()) - b.begin());
      }
    }
  }
}

TEST(ReferenceRow, AShiftOfAllLogitsIsTheSameDistribution) {
  const std::vector<float> a = RandomRow(5000, 3, 1);
  std::vector<float> b = a;
  for (float& logit : b) logit += 64;
  // Logits near 64 are multiples of 2^-17.
  EXPECT_NEAR(KlBetween(a, b), 0, std::ldexp(1.0, -17));
}

TEST(ReferenceRow, EqualLogitsLoseNothingExactly) {
  for (const size_t size : {size_t{3}, size_t{2048}, size_t{50000}}) {
    const std::vector<float> row = RandomRow(size, 4, 9);
    EXPECT_EQ(KlBetween(row, row), 0);
  }
}

TEST(ReferenceRow, ThreadsChangeNothing) {
  const std::vector<float> a = RandomRow(50001, 4, 1);
  const std::vector<float> b = Sum(a, RandomRow(50001, 0.2F, 2));
  const ComparedRow one = Compared(a, b, 1);
  for (const int threads : {2, 3, 8}) {
    const ComparedRow many = Compared(a, b, threads);
    EXPECT_EQ(many.kl, one.kl);
    EXPECT_EQ(many.log_sum_exp, one.log_sum_exp);
    EXPECT_EQ(many.best, one.best);
  }
}

TEST(ReferenceRow, TokensThatCannotCome) {
  EXPECT_EQ(KlBetween({0, kNever}, {0, kNever}), 0);
  EXPECT_NEAR(KlBetween({0, kNever}, {0, 0}), std::log(2.0), 1e-7);
  EXPECT_EQ(KlBetween({0, 0}, {0, kNever}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(KlBetween({0, kNaN}, {0, kNever}), 0);
  EXPECT_EQ(Compared({1, 1}, {kNaN, 1}).best, 1);
  EXPECT_EQ(Compared({1, 1, 1}, {kNever, 1, 1}).best, 1) << "the first of the largest";
  // Whole pieces of them.
  std::vector<float> row = RandomRow(6000, 2, 5);
  std::fill(row.begin(), row.begin() + 4500, kNever);
  EXPECT_EQ(KlBetween(row, row), 0);
  EXPECT_EQ(Compared(row, row).best, std::max_element(row.begin(), row.end()) - row.begin());
  EXPECT_EQ(Compared({0, 0}, {kNaN, kNaN}).best, 0);
}

// What e^x leaves out lies below 1e-37 of the largest.
TEST(ReferenceRow, VeryUnlikelyTokens) {
  EXPECT_NEAR(KlBetween({0, -200}, {0, -100}), 0, 1e-12);
  EXPECT_NEAR(KlBetween({0, -80}, {0, 0}), std::log(2.0), 1e-7);
  EXPECT_NEAR(KlBetween({0, 0}, {0, -1000}), 500 - std::log(2.0), 500 * 1e-7);
}

}  // namespace
}  // namespace tidal
