#include "model/rope_scaling.h"

#include <gtest/gtest.h>
#include <limits>

namespace tidal {
namespace {

// What the Python package transformers 5.23 gives for the same parameters, in float32, printed with
// 7 digits.
constexpr double kTolerance = 1e-6;

void ExpectDivisors(const RopeScaling& scaling, double theta, const std::vector<double>& expected) {
  const auto rope_dim = static_cast<int32_t>(2 * expected.size());
  const std::vector<float> divisors = RopeDivisors(scaling, rope_dim, theta);
  ASSERT_EQ(divisors.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(divisors[i] / expected[i], 1, kTolerance) << "pair " << i;
  }
}

TEST(RopeScalingTest, Llama3AsPublished) {
  ExpectDivisors({.kind = RopeScalingKind::kLlama3, .factor = 8, .original_seq_len = 8192}, 500000,
                 {1, 1, 1, 1, 1, 1, 1, 1, 2.69453, 8, 8, 8, 8, 8, 8, 8});
}

TEST(RopeScalingTest, YarnAsPublished) {
  ExpectDivisors({.kind = RopeScalingKind::kYarn, .factor = 4, .original_seq_len = 32768}, 1e6,
                 {1, 1, 1, 1, 1, 1, 1.176471, 1.428571, 1.818182, 2.5, 4, 4, 4, 4, 4, 4});
  ExpectDivisors({.kind = RopeScalingKind::kYarn,
                  .factor = 16,
                  .original_seq_len = 64,
                  .beta_slow = 2,
                  .beta_fast = 8,
                  .round_range = false},
                 10000, {1, 2.598858, 16, 16, 16, 16, 16, 16});
}

TEST(RopeScalingTest, LinearAndNone) {
  ExpectDivisors({.kind = RopeScalingKind::kLinear, .factor = 4}, 10000, {4, 4, 4});
  EXPECT_TRUE(RopeDivisors({}, 16, 10000).empty());
}

TEST(RopeScalingTest, YarnAttnFactor) {
  EXPECT_NEAR(YarnAttnFactor(4), 1.138629436111989, 1e-15);
  EXPECT_EQ(YarnAttnFactor(1), 1);
  EXPECT_EQ(YarnAttnFactor(0.5), 1);
  EXPECT_NEAR(YarnAttnFactor(40, 0.7) / YarnAttnFactor(40, 1.3), 0.8504057857806258, 1e-15);
}

TEST(RopeScalingTest, ApplySetsWhatTheKindHas) {
  ModelConfig config;
  config.rope_dim = 16;
  config.trained_seq_len = 1024;
  RopeScaling scaling{.kind = RopeScalingKind::kYarn,
                      .factor = 4,
                      .original_seq_len = 1024,
                      .attn_factor = YarnAttnFactor(4)};
  ASSERT_TRUE(ApplyRopeScaling(scaling, &config).ok());
  EXPECT_EQ(config.trained_seq_len, 4096);
  EXPECT_EQ(config.rope_attn_factor, static_cast<float>(YarnAttnFactor(4)));
  // Where the file gives the stretched length already, it stays.
  ASSERT_TRUE(ApplyRopeScaling(scaling, &config).ok());
  EXPECT_EQ(config.trained_seq_len, 4096);
  // More than any count of tokens.
  scaling.factor = 1e6;
  scaling.original_seq_len = 1 << 27;
  ASSERT_TRUE(ApplyRopeScaling(scaling, &config).ok());
  EXPECT_EQ(config.trained_seq_len, 1 << 27);
}

TEST(RopeScalingTest, RefusesWhatGivesNoNumber) {
  ModelConfig config;
  config.rope_dim = 16;
  config.rope_theta = 1;
  const RopeScaling yarn{.kind = RopeScalingKind::kYarn, .factor = 4, .original_seq_len = 1024};
  EXPECT_EQ(ApplyRopeScaling(yarn, &config).code(), StatusCode::kCorrupt);
  const RopeScaling tiny{.kind = RopeScalingKind::kLinear, .factor = 1e-60};
  EXPECT_EQ(ApplyRopeScaling(tiny, &config).code(), StatusCode::kCorrupt);
}

}  // namespace
}  // namespace tidal
