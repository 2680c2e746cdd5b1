#include "engine/attention_stats.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace tidal {
namespace {

RowReport FullReport(int32_t kv_len, int32_t num_layers) {
  RowReport report;
  report.tokens_attended[0] = kv_len * num_layers;
  report.layers[0] = num_layers;
  return report;
}

RowReport SparseReport(float mass) {
  RowReport report;
  report.selected_mass = mass;
  report.tokens_attended[0] = 100;  // one full layer
  report.layers[0] = 1;
  report.tokens_attended[1] = 2 * 16;
  report.layers[1] = 2;
  report.tokens_attended[2] = 3 * 16;
  report.layers[2] = 3;
  return report;
}

TEST(AttentionStats, NothingRanSparsely) {
  AttentionStats stats;
  EXPECT_EQ(stats.MeanSelectedMass(), 1);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kFull), 0);
  stats.AddFullRow(FullReport(10, 6), false);
  stats.AddFullRow(FullReport(12, 6), true);
  EXPECT_EQ(stats.full_rows, 2);
  EXPECT_EQ(stats.guard_rows, 1);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kFull), 11);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kReuse), 0);
  EXPECT_EQ(stats.LeastSelectedMass(), 1);
}

TEST(AttentionStats, MassIsThatOfSparseRows) {
  AttentionStats stats;
  stats.AddFullRow(FullReport(10, 6), false);
  stats.AddSparseRow(SparseReport(0.5f));
  stats.AddSparseRow(SparseReport(0.75f));
  EXPECT_EQ(stats.sparse_rows, 2);
  EXPECT_EQ(stats.MeanSelectedMass(), 0.625);
  EXPECT_EQ(stats.LeastSelectedMass(), 0.5);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kFull), (6 * 10 + 2 * 100) / 8.0);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kSelection), 16);
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kReuse), 16);
}

TEST(AttentionStats, AnUnknownMassIsNotCounted) {
  AttentionStats stats;
  stats.AddSparseRow(SparseReport(std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(std::isnan(stats.MeanSelectedMass()));
  EXPECT_TRUE(std::isnan(stats.LeastSelectedMass()));
  stats.AddSparseRow(SparseReport(0.25f));
  EXPECT_EQ(stats.MeanSelectedMass(), 0.25);
}

}  // namespace
}  // namespace tidal
