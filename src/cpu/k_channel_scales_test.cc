#include "cpu/k_channel_scales.h"

#include <gtest/gtest.h>

namespace tidal {
namespace {

ModelConfig ConfigOf(RopeStyle style) {
  ModelConfig config;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.rope_dim = 8;
  config.rope_style = style;
  return config;
}

TEST(KChannelScales, NoBiasNoScales) {
  EXPECT_TRUE(KChannelScales(ConfigOf(RopeStyle::kHalf), {}).empty());
}

TEST(KChannelScales, BothChannelsOfAPairShareAPowerOfTwo) {
  std::vector<float> bias(16, 0.5F);
  bias[1] = -100;
  bias[8 + 6] = 5;
  const auto half = KChannelScales(ConfigOf(RopeStyle::kHalf), bias);
  EXPECT_EQ(half, (std::vector<float>{1, 64, 1, 1, 1, 64, 1, 1, 1, 1, 4, 1, 1, 1, 4, 1}));
  const auto interleaved = KChannelScales(ConfigOf(RopeStyle::kInterleaved), bias);
  EXPECT_EQ(interleaved, (std::vector<float>{64, 64, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4}));
}

TEST(KChannelScales, SizesAreRelativeToTheHeadsMedian) {
  std::vector<float> bias(16, 10.0F);
  bias[0] = 85;
  const auto scales = KChannelScales(ConfigOf(RopeStyle::kHalf), bias);
  EXPECT_EQ(scales[0], 8);
  EXPECT_EQ(scales[4], 8);
  EXPECT_EQ(scales[1], 1);
}

}  // namespace
}  // namespace tidal
