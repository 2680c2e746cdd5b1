#include "eval/calibration_search.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <set>

namespace tidal {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;

// A loss with layers that help and hinder each other, without a pattern.
double HashLoss(const LayerSet& set) {
  uint64_t state = 88172645463325252U;
  for (const int32_t layer : set) {
    state ^= static_cast<uint64_t>(layer + 1) * 0x9E3779B97F4A7C15U;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
  }
  return 1.0 / static_cast<double>(set.size()) + static_cast<double>(state % 1000) * 1e-3;
}

MeasureSetsFn Measuring(const std::function<double(const LayerSet&)>& loss,
                        std::multiset<LayerSet>* measured = nullptr) {
  return [loss, measured](std::span<const LayerSet> sets, LossRows rows) {
    std::vector<double> losses;
    for (const LayerSet& set : sets) {
      losses.push_back(loss(set));
      if (measured != nullptr && rows == LossRows::kAll) measured->insert(set);
    }
    return Result<std::vector<double>>(losses);
  };
}

// Greedy by trying everything, one layer a round.
std::map<size_t, LayerSet> BruteForce(int32_t num_layers, bool drops) {
  LayerSet set = {0};
  if (drops) {
    set.resize(static_cast<size_t>(num_layers));
    std::iota(set.begin(), set.end(), 0);
  }
  std::map<size_t, LayerSet> chosen = {{set.size(), set}};
  while (drops ? set.size() > 1 : set.size() < static_cast<size_t>(num_layers)) {
    LayerSet best;
    for (int32_t layer = 1; layer < num_layers; ++layer) {
      std::set<int32_t> changed(set.begin(), set.end());
      if (drops ? changed.erase(layer) == 0 : !changed.insert(layer).second) continue;
      const LayerSet candidate(changed.begin(), changed.end());
      if (best.empty() || HashLoss(candidate) < HashLoss(best)) best = candidate;
    }
    set = best;
    chosen[set.size()] = set;
  }
  return chosen;
}

// Of each size the measured set that loses least, which is the one that the search went on with.
std::map<size_t, LayerSet> Path(const std::vector<MeasuredSet>& measured) {
  std::map<size_t, MeasuredSet> best;
  for (const MeasuredSet& set : measured) {
    EXPECT_EQ(set.loss, HashLoss(set.layers));
    MeasuredSet& of_size = best.try_emplace(set.layers.size(), set).first->second;
    if (set.loss < of_size.loss) of_size = set;
  }
  std::map<size_t, LayerSet> path;
  for (const auto& [size, set] : best) path[size] = set.layers;
  return path;
}

TEST(CalibrationSearch, DropsAndAddsAsTryingEverythingDoes) {
  for (const int32_t num_layers : {1, 2, 3, 7, kTriedLayers}) {
    const SearchLimits drop = {.enough = -1};  // never good enough for strides
    const auto dropped = DropLayers(num_layers, drop, Measuring(HashLoss));
    ASSERT_TRUE(dropped.ok());
    EXPECT_EQ(Path(*dropped), BruteForce(num_layers, true)) << num_layers;
    const SearchLimits add = {.most = num_layers, .enough = -1};
    const auto added = AddLayers(num_layers, add, Measuring(HashLoss));
    ASSERT_TRUE(added.ok());
    EXPECT_EQ(Path(*added), BruteForce(num_layers, false)) << num_layers;
  }
}

// Every layer has a worth of its own that is lost without it.
double Additive(const LayerSet& set) {
  double loss = 0;
  for (int32_t layer = 1; layer < 30; ++layer)
    if (!std::binary_search(set.begin(), set.end(), layer)) loss += 1 + layer * 7 % 30;
  return loss;
}

TEST(CalibrationSearch, StridesEndWhereTheLossIsEnough) {
  std::multiset<LayerSet> measured;
  const double enough = 60;
  const auto sets =
      DropLayers(30, {.enough = enough, .hopeless = 200}, Measuring(Additive, &measured));
  ASSERT_TRUE(sets.ok());
  EXPECT_LT(measured.size(), 60u) << "one by one it would be three for each of 29 layers";
  const std::vector<MeasuredSet> best = BestOfEachSize(*sets);
  EXPECT_LE(best.back().loss, 0.0);
  EXPECT_GT(best.front().loss, 200) << "the first hopeless set is the last";
  // Worths are 2 to 30: the nine least add up to 54, so twenty layers and layer 0 are needed.
  const auto fewest = std::find_if(best.begin(), best.end(),
                                   [&](const MeasuredSet& set) { return set.loss <= enough; });
  ASSERT_NE(fewest, best.end());
  LayerSet expected;
  for (int32_t layer = 0; layer < 30; ++layer)
    if (layer == 0 || 1 + layer * 7 % 30 > 10) expected.push_back(layer);
  EXPECT_EQ(fewest->layers, expected);
}

TEST(CalibrationSearch, LimitsAreKept) {
  const auto dropped = DropLayers(10, {.fewest = 4, .enough = 1e9}, Measuring(HashLoss));
  ASSERT_TRUE(dropped.ok());
  for (const MeasuredSet& set : *dropped) {
    EXPECT_GE(set.layers.size(), 4u);
    EXPECT_EQ(set.layers.front(), 0);
  }
  EXPECT_EQ(Path(*dropped).begin()->first, 4u);
  const auto added = AddLayers(10, {.most = 3, .enough = -1}, Measuring(HashLoss));
  ASSERT_TRUE(added.ok());
  EXPECT_EQ(Path(*added).rbegin()->first, 3u);
  const auto enough = AddLayers(10, {.most = 10, .enough = 1e9}, Measuring(HashLoss));
  ASSERT_TRUE(enough.ok());
  ASSERT_EQ(enough->size(), 1u);
  EXPECT_THAT((*enough)[0].layers, ElementsAre(0));
}

TEST(CalibrationSearch, AnErrorEndsIt) {
  int calls = 0;
  const MeasureSetsFn failing = [&](std::span<const LayerSet> sets,
                                    LossRows) -> Result<std::vector<double>> {
    if (++calls == 3) return Cancelled("stopped");
    return std::vector<double>(sets.size(), 1.0);
  };
  EXPECT_EQ(DropLayers(5, {}, failing).status().code(), StatusCode::kCancelled);
  calls = 0;
  EXPECT_EQ(AddLayers(5, {.most = 5}, failing).status().code(), StatusCode::kCancelled);
}

TEST(CalibrationSearch, OfEachSizeTheBestStays) {
  const std::vector<MeasuredSet> best = BestOfEachSize({{{0, 1, 2}, 0.5},
                                                        {{0}, 3},
                                                        {{0, 2}, 1},
                                                        {{0, 1}, 2},
                                                        {{0, 1, 2, 3}, 0.5},
                                                        {{0, 1, 3}, 0.6}});
  ASSERT_EQ(best.size(), 3u);
  EXPECT_THAT(best[0].layers, ElementsAre(0));
  EXPECT_THAT(best[1].layers, ElementsAre(0, 2));
  EXPECT_THAT(best[2].layers, ElementsAre(0, 1, 2)) << "a fourth layer that helps nothing";
}

}  // namespace
}  // namespace tidal
