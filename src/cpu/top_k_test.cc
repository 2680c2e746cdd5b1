#include "cpu/top_k.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "cpu/isa_test_util.h"

namespace tidal {
namespace {

class TopKTest : public IsaTest {
 protected:
  const SelectionKernels& kernels() const { return KernelsFor(GetParam()).selection; }

  std::vector<int32_t> Run(const std::vector<float>& values, int32_t begin, int32_t end,
                           int32_t k) {
    scratch_.Reserve(static_cast<int64_t>(values.size()));
    const ValueRange range = {values.data(), begin, end};
    CountIntoBins(range, scratch_.bins.data());
    std::vector<int32_t> positions(static_cast<size_t>(k) + 1);
    positions.resize(static_cast<size_t>(TopK(kernels(), range, k, &scratch_, positions.data())));
    return positions;
  }

  TopKScratch scratch_;
};
INSTANTIATE_TEST_SUITE_P(Isas, TopKTest, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

// By a stable sort, whose order is that of value, then position.
std::vector<int32_t> Sorted(const std::vector<float>& values, int32_t begin, int32_t end) {
  std::vector<int32_t> order(static_cast<size_t>(end - begin));
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return order;
}

std::vector<int32_t> Expected(const std::vector<float>& values, int32_t begin, int32_t end,
                              int32_t k) {
  std::vector<int32_t> order = Sorted(values, begin, end);
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<std::vector<float>> Distributions(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<std::vector<float>> all(6, std::vector<float>(n));
  for (size_t i = 0; i < n; ++i) {
    const float x = normal(random);
    all[0][i] = x;                                       // scores
    all[1][i] = std::exp(4 * x);                         // probabilities: many octaves
    all[2][i] = std::round(x);                           // heavy ties
    all[3][i] = 0.25f;                                   // nothing but ties
    all[4][i] = i % 3 == 0 ? -0.0f : 0.0f;               // two zeros are one value
    all[5][i] = 1 + static_cast<float>(i % 97) * 1e-7f;  // all in one bin
  }
  return all;
}

TEST_P(TopKTest, IsAStableSortsHead) {
  uint32_t seed = 1;
  for (const size_t n : {1, 2, 7, 8, 9, 63, 64, 65, 1000, 5000}) {
    for (const std::vector<float>& values : Distributions(n, ++seed)) {
      const auto end = static_cast<int32_t>(n);
      for (const int32_t begin : {0, end / 3}) {
        for (const int32_t k : {0, 1, 2, (end - begin) / 2, end - begin - 1, end - begin}) {
          if (k < 0 || k > end - begin) continue;
          ASSERT_EQ(Run(values, begin, end, k), Expected(values, begin, end, k))
              << "n " << n << " k " << k << " begin " << begin;
        }
      }
    }
  }
}

TEST_P(TopKTest, AQuarterOfAMillionScores) {
  constexpr size_t kScores = 262144;
  for (const std::vector<float>& values : Distributions(kScores, 99)) {
    for (const int32_t k : {1, 32, 4096, static_cast<int32_t>(kScores)})
      ASSERT_EQ(Run(values, 0, kScores, k), Expected(values, 0, kScores, k)) << k;
  }
}

TEST_P(TopKTest, InfinitiesAreValuesAndNaNIsNeverChosen) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {kNaN,  1, kInfinity,  -kInfinity,
                                     -kNaN, 2, -kInfinity, kInfinity};
  EXPECT_EQ(Run(values, 0, 8, 1), (std::vector<int32_t>{2}));
  EXPECT_EQ(Run(values, 0, 8, 3), (std::vector<int32_t>{2, 5, 7}));
  EXPECT_EQ(Run(values, 0, 8, 5), (std::vector<int32_t>{1, 2, 3, 5, 7}));
  EXPECT_EQ(Run(values, 0, 8, 8), (std::vector<int32_t>{1, 2, 3, 5, 6, 7}));
}

TEST_P(TopKTest, SortedIsInOrderOfValue) {
  uint32_t seed = 50;
  for (const std::vector<float>& values : Distributions(3000, ++seed)) {
    std::vector<int32_t> expected = Sorted(values, 0, 3000);
    expected.resize(200);
    scratch_.Reserve(3000);
    std::vector<int32_t> got(201);
    got.resize(static_cast<size_t>(
        TopKSorted(kernels(), {values.data(), 0, 3000}, 200, &scratch_, got.data())));
    EXPECT_EQ(got, expected);
  }
}

// Walks the stable order one by one, as the definition reads.
std::vector<int32_t> ExpectedMass(const std::vector<float>& values, const MassTarget& target) {
  std::vector<int32_t> chosen;
  double have = target.have;
  for (const int32_t pos : Sorted(values, 0, static_cast<int32_t>(values.size()))) {
    const auto size = target.size + static_cast<int32_t>(chosen.size());
    if (have >= target.share && size >= target.floor) break;
    if (target.ceil != 0 && size >= target.ceil) break;
    chosen.push_back(pos);
    have += double{values[static_cast<size_t>(pos)]} * target.scale;
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

TEST_P(TopKTest, MassTakesTheFewestThatReachTheShare) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 2);
  for (const size_t n : {1, 10, 64, 1000, 20000}) {
    std::vector<float> values(n);
    double sum = 0;
    for (float& value : values) sum += value = std::exp(normal(random));
    for (const double share : {0.0, 0.3, 0.9, 0.999, 2.0}) {
      for (const int32_t floor : {1, 50}) {
        for (const int32_t ceil : {0, 5, 200}) {
          const MassTarget target = {share, 0.05, 3, floor, ceil, 1 / sum};
          scratch_.Reserve(static_cast<int64_t>(n));
          std::vector<int32_t> got(n + 1);
          got.resize(
              static_cast<size_t>(TopMass(kernels(), {values.data(), 0, static_cast<int32_t>(n)},
                                          target, &scratch_, got.data())));
          ASSERT_EQ(got, ExpectedMass(values, target))
              << "n " << n << " share " << share << " floor " << floor << " ceil " << ceil;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidal
