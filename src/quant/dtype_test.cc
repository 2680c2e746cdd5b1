#include "quant/dtype.h"

#include <bit>
#include <cctype>
#include <cmath>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "quant/quant_blocks.h"
#include "quant/quantize.h"

namespace tidal {
namespace {

constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,    DType::kBF16,  DType::kQ4_0,
                                DType::kQ4_1, DType::kQ5_0,   DType::kQ8_0,  DType::kQ4_K,
                                DType::kQ5_K, DType::kQ6_K,   DType::kQ5_1,  DType::kQ2_K,
                                DType::kQ3_K, DType::kIQ4_NL, DType::kIQ4_XS};
static_assert(std::size(kAllDTypes) == kNumDTypes);

std::string LowerName(DType dtype) {
  std::string name = NameOf(dtype);
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

// A fixture as tools/make_quant_fixtures.py describes it: another program's packed bytes and
// values.
struct Fixture {
  std::vector<char> packed;
  std::vector<float> values;
};

Fixture ReadFixture(DType dtype) {
  const std::string path =
      std::string(TIDAL_SOURCE_DIR) + "/tests/data/quant/" + LowerName(dtype) + ".bin";
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  char magic[8] = {};
  uint32_t header[3] = {};
  in.read(magic, sizeof(magic));
  in.read(reinterpret_cast<char*>(header), sizeof(header));
  EXPECT_EQ(std::string(magic, 8), "TDLQUANT");
  EXPECT_EQ(header[0], InfoOf(dtype).ggml_type);
  Fixture fixture;
  fixture.values.resize(header[1]);
  fixture.packed.resize(header[2]);
  in.read(fixture.packed.data(), static_cast<std::streamsize>(fixture.packed.size()));
  in.read(reinterpret_cast<char*>(fixture.values.data()),
          static_cast<std::streamsize>(fixture.values.size() * sizeof(float)));
  EXPECT_TRUE(in) << path << " is shorter than its header says";
  return fixture;
}

class EveryDType : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DType, EveryDType, testing::ValuesIn(kAllDTypes),
                         [](const auto& test) { return std::string(NameOf(test.param)); });

TEST_P(EveryDType, DequantizesToTheBitAsThePackageDoes) {
  const Fixture fixture = ReadFixture(GetParam());
  const auto n = static_cast<int64_t>(fixture.values.size());
  ASSERT_GT(n, 0);
  ASSERT_EQ(BytesOf(GetParam(), n), static_cast<int64_t>(fixture.packed.size()));
  std::vector<float> found(fixture.values.size(), std::nanf(""));
  DequantizeRow(GetParam(), fixture.packed.data(), found.data(), n);
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(fixture.values[i]))
        << "element " << i << ": " << found[i] << ", expected " << fixture.values[i];
  }
}

TEST_P(EveryDType, ReadsUnalignedBytesAndWritesNoMoreThanAsked) {
  const Fixture fixture = ReadFixture(GetParam());
  const int64_t n = InfoOf(GetParam()).quant_block_size;
  std::vector<char> shifted(fixture.packed.size() + 1);
  std::memcpy(shifted.data() + 1, fixture.packed.data(), fixture.packed.size());
  std::vector<float> found(static_cast<size_t>(n) + 1, 12345.0F);
  DequantizeRow(GetParam(), shifted.data() + 1, found.data(), n);
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) EXPECT_EQ(found[i], fixture.values[i]) << i;
  EXPECT_EQ(found.back(), 12345.0F);
  DequantizeRow(GetParam(), shifted.data() + 1, found.data(), 0);
}

TEST_P(EveryDType, QuantizingComesBackWithinHalfAStep) {
  if (KeptAs(GetParam()) != GetParam()) return;  // has no quantiser
  // A smooth, deterministic signal whose groups differ in scale and offset.
  constexpr int kElements = 2048;
  std::vector<float> original(kElements);
  for (int i = 0; i < kElements; ++i) {
    const auto x = static_cast<float>(i);
    original[static_cast<size_t>(i)] =
        std::sin(0.37F * x) * (1 + 0.01F * x) + 0.3F * std::cos(0.011F * x);
  }
  std::vector<char> packed(static_cast<size_t>(BytesOf(GetParam(), kElements)));
  std::vector<float> found(kElements);
  QuantizeRow(GetParam(), original.data(), packed.data(), kElements);
  DequantizeRow(GetParam(), packed.data(), found.data(), kElements);
  float peak = 0;
  float worst = 0;
  for (size_t i = 0; i < kElements; ++i) peak = std::max(peak, std::abs(original[i]));
  for (size_t i = 0; i < kElements; ++i) worst = std::max(worst, std::abs(original[i] - found[i]));
  // With b bits over a range of up to 2 * peak half a step is peak / 2^b. The symmetric types lose
  // up to one more half step at the end of the scale that has one code fewer; the K types round
  // their scales too (1 part in 126 of the range); f16 scales add 2^-11. Twice the half step covers
  // all of these.
  const int bits = [] {
    switch (GetParam()) {
      case DType::kF32:
        return 24;
      case DType::kF16:
        return 11;
      case DType::kBF16:
        return 8;
      case DType::kQ4_0:
      case DType::kQ4_1:
      case DType::kQ4_K:
        return 4;
      case DType::kQ5_0:
      case DType::kQ5_1:
      case DType::kQ5_K:
        return 5;
      case DType::kQ6_K:
        return 6;
      case DType::kQ8_0:
        return 8;
      default:
        return 24;  // no other comes here
    }
  }();
  EXPECT_LE(worst, 2 * peak / static_cast<float>(1 << bits));
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(worst, 0);
  }
}

TEST_P(EveryDType, QuantizesZerosAndConstants) {
  if (KeptAs(GetParam()) != GetParam()) return;  // has no quantiser
  const int64_t n = 2 * kSuperBlockSize;
  for (const float value : {0.0F, 1.0F, -2.0F}) {
    const std::vector<float> original(static_cast<size_t>(n), value);
    std::vector<char> packed(static_cast<size_t>(BytesOf(GetParam(), n)));
    std::vector<float> found(static_cast<size_t>(n), std::nanf(""));
    QuantizeRow(GetParam(), original.data(), packed.data(), n);
    DequantizeRow(GetParam(), packed.data(), found.data(), n);
    // The peak of a group keeps f16 precision (2^-11 relative), after at most three roundings.
    for (const float x : found)
      ASSERT_NEAR(x, value, std::abs(value) * 3 / 2048) << NameOf(GetParam());
  }
}

TEST_P(EveryDType, GgmlNumberLeadsBackToIt) {
  const Result<DType> found = DTypeFromGgml(InfoOf(GetParam()).ggml_type);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(*found, GetParam());
}

TEST(DTypeTest, NumbersAndSizesAreTheFormats) {
  std::set<uint32_t> numbers;
  for (const DType dtype : kAllDTypes) numbers.insert(InfoOf(dtype).ggml_type);
  EXPECT_EQ(numbers, (std::set<uint32_t>{0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30}));
  EXPECT_EQ(BytesOf(DType::kF32, 3), 12);
  EXPECT_EQ(BytesOf(DType::kQ8_0, 64), 68);
  EXPECT_EQ(BytesOf(DType::kQ6_K, 512), 420);
  EXPECT_EQ(BytesOf(DType::kQ4_1, 0), 0);
  EXPECT_EQ(BytesOf(DType::kQ5_1, 32), 24);
  EXPECT_EQ(BytesOf(DType::kQ2_K, 512), 168);
  EXPECT_EQ(BytesOf(DType::kQ3_K, 256), 110);
  EXPECT_EQ(BytesOf(DType::kIQ4_NL, 64), 36);
  EXPECT_EQ(BytesOf(DType::kIQ4_XS, 256), 136);
}

TEST(DTypeTest, AForeignTypeIsNamedWithTheSupportedOnes) {
  for (const auto& [number, name] : {std::pair{18u, "IQ3_XXS"},
                                     {9u, "Q8_1"},
                                     {24u, "I8"},
                                     {4u, "4"},
                                     {0xffffffffu, "4294967295"}}) {
    const Result<DType> found = DTypeFromGgml(number);
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.status().code(), StatusCode::kUnsupported);
    EXPECT_NE(found.status().message().find(name), std::string::npos) << found.status().message();
    EXPECT_NE(found.status().message().find("Q4_K"), std::string::npos) << found.status().message();
  }
}

TEST(DTypeTest, EveryTypeNumberHasAName) {
  EXPECT_EQ(NameOfGgmlType(12), "Q4_K");
  EXPECT_EQ(NameOfGgmlType(23), "IQ4_XS");
  EXPECT_EQ(NameOfGgmlType(22), "IQ2_S");
  EXPECT_EQ(NameOfGgmlType(99), "type 99");
}

TEST(QuantBlocksTest, UnpackKScalesPutsEachBitWhereTheLayoutSays) {
  // Every bit of the 12 bytes in turn: exactly one scale or minimum has exactly one bit.
  std::set<std::pair<int, int>> seen;
  for (int bit = 0; bit < 96; ++bit) {
    uint8_t packed[kKScaleBytes] = {};
    packed[bit / 8] = static_cast<uint8_t>(1 << (bit % 8));
    uint8_t values[16];
    UnpackKScales(packed, values, values + 8);
    int set = 0;
    for (int v = 0; v < 16; ++v) {
      set += std::popcount(values[v]);
      if (values[v] != 0) seen.insert({v, values[v]});
    }
    EXPECT_EQ(set, 1) << bit;
  }
  EXPECT_EQ(seen.size(), 96u);
}

}  // namespace
}  // namespace tidal
