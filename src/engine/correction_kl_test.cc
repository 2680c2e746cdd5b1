#include "engine/correction_kl.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace tidal {
namespace {

std::vector<float> SomeLogits(size_t n, uint32_t seed, float spread) {
  std::vector<float> logits;
  for (uint32_t state = seed; logits.size() < n;) {
    state = state * 1664525u + 1013904223u;
    logits.push_back(spread * (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f));
  }
  return logits;
}

std::vector<double> Probs(const std::vector<float>& logits) {
  std::vector<double> probs;
  double sum = 0;
  for (const float logit : logits) {
    probs.push_back(std::exp(static_cast<double>(logit)));
    sum += probs.back();
  }
  for (double& prob : probs) prob /= sum;
  return probs;
}

double TrueKl(const std::vector<float>& full, const std::vector<float>& sparse) {
  const std::vector<double> p = Probs(full);
  const std::vector<double> q = Probs(sparse);
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
  return kl;
}

// Log-probabilities are kept as float32, of size 10 at most: half a unit in the last place of
// each moves the weighted sum by no more than that of the largest.
constexpr double kTolerance = 10 * 0x1p-23;

TEST(CorrectionKl, IsExactForASmallVocabulary) {
  const std::vector<float> sparse = SomeLogits(200, 1, 8);
  const std::vector<float> full = SomeLogits(200, 2, 8);
  CorrectionKl kl;
  kl.Keep(10, sparse);
  kl.Compare(10, full);
  EXPECT_NEAR(kl.mean(), TrueKl(full, sparse), kTolerance);
  EXPECT_GT(kl.mean(), 0.1);
}

TEST(CorrectionKl, IsALowerBoundThatMergesTheUnlikelyTokens) {
  const size_t n = 3000;
  const std::vector<float> sparse = SomeLogits(n, 1, 12);
  std::vector<float> full = sparse;
  const std::vector<float> noise = SomeLogits(n, 3, 2);
  for (size_t i = 0; i < n; ++i) full[i] += noise[i];
  CorrectionKl kl;
  kl.Keep(0, sparse);
  kl.Compare(0, full);
  // The same by sorting, all in double.
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sparse[a] > sparse[b]; });
  const std::vector<double> p = Probs(full);
  const std::vector<double> q = Probs(sparse);
  double expected = 0;
  double p_rest = 1;
  double q_rest = 1;
  for (size_t i = 0; i < CorrectionKl::kTokens; ++i) {
    expected += p[order[i]] * std::log(p[order[i]] / q[order[i]]);
    p_rest -= p[order[i]];
    q_rest -= q[order[i]];
  }
  expected += p_rest * std::log(p_rest / q_rest);
  EXPECT_NEAR(kl.mean(), expected, kTolerance);
  EXPECT_LE(kl.mean(), TrueKl(full, sparse));
  EXPECT_GT(kl.mean(), 0.01);
}

TEST(CorrectionKl, EqualRowsGiveNothing) {
  for (const size_t n : {5u, 255u, 256u, 257u, 5000u}) {
    const std::vector<float> logits = SomeLogits(n, 7, 30);
    CorrectionKl kl;
    kl.Keep(3, logits);
    kl.Compare(3, logits);
    EXPECT_NEAR(kl.max(), 0, kTolerance) << n;
  }
}

TEST(CorrectionKl, RowsAreComparedInOrderAndThenForgotten) {
  CorrectionKl kl;
  kl.Reserve(3, 300);
  double sum = 0;
  double largest = 0;
  for (const int32_t first : {100, 103, 250}) {
    for (int32_t i = 0; i < 3; ++i)
      kl.Keep(first + i, SomeLogits(300, static_cast<uint32_t>(first + i), 4));
    for (int32_t i = 0; i < 3; ++i) {
      CorrectionKl alone;
      const auto full = SomeLogits(300, static_cast<uint32_t>(first + i + 1000), 4);
      alone.Keep(0, SomeLogits(300, static_cast<uint32_t>(first + i), 4));
      alone.Compare(0, full);
      kl.Compare(first + i, full);
      sum += alone.mean();
      largest = std::max(largest, alone.mean());
    }
  }
  EXPECT_EQ(kl.num_compared(), 9);
  EXPECT_DOUBLE_EQ(kl.mean(), sum / 9);
  EXPECT_DOUBLE_EQ(kl.max(), largest);
}

TEST(CorrectionKl, StaysFiniteOnLogitsThatAreNot) {
  std::vector<float> sparse = SomeLogits(400, 1, 4);
  std::vector<float> full = SomeLogits(400, 2, 4);
  sparse[7] = std::numeric_limits<float>::quiet_NaN();
  sparse[8] = -std::numeric_limits<float>::infinity();
  full[9] = -std::numeric_limits<float>::infinity();
  full[10] = std::numeric_limits<float>::quiet_NaN();
  CorrectionKl kl;
  kl.Keep(0, sparse);
  kl.Compare(0, full);
  EXPECT_TRUE(std::isfinite(kl.mean()));
  EXPECT_GT(kl.mean(), 0);
}

}  // namespace
}  // namespace tidal
