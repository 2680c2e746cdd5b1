#include "quant/widen.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "quant/quant_blocks.h"

namespace tidal {
namespace {

constexpr DType kRarer[] = {DType::kQ2_K, DType::kQ3_K, DType::kIQ4_NL, DType::kIQ4_XS};
constexpr int64_t kElements = 16 * kSuperBlockSize;

// Random blocks whose f16 scales lie between 2^-12 and 2^3, of both signs.
std::vector<char> RandomBlocks(DType dtype, std::mt19937* rng) {
  std::vector<char> bytes(static_cast<size_t>(BytesOf(dtype, kElements)));
  for (char& byte : bytes) byte = static_cast<char>((*rng)());
  const std::vector<size_t> scales = dtype == DType::kQ2_K   ? std::vector<size_t>{80, 82}
                                     : dtype == DType::kQ3_K ? std::vector<size_t>{108}
                                                             : std::vector<size_t>{0};
  const auto block_bytes = static_cast<size_t>(InfoOf(dtype).quant_block_bytes);
  for (size_t block = 0; block < bytes.size(); block += block_bytes) {
    for (const size_t at : scales) {
      const auto exponent = static_cast<uint16_t>(3 + (*rng)() % 15);
      const auto bits = static_cast<uint16_t>(((*rng)() & 0x83ff) | (exponent << 10));
      std::memcpy(bytes.data() + block + at, &bits, sizeof(bits));
    }
  }
  return bytes;
}

class WidenTest : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DType, WidenTest, testing::ValuesIn(kRarer),
                         [](const auto& test) { return std::string(NameOf(test.param)); });

TEST_P(WidenTest, KeepsValuesAsTheHeaderSays) {
  const DType dtype = GetParam();
  const DType kept = KeptAs(dtype);
  ASSERT_NE(kept, dtype);
  EXPECT_EQ(KeptAs(kept), kept);
  EXPECT_LT(static_cast<int>(kept), kNumKeptDTypes);
  std::mt19937 rng(3);
  const std::vector<char> packed = RandomBlocks(dtype, &rng);
  // One byte further, so that neither side is aligned.
  std::vector<char> source(packed.size() + 1);
  std::memcpy(source.data() + 1, packed.data(), packed.size());
  const auto bytes = static_cast<size_t>(BytesOf(kept, kElements));
  std::vector<char> widened(bytes + 2, 77);
  WidenRow(dtype, source.data() + 1, widened.data() + 1, kElements);
  EXPECT_EQ(widened.front(), 77);
  EXPECT_EQ(widened.back(), 77);
  std::vector<float> expected(kElements);
  std::vector<float> found(kElements);
  DequantizeRow(dtype, packed.data(), expected.data(), kElements);
  DequantizeRow(kept, widened.data() + 1, found.data(), kElements);
  const bool exact = dtype == DType::kQ3_K || dtype == DType::kIQ4_NL;
  int different = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (exact) {
      EXPECT_EQ(found[i], expected[i]) << i;
    } else {
      // A scale of IQ4_XS is rounded before it is multiplied by up to 127.
      const float subnormal = dtype == DType::kIQ4_XS ? 127 * 0x1p-25F : 0x1p-25F;
      EXPECT_LE(std::abs(found[i] - expected[i]),
                std::max(std::abs(expected[i]) * 0x1p-11F, subnormal))
          << i;
      different += found[i] != expected[i] ? 1 : 0;
    }
  }
  if (!exact) {
    EXPECT_GT(different, 0);
  }
}

TEST_P(WidenTest, NothingIsNothing) { WidenRow(GetParam(), nullptr, nullptr, 0); }

TEST(KeptAsTest, TheOthersStayWhatTheyAre) {
  for (int i = 0; i < kNumKeptDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(KeptAs(dtype), dtype);
  }
  EXPECT_EQ(KeptAs(DType::kQ2_K), DType::kF16);
  EXPECT_EQ(KeptAs(DType::kQ3_K), DType::kQ6_K);
  EXPECT_EQ(KeptAs(DType::kIQ4_NL), DType::kQ8_0);
  EXPECT_EQ(KeptAs(DType::kIQ4_XS), DType::kQ8_0);
}

}  // namespace
}  // namespace tidal
