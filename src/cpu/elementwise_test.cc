#include "cpu/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "cpu/isa.h"

namespace tidal {
namespace {

constexpr double kEpsilon = 0x1p-24;  // the relative error of one rounding
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> Normal(int64_t n, uint32_t seed, float magnitude = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, magnitude);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = normal(random);
  return x;
}

// Every ISA that the program has kernels for; those that this machine lacks are skipped, loudly.
class ElementwiseTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = MachineIsas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam())
                   << ": its kernels were NOT tested";
    kernels_ = &KernelsFor(GetParam()).elementwise;
  }
  const ElementwiseKernels* kernels_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Isas, ElementwiseTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

TEST_P(ElementwiseTest, RmsNormMatchesFloat64) {
  for (const int64_t n : {1, 7, 8, 15, 16, 17, 63, 64, 65, 576, 896, 1536, 4097}) {
    // Past the end: NaN that must not be read into the sum, and a mark that must not be
    // overwritten.
    std::vector<float> x = Normal(n, 1, 3);
    std::vector<float> weight = Normal(n, 2);
    x.resize(x.size() + 16, kNan);
    weight.resize(weight.size() + 16, kNan);
    std::vector<float> out(x.size(), 7);
    kernels_->rms_norm(x.data(), weight.data(), 1e-5f, n, out.data());
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + double{1e-5f});
    // The header's bound of the sum, halved by the root, and half a dozen roundings around it.
    const double tolerance = ((static_cast<double>(n) / 32 + 8) / 2 + 6) * kEpsilon;
    for (int64_t i = 0; i < n; ++i) {
      const double expected = x[i] * scale * weight[i];
      ASSERT_NEAR(out[i], expected, tolerance * std::abs(expected)) << "n " << n << " i " << i;
    }
    for (size_t i = static_cast<size_t>(n); i < out.size(); ++i) ASSERT_EQ(out[i], 7);
    std::vector<float> in_place = x;
    kernels_->rms_norm(in_place.data(), weight.data(), 1e-5f, n, in_place.data());
    EXPECT_EQ(0, std::memcmp(in_place.data(), out.data(), static_cast<size_t>(n) * sizeof(float)));
  }
}

TEST_P(ElementwiseTest, RmsNormOfZeros) {
  const std::vector<float> zeros(100);
  const std::vector<float> weight(100, 1);
  std::vector<float> out(100, 7);
  kernels_->rms_norm(zeros.data(), weight.data(), 1e-5f, 100, out.data());
  EXPECT_EQ(out, zeros);
}

TEST_P(ElementwiseTest, RopeMatchesFloat64) {
  for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalf}) {
    for (const int32_t head_dim : {8, 40, 64, 128}) {
      for (const int32_t rope_dim : {head_dim, head_dim / 2, head_dim / 4 * 2 - 2}) {
        if (rope_dim < 2) continue;
        const std::vector<float> divisors = [&] {
          std::vector<float> d = Normal(rope_dim / 2, 5);
          for (float& x : d) x = 1 + std::abs(x);
          return d;
        }();
        const RopeTable table(rope_dim, 1e6, divisors);
        constexpr int32_t kPos = 130000;
        std::vector<float> cos(static_cast<size_t>(table.num_pairs()));
        std::vector<float> sin(cos.size());
        table.Angles(kPos, cos.data(), sin.data());
        constexpr int32_t kNumHeads = 3;
        const std::vector<float> x = Normal(kNumHeads * head_dim, 6);
        std::vector<float> y = x;
        Rope(*kernels_, style, cos.data(), sin.data(), rope_dim, head_dim, kNumHeads, y.data());
        std::vector<double> expected(x.begin(), x.end());
        for (int32_t head = 0; head < kNumHeads; ++head) {
          for (int32_t i = 0; i < rope_dim / 2; ++i) {
            const double angle =
                kPos * std::pow(1e6, -2.0 * i / rope_dim) / static_cast<double>(divisors[i]);
            const bool half = style == RopeStyle::kHalf;
            const size_t a = static_cast<size_t>(head * head_dim + (half ? i : 2 * i));
            const size_t b = a + static_cast<size_t>(half ? rope_dim / 2 : 1);
            expected[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
            expected[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
          }
        }
        for (size_t i = 0; i < x.size(); ++i) {
          // Two products of rounded factors and their sum, |x| being below 6.
          ASSERT_NEAR(y[i], expected[i], 5 * kEpsilon * 6)
              << "head_dim " << head_dim << " rope_dim " << rope_dim << " i " << i;
        }
      }
    }
  }
}

TEST(RopeTableTest, FarPositionsKeepTheirAngle) {
  const RopeTable table(64, 10000, {});
  EXPECT_EQ(table.rope_dim(), 64);
  float cos[32];
  float sin[32];
  table.Angles(1000003, cos, sin);
  // Pair 0 turns by one radian a token: float32 angles would be off by 0.03 here.
  EXPECT_EQ(cos[0], static_cast<float>(std::cos(1000003.0)));
  EXPECT_EQ(sin[0], static_cast<float>(std::sin(1000003.0)));
  table.Angles(0, cos, sin);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(cos[i], 1);
    EXPECT_EQ(sin[i], 0);
  }
}

TEST_P(ElementwiseTest, SiluMulMatchesFloat64) {
  for (const int64_t n : {1, 8, 15, 100, 1536}) {
    std::vector<float> gate = Normal(n, 8, 20);
    gate[0] = -100;  // e^100 overflows the sigmoid's denominator to a large number, not to NaN
    const std::vector<float> up = Normal(n, 9);
    std::vector<float> out(gate.size() + 1, 7);
    kernels_->silu_mul(gate.data(), up.data(), n, out.data());
    for (int64_t i = 0; i < n; ++i) {
      const double expected = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
      // e^x is good to 3 kEpsilon; then a sum, a quotient and a product. Below e^-88 the clamp of
      // e^x at 88.37 shows, at a size that does not matter.
      ASSERT_NEAR(out[i], expected, 6 * kEpsilon * std::abs(expected) + 1e-35) << gate[i];
    }
    EXPECT_EQ(out.back(), 7);
  }
}

TEST_P(ElementwiseTest, AddInPlaceAdds) {
  for (const int64_t n : {0, 1, 16, 37}) {
    const std::vector<float> y = Normal(n, 10);
    const std::vector<float> x = Normal(n, 11);
    std::vector<float> sum = x;
    sum.push_back(7);
    kernels_->add_in_place(y.data(), n, sum.data());
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(sum[i], x[i] + y[i]);
    EXPECT_EQ(sum.back(), 7);
  }
}

// The special values and boundaries of both 16-bit formats, beside ordinary numbers of every size.
std::vector<float> HardToRound() {
  std::vector<float> x = {0.0f,        -0.0f,          kInfinity,    -kInfinity,   kNan,
                          65504.0f,    65519.996f,     65520.0f,     0x1p-14f,     0x1p-24f,
                          0x1p-25f,    0x1.8p-25f,     1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1p-8f,
                          1 + 0x3p-8f, -0x1.ffffp-15f, 3.4e38f,      1e-45f};
  std::mt19937 random(12);
  while (x.size() < 4096) {
    const uint32_t bits = random();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    x.push_back(value);
  }
  return x;
}

TEST_P(ElementwiseTest, StoreRowRoundsLikeTheScalarConversions) {
  const std::vector<float> all = HardToRound();
  for (const int64_t head_dim : {8, 40, 64, 128}) {
    for (size_t begin = 0; begin + static_cast<size_t>(head_dim) <= all.size();
         begin += static_cast<size_t>(head_dim)) {
      const float* x = &all[begin];
      std::vector<uint16_t> f16(static_cast<size_t>(head_dim) + 1, 7);
      std::vector<uint16_t> bf16(f16);
      std::vector<float> f32(f16.size(), 7);
      kernels_->store_row[static_cast<size_t>(CacheType::kF16)](
          x, head_dim, reinterpret_cast<uint8_t*>(f16.data()), nullptr);
      kernels_->store_row[static_cast<size_t>(CacheType::kBF16)](
          x, head_dim, reinterpret_cast<uint8_t*>(bf16.data()), nullptr);
      kernels_->store_row[static_cast<size_t>(CacheType::kF32)](
          x, head_dim, reinterpret_cast<uint8_t*>(f32.data()), nullptr);
      for (int64_t i = 0; i < head_dim; ++i) {
        if (std::isnan(x[i])) {
          ASSERT_TRUE(std::isnan(F16ToF32(f16[i])) && std::isnan(Bf16ToF32(bf16[i])));
          continue;
        }
        ASSERT_EQ(f16[i], F32ToF16(x[i])) << x[i];
        ASSERT_EQ(bf16[i], F32ToBf16(x[i])) << x[i];
        ASSERT_EQ(f32[i], x[i]);
      }
      ASSERT_EQ(f16.back(), 7);
      ASSERT_EQ(bf16.back(), 7);
      ASSERT_EQ(f32.back(), 7);
    }
  }
}

TEST_P(ElementwiseTest, StoreRowQuantisesGroupsOf32) {
  const auto store = kernels_->store_row[static_cast<size_t>(CacheType::kQ8_0)];
  for (const int64_t head_dim : {8, 24, 40, 64, 72, 128}) {
    for (const float magnitude : {1e-6f, 1e-3f, 1.0f, 1e4f}) {
      const std::vector<float> x = Normal(head_dim, 13, magnitude);
      const auto num_scales = static_cast<size_t>(CeilDiv(head_dim, kCacheQuantGroup));
      std::vector<uint16_t> scales(num_scales + 1, 7);
      std::vector<int8_t> codes(static_cast<size_t>(head_dim) + 1, 77);
      store(x.data(), head_dim, reinterpret_cast<uint8_t*>(codes.data()), scales.data());
      for (int64_t i = 0; i < head_dim; ++i) {
        const int64_t begin = i / kCacheQuantGroup * kCacheQuantGroup;
        const int64_t end = std::min(begin + kCacheQuantGroup, head_dim);
        float most = 0;
        for (int64_t j = begin; j < end; ++j) most = std::max(most, std::abs(x[j]));
        const double scale = F16ToF32(scales[i / kCacheQuantGroup]);
        ASSERT_EQ(scales[i / kCacheQuantGroup], F32ToF16(most / 127.0f));
        // Half a code, and what the rounding of the scale (2^-11, or half of the smallest f16)
        // takes from the largest codes.
        const double tolerance = scale / 2 + std::max(most * 0x1p-11, 127 * 0x1p-25);
        ASSERT_NEAR(codes[i] * scale, x[i], tolerance * (1 + 1e-5))
            << "head_dim " << head_dim << " magnitude " << magnitude << " i " << i;
        ASSERT_GE(codes[i], -127);
      }
      ASSERT_EQ(scales.back(), 7);
      ASSERT_EQ(codes.back(), 77);
    }
  }
}

TEST_P(ElementwiseTest, QuantisedRowsNeverHideWhatIsNotFinite) {
  const auto store = kernels_->store_row[static_cast<size_t>(CacheType::kQ8_0)];
  for (const float bad : {kNan, kInfinity, -kInfinity, 1e30f}) {
    std::vector<float> x(64, 0.5f);
    x[37] = bad;
    uint16_t scales[2];
    int8_t codes[64];
    store(x.data(), 64, reinterpret_cast<uint8_t*>(codes), scales);
    EXPECT_TRUE(std::isfinite(F16ToF32(scales[0]))) << bad;
    EXPECT_FALSE(std::isfinite(F16ToF32(scales[1]) * static_cast<float>(codes[37]))) << bad;
  }
  const std::vector<float> zeros(32);
  uint16_t scale;
  int8_t codes[32];
  store(zeros.data(), 32, reinterpret_cast<uint8_t*>(codes), &scale);
  EXPECT_EQ(scale, 0);
  EXPECT_TRUE(std::all_of(codes, codes + 32, [](int8_t code) { return code == 0; }));
}

TEST(KvLayoutTest, RegionsAreAlignedAndDisjoint) {
  const KvLayout layout = KvLayout::Create(3, 40, CacheType::kQ8_0, CacheType::kBF16).value();
  EXPECT_EQ(layout.k().row_bytes, 40);
  EXPECT_EQ(layout.k().scales_per_row, 2);  // 32 and 8
  EXPECT_EQ(layout.k().rows_offset, 0);
  EXPECT_EQ(layout.k().scales_offset, 64 * 40);
  EXPECT_EQ(layout.v().rows_offset, 64 * 40 + 64 * 2 * 2);
  EXPECT_EQ(layout.v().scales_per_row, 0);
  EXPECT_EQ(layout.kv_head_bytes(), 64 * 40 + 64 * 2 * 2 + 64 * 80);
  EXPECT_EQ(layout.page_bytes(), 3 * layout.kv_head_bytes());
  EXPECT_EQ(layout.PartOffset(2, 1), 2 * layout.page_bytes() + layout.kv_head_bytes());
  EXPECT_EQ(layout.ReadBytes(10), 10 * 3 * (40 + 4 + 80));
  for (const KvHalf& half : {layout.k(), layout.v()}) {
    EXPECT_EQ(half.rows_offset % 64, 0);
    EXPECT_EQ(half.scales_offset % 64, 0);
  }
}

TEST(KvLayoutTest, RefusesWhatDoesNotFit) {
  EXPECT_EQ(KvLayout::Create(0, 64, CacheType::kF16, CacheType::kF16).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(KvLayout::Create(1, 0, CacheType::kF16, CacheType::kF16).status().code(),
            StatusCode::kInvalidArgument);
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  const Status status = KvLayout::Create(kMost, kMost, CacheType::kF32, CacheType::kF32).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
}

TEST(KvLayoutTest, RefusesTheTypeOfAnotherDevice) {
  for (const bool is_key : {true, false}) {
    const CacheType k_type = is_key ? CacheType::kF8e4m3 : CacheType::kF16;
    const CacheType v_type = is_key ? CacheType::kF16 : CacheType::kF8e4m3;
    const Status status = KvLayout::Create(2, 64, k_type, v_type).status();
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_EQ(status.message(),
              "an f8e4m3 KV cache is for --device cuda; with --device cpu use f16, bf16, f32 or "
              "q8_0");
  }
}

TEST_P(ElementwiseTest, StoreKvWritesOneRowOfOnePage) {
  const KvLayout layout = KvLayout::Create(2, 16, CacheType::kQ8_0, CacheType::kF16).value();
  std::vector<std::byte> pages(static_cast<size_t>(4 * layout.page_bytes()), std::byte{0x5a});
  const std::vector<float> k = Normal(32, 14);
  const std::vector<float> v = Normal(32, 15);
  StoreKv(*kernels_, layout, 2, 63, k.data(), v.data(), pages.data());
  int64_t changed = 0;
  for (const std::byte b : pages) changed += b != std::byte{0x5a};
  // Two heads of 16 codes, a scale and 16 f16; a few bytes happen to be 0x5a.
  EXPECT_LE(changed, 2 * (16 + 2 + 32));
  EXPECT_GE(changed, 2 * (16 + 2 + 32) - 8);
  for (int64_t head = 0; head < 2; ++head) {
    const std::byte* part = pages.data() + layout.PartOffset(2, static_cast<int32_t>(head));
    uint16_t scale;
    std::memcpy(&scale, part + layout.k().scales_offset + 63 * 2, 2);
    for (int64_t d = 0; d < 16; ++d) {
      const auto code = static_cast<int8_t>(part[layout.k().rows_offset + 63 * 16 + d]);
      EXPECT_NEAR(F16ToF32(scale) * static_cast<float>(code), k[head * 16 + d], 0.02);
      uint16_t value;
      std::memcpy(&value, part + layout.v().rows_offset + 63 * 32 + 2 * d, 2);
      EXPECT_EQ(value, F32ToF16(v[head * 16 + d]));
    }
  }
}

}  // namespace
}  // namespace tidal
