#include "base/math.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <limits>

namespace tidal {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

TEST(CeilDiv, RoundsUp) {
  EXPECT_EQ(CeilDiv(0, 64), 0);
  EXPECT_EQ(CeilDiv(1, 64), 1);
  EXPECT_EQ(CeilDiv(64, 64), 1);
  EXPECT_EQ(CeilDiv(65, 64), 2);
  EXPECT_EQ(CeilDiv(-5, 4), -1);
  EXPECT_EQ(CeilDiv(7, 1), 7);
}

TEST(CeilDiv, DoesNotOverflowAtTheEdge) {
  EXPECT_EQ(CeilDiv(kMax, 2), kMax / 2 + 1);
  EXPECT_EQ(CeilDiv(kMax, kMax), 1);
  EXPECT_EQ(CeilDiv(kMax - 1, kMax), 1);
}

TEST(RoundUp, GivesAMultiple) {
  EXPECT_EQ(RoundUp(0, 32), 0);
  EXPECT_EQ(RoundUp(1, 32), 32);
  EXPECT_EQ(RoundUp(32, 32), 32);
  EXPECT_EQ(RoundUp(33, 32), 64);
}

TEST(CheckedMul, GivesTheProductWhereItFits) {
  int64_t out = 0;
  EXPECT_TRUE(CheckedMul<int64_t>(kMax / 2, 2, &out));
  EXPECT_EQ(out, kMax - 1);
  EXPECT_TRUE(CheckedMul<int64_t>(kMin, 1, &out));
  EXPECT_EQ(out, kMin);
  uint64_t big = 0;
  EXPECT_TRUE(CheckedMul<uint64_t>(uint64_t{1} << 32, (uint64_t{1} << 32) - 1, &big));
  EXPECT_EQ(big, std::numeric_limits<uint64_t>::max() - (uint64_t{1} << 32) + 1);
}

TEST(CheckedMul, LeavesOutAloneOnOverflow) {
  int64_t out = 17;
  EXPECT_FALSE(CheckedMul<int64_t>(kMax / 2 + 1, 2, &out));
  EXPECT_FALSE(CheckedMul<int64_t>(kMin, -1, &out));
  EXPECT_EQ(out, 17);
  uint64_t big = 17;
  EXPECT_FALSE(CheckedMul<uint64_t>(uint64_t{1} << 60, 16, &big));
  EXPECT_EQ(big, 17u);
}

TEST(CheckedAdd, SumOrUntouched) {
  int64_t out = 17;
  EXPECT_FALSE(CheckedAdd<int64_t>(kMax, 1, &out));
  EXPECT_FALSE(CheckedAdd<int64_t>(kMin, -1, &out));
  EXPECT_EQ(out, 17);
  EXPECT_TRUE(CheckedAdd<int64_t>(kMax, kMin, &out));
  EXPECT_EQ(out, -1);
}

}  // namespace
}  // namespace tidal
