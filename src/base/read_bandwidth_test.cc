#include "base/read_bandwidth.h"

#include <gtest/gtest.h>

namespace tidal {
namespace {

TEST(ReadBandwidth, IsAPlausibleNumber) {
  const Result<double> gbps = MeasureReadGbps(int64_t{64} << 20, 2);
  ASSERT_TRUE(gbps.ok()) << gbps.status().message();
  EXPECT_GT(*gbps, 0.05);
  EXPECT_LT(*gbps, 10000);
  EXPECT_EQ(MeasureReadGbps(int64_t{1} << 60, 1).status().code(), StatusCode::kOutOfMemory);
  EXPECT_GE(ReadBufferBytes(), 1);
}

}  // namespace
}  // namespace tidal
