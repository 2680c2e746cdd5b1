#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "cpu/isa.h"
#include "cpu/simd_ops.h"

namespace tidal {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

const SimdOps& OpsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return kAvx2SimdOps;
  if (isa == Isa::kAvx512) return kAvx512SimdOps;
#endif
  return kPortableSimdOps;
}

uint32_t BitsOf(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
float OfBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Every ISA that the program has kernels for; those that this machine lacks are skipped, loudly.
class SimdTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = MachineIsas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam())
                   << ": its vectors were NOT tested";
    ops_ = OpsFor(GetParam());
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 10);
    for (float* x : {a_, b_, c_}) {
      for (int i = 0; i < kMaxLanes; ++i) x[i] = normal(random);
    }
  }
  SimdOps ops_ = {};
  float a_[kMaxLanes];
  float b_[kMaxLanes];
  float c_[kMaxLanes];
  float out_[kMaxLanes];
};
INSTANTIATE_TEST_SUITE_P(Isas, SimdTest, testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

TEST_P(SimdTest, ExpKeepsItsBoundOverAllMagnitudes) {
  double worst = 0;
  // Every 251st float: all exponents, both signs, infinities and NaN.
  for (uint64_t bits = 0; bits <= 0xffffffffu;
       bits += uint64_t{251} * static_cast<uint64_t>(ops_.lanes)) {
    for (int i = 0; i < ops_.lanes; ++i)
      a_[i] = OfBits(static_cast<uint32_t>(bits + uint64_t{251} * static_cast<uint64_t>(i)));
    ops_.exp(a_, out_);
    for (int i = 0; i < ops_.lanes; ++i) {
      if (std::isnan(a_[i])) {
        ASSERT_TRUE(std::isnan(out_[i]));
      } else if (a_[i] < -87.3365f) {
        ASSERT_EQ(out_[i], 0) << a_[i];
      } else {
        const double expected = std::exp(std::min(double{a_[i]}, double{88.37f}));
        worst = std::max(worst, std::abs(out_[i] - expected) / expected);
      }
    }
  }
  std::printf("worst relative error of exp: 2^%.2f\n", std::log2(worst));
  EXPECT_LE(worst, std::exp2(-22.5));
}

TEST_P(SimdTest, ExpOfSpecialValues) {
  std::fill_n(a_, kMaxLanes, 0.0f);
  a_[1] = -kInfinity;
  a_[2] = kInfinity;
  a_[3] = 1e30f;
  a_[4] = -1e30f;
  a_[5] = kNan;
  ops_.exp(a_, out_);
  EXPECT_EQ(out_[0], 1);
  EXPECT_EQ(out_[1], 0);
  EXPECT_GT(out_[2], 2e38f);
  EXPECT_TRUE(std::isfinite(out_[2]));
  EXPECT_EQ(out_[3], out_[2]);
  EXPECT_EQ(out_[4], 0);
  EXPECT_TRUE(std::isnan(out_[5]));
}

TEST_P(SimdTest, ExpOfNonPositiveKeepsItsBoundOverAllMagnitudes) {
  // Every 251st float of those not above 0.
  for (uint64_t bits = 0x80000000u; bits <= 0xff800000u;
       bits += uint64_t{251} * static_cast<uint64_t>(ops_.lanes)) {
    for (int i = 0; i < ops_.lanes; ++i) {
      const uint64_t lane = bits + uint64_t{251} * static_cast<uint64_t>(i);
      a_[i] = OfBits(static_cast<uint32_t>(std::min<uint64_t>(lane, 0xff800000u)));
    }
    ops_.exp_of_non_positive(a_, out_);
    for (int i = 0; i < ops_.lanes; ++i) {
      const double a = a_[i];
      const double expected = std::exp(std::max(a, -126 * std::log(2.0)));
      // a * log2(e) is rounded (2^-24), and so is log2(e) (2^-26).
      const double bound = std::exp2(-22) + std::min(-a, 88.0) * std::exp2(-23.5);
      ASSERT_NEAR(out_[i], expected, expected * bound) << a;
    }
  }
}

TEST_P(SimdTest, MaxAndMinTakeTheSecondWhereEitherIsNan) {
  a_[0] = kNan;
  b_[1] = kNan;
  ops_.max(a_, b_, out_);
  EXPECT_EQ(out_[0], b_[0]);
  EXPECT_TRUE(std::isnan(out_[1]));
  for (int i = 2; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], std::max(a_[i], b_[i]));
  ops_.min(a_, b_, out_);
  EXPECT_EQ(out_[0], b_[0]);
  EXPECT_TRUE(std::isnan(out_[1]));
  for (int i = 2; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], std::min(a_[i], b_[i]));
}

TEST_P(SimdTest, MulAddIsTheProductAndTheSum) {
  // Exact where a * b + c is: small integers.
  for (int i = 0; i < kMaxLanes; ++i) {
    a_[i] = static_cast<float>(i + 1);
    b_[i] = static_cast<float>(2 * i - 7);
    c_[i] = static_cast<float>(100 - i);
  }
  ops_.mul_add(a_, b_, c_, out_);
  for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], a_[i] * b_[i] + c_[i]);
  ops_.neg_mul_add(a_, b_, c_, out_);
  for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], c_[i] - a_[i] * b_[i]);
}

TEST_P(SimdTest, PartialLoadsAndStoresTouchNothingElse) {
  for (int n = 0; n <= ops_.lanes; ++n) {
    // Exactly n elements on the heap: the address sanitizer sees any more.
    const std::vector<float> source(a_, a_ + n);
    ops_.load_n(source.data(), n, out_);
    for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], i < n ? a_[i] : 0);
    const auto target = std::make_unique<float[]>(static_cast<size_t>(n));
    ops_.store_n(a_, n, target.get());
    EXPECT_TRUE(std::equal(source.begin(), source.end(), target.get()));
    ops_.first_n(n, a_, b_, out_);
    for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], i < n ? a_[i] : b_[i]);

    const auto halves = std::make_unique<uint16_t[]>(static_cast<size_t>(n));
    ops_.store_f16(a_, n, halves.get());
    ops_.load_f16(halves.get(), n, out_);
    for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], i < n ? F16ToF32(F32ToF16(a_[i])) : 0);
    ops_.store_bf16(a_, n, halves.get());
    ops_.load_bf16(halves.get(), n, out_);
    for (int i = 0; i < ops_.lanes; ++i)
      EXPECT_EQ(out_[i], i < n ? Bf16ToF32(F32ToBf16(a_[i])) : 0);
    const auto bytes = std::make_unique<int8_t[]>(static_cast<size_t>(n));
    ops_.round_to_i8(a_, n, bytes.get());
    ops_.load_i8(bytes.get(), n, out_);
    for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], i < n ? std::nearbyint(a_[i]) : 0);
  }
}

TEST_P(SimdTest, ReductionsShareOneOrder) {
  EXPECT_EQ(ops_.reduce_max(a_), *std::max_element(a_, a_ + ops_.lanes));
  double sum = 0;
  double magnitude = 0;
  for (int i = 0; i < ops_.lanes; ++i) {
    sum += a_[i];
    magnitude += std::abs(a_[i]);
  }
  // A tree of at most four levels.
  EXPECT_NEAR(ops_.reduce_add(a_), sum, 4 * 0x1p-24 * magnitude);

  const auto lanes = static_cast<size_t>(ops_.lanes);
  std::vector<float> vectors(lanes * lanes);
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 10);
  for (float& x : vectors) x = normal(random);
  ops_.reduce_folded(vectors.data(), out_);
  for (size_t i = 0; i < lanes; ++i) EXPECT_EQ(out_[i], ops_.reduce_add(&vectors[i * lanes])) << i;
}

TEST_P(SimdTest, SwapPairsExchangesNeighbours) {
  ops_.swap_pairs(a_, out_);
  for (int i = 0; i < ops_.lanes; ++i) EXPECT_EQ(out_[i], a_[i ^ 1]);
}

TEST_P(SimdTest, TransposeSwapsRowsAndColumns) {
  const auto lanes = static_cast<size_t>(ops_.lanes);
  std::vector<float> rows(lanes * lanes);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  ops_.transpose(rows.data());
  for (size_t r = 0; r < lanes; ++r) {
    for (size_t c = 0; c < lanes; ++c)
      EXPECT_EQ(rows[r * lanes + c], static_cast<float>(c * lanes + r));
  }
}

TEST_P(SimdTest, WideningIsExactForEveryBitPattern) {
  uint16_t halves[kMaxLanes];
  for (uint32_t first = 0; first < 0x10000; first += static_cast<uint32_t>(ops_.lanes)) {
    for (int i = 0; i < ops_.lanes; ++i)
      halves[i] = static_cast<uint16_t>(first + static_cast<uint32_t>(i));
    ops_.load_f16(halves, ops_.lanes, out_);
    for (int i = 0; i < ops_.lanes; ++i) {
      const float expected = F16ToF32(halves[i]);
      if (std::isnan(expected))
        ASSERT_TRUE(std::isnan(out_[i]));
      else
        ASSERT_EQ(BitsOf(out_[i]), BitsOf(expected)) << halves[i];
    }
    ops_.load_bf16(halves, ops_.lanes, out_);
    for (int i = 0; i < ops_.lanes; ++i) ASSERT_EQ(BitsOf(out_[i]), uint32_t{halves[i]} << 16);
  }
  int8_t signed_bytes[kMaxLanes];
  uint8_t bytes[kMaxLanes];
  for (int first = 0; first < 256; first += ops_.lanes) {
    for (int i = 0; i < ops_.lanes; ++i) {
      bytes[i] = static_cast<uint8_t>(first + i);
      signed_bytes[i] = static_cast<int8_t>(bytes[i]);
    }
    ops_.load_i8(signed_bytes, ops_.lanes, out_);
    for (int i = 0; i < ops_.lanes; ++i) ASSERT_EQ(out_[i], signed_bytes[i]);
    ops_.load_u8(bytes, out_);
    for (int i = 0; i < ops_.lanes; ++i) ASSERT_EQ(out_[i], bytes[i]);
  }
}

TEST_P(SimdTest, NarrowingRoundsToNearestEven) {
  uint16_t f16[kMaxLanes];
  uint16_t bf16[kMaxLanes];
  // Floats of all sizes, and all ties and neighbours of ties of f16's exponents.
  std::vector<uint32_t> patterns;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 19937)
    patterns.push_back(static_cast<uint32_t>(bits));
  for (uint32_t bits = 0x32800000u; bits < 0x47900000u; bits += 0x1000) {
    for (const uint32_t near : {bits - 1, bits, bits + 1}) {
      patterns.push_back(near);
      patterns.push_back(near | 0x80000000u);
    }
  }
  patterns.resize(patterns.size() / kMaxLanes * kMaxLanes);
  for (size_t first = 0; first < patterns.size(); first += static_cast<size_t>(ops_.lanes)) {
    for (int i = 0; i < ops_.lanes; ++i) a_[i] = OfBits(patterns[first + static_cast<size_t>(i)]);
    ops_.store_f16(a_, ops_.lanes, f16);
    ops_.store_bf16(a_, ops_.lanes, bf16);
    for (int i = 0; i < ops_.lanes; ++i) {
      if (std::isnan(a_[i])) {
        ASSERT_TRUE(std::isnan(F16ToF32(f16[i])) && std::isnan(Bf16ToF32(bf16[i])));
        continue;
      }
      ASSERT_EQ(f16[i], F32ToF16(a_[i])) << a_[i];
      ASSERT_EQ(bf16[i], F32ToBf16(a_[i])) << a_[i];
    }
  }
}

TEST_P(SimdTest, RoundToI32TakesTiesToEven) {
  int8_t bytes[kMaxLanes];
  for (float first = -127; first < 127; first += static_cast<float>(ops_.lanes) / 4) {
    for (int i = 0; i < ops_.lanes; ++i)
      a_[i] = std::min(first + static_cast<float>(i) / 4, 127.0f);
    ops_.round_to_i8(a_, ops_.lanes, bytes);
    for (int i = 0; i < ops_.lanes; ++i) ASSERT_EQ(bytes[i], std::nearbyint(a_[i])) << a_[i];
  }
}

}  // namespace
}  // namespace tidal
