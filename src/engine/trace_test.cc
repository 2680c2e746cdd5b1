#include "engine/trace.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace tidal {
namespace {

struct Line {
  LayerTrace trace;
  std::vector<std::vector<int32_t>> positions;
};

std::vector<Line> LinesOf(const TraceCollector& collector, int32_t sequence) {
  std::vector<Line> lines;
  collector.Tell(sequence, 5, [&](const LayerTrace& trace) {
    lines.push_back({trace, {trace.positions.begin(), trace.positions.end()}});
  });
  return lines;
}

TEST(TraceCollector, TellsEveryLayerOfARow) {
  AttentionPlan plan;
  plan.reads_all = {1, 1, 0, 0, 0};
  plan.selects = {0, 1, 0, 1, 0};
  const PageId pages[] = {7, 2, 5};
  StepBatch batch;
  batch.sequences.resize(2);
  batch.sequences[0].kv_len = 100;
  batch.sequences[0].page_table = pages;
  batch.sequences[1].kv_len = 150;
  batch.sequences[1].page_table = pages;
  batch.sequences[1].plan = &plan;
  TraceCollector collector(5, 8);
  collector.Begin(&batch);
  const int32_t first[] = {5 * kPageSize + 3, 7 * kPageSize + 1, 2 * kPageSize};
  const int32_t second[] = {7 * kPageSize};
  const SlotSet one_set[] = {{first, 3}};
  const SlotSet two_sets[] = {{first, 3}, {second, 1}};
  collector.OnChosen(1, 1, true, 0.75f, one_set);
  collector.OnChosen(3, 1, false, std::numeric_limits<float>::quiet_NaN(), two_sets);

  const std::vector<Line> full = LinesOf(collector, 0);
  ASSERT_EQ(full.size(), 5u);
  for (int32_t layer = 0; layer < 5; ++layer) {
    const LayerTrace& trace = full[static_cast<size_t>(layer)].trace;
    EXPECT_EQ(trace.layer, layer);
    EXPECT_EQ(trace.pos, 99);
    EXPECT_EQ(trace.step, 5);
    EXPECT_EQ(trace.role, LayerRole::kFull);
    EXPECT_EQ(trace.tokens_attended, 100);
    EXPECT_EQ(trace.selected_mass, 1);
    EXPECT_FALSE(trace.chose);
  }

  const std::vector<Line> sparse = LinesOf(collector, 1);
  ASSERT_EQ(sparse.size(), 5u);
  const LayerRole roles[] = {LayerRole::kFull, LayerRole::kFull, LayerRole::kReuse,
                             LayerRole::kSelection, LayerRole::kReuse};
  const double tokens[] = {150, 150, 3, 2, 2};
  for (size_t layer = 0; layer < 5; ++layer) {
    EXPECT_EQ(sparse[layer].trace.role, roles[layer]) << layer;
    EXPECT_EQ(sparse[layer].trace.tokens_attended, tokens[layer]) << layer;
    EXPECT_EQ(sparse[layer].trace.chose, layer == 1 || layer == 3);
  }
  EXPECT_EQ(sparse[0].trace.selected_mass, 1);
  EXPECT_EQ(sparse[1].trace.selected_mass, 0.75f);
  EXPECT_TRUE(std::isnan(sparse[2].trace.selected_mass));
  EXPECT_TRUE(std::isnan(sparse[3].trace.selected_mass));
  EXPECT_TRUE(sparse[1].trace.fresh);
  EXPECT_FALSE(sparse[3].trace.fresh);
  EXPECT_EQ(sparse[1].positions, (std::vector<std::vector<int32_t>>{{1, 64, 131}}));
  EXPECT_EQ(sparse[3].positions, (std::vector<std::vector<int32_t>>{{1, 64, 131}, {0}}));

  // The next step knows nothing of this one.
  collector.Begin(&batch);
  EXPECT_FALSE(LinesOf(collector, 1)[1].trace.chose);
}

}  // namespace
}  // namespace tidal
