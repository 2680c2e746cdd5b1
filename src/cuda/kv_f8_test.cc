// Rows of an f8e4m3 cache against the format's definition: conversions, what is appended and read
// back, pages on their way out and in, and what they take.
#include "cuda/kv_f8.cuh"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "cuda/attention.h"
#include "cuda/cuda_cache.h"
#include "cuda/cuda_limits.h"
#include "cuda/device_testing.h"
#include "cuda/kv_f8_testing.h"
#include "cuda/rows.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

// Every code's number, the middle of each two and what is just beside them, and far outside.
std::vector<float> Edges() {
  std::vector<float> edges = {0.0F,
                              464.0F,
                              465.0F,
                              1e10F,
                              std::ldexp(1.0F, -11),
                              1e-30F,
                              1e-40F,
                              std::numeric_limits<float>::infinity()};
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const auto here = static_cast<float>(E4m3Value(code));
    const auto next = static_cast<float>(E4m3Value(static_cast<uint8_t>(code + 1)));
    const float middle = (here + next) / 2;
    for (const float x : {here, middle, next})
      for (const float y : {std::nextafter(x, 0.0F), x, std::nextafter(x, 1e9F)})
        edges.push_back(y);
  }
  const size_t count = edges.size();
  for (size_t i = 0; i < count; ++i) edges.push_back(-edges[i]);
  return edges;
}

TEST(KvF8Test, CodesAreTheirDefinition) {
  for (uint32_t code = 0; code < 256; ++code) {
    const auto expected = E4m3Value(static_cast<uint8_t>(code));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(E4m3ToFloat(code))) << code;
    } else {
      EXPECT_EQ(static_cast<double>(E4m3ToFloat(code)), expected) << code;
      EXPECT_EQ(FloatToE4m3(E4m3ToFloat(code)), code);
    }
  }
}

TEST(KvF8Test, FloatsBecomeTheNearestCode) {
  for (const float x : Edges()) EXPECT_EQ(FloatToE4m3(x), NearestE4m3(static_cast<double>(x))) << x;
  EXPECT_EQ(FloatToE4m3(std::nanf("")) & 0x7fu, 0x7fu);
  std::mt19937 random(3);
  for (int i = 0; i < 1000000; ++i) {
    const float x = FloatOfBits(static_cast<uint32_t>(random()));
    if (std::isnan(x)) continue;
    ASSERT_EQ(FloatToE4m3(x), NearestE4m3(static_cast<double>(x))) << x;
  }
}

TEST(KvF8Test, ScalesAreTheSmallestThatFit) {
  std::mt19937 random(4);
  std::vector<float> most = {0, 1e-45F, 1, 448, std::nextafter(448.0F, 1e9F), 3e38F, 1e-38F};
  for (int i = 0; i < 1000; ++i) {
    const float x = FloatOfBits(static_cast<uint32_t>(random()) & 0x7fffffffu);
    if (std::isfinite(x)) most.push_back(x);
  }
  for (const float x : most) {
    const uint16_t scale = RowScale(BitsOfFloat(x));
    const F8Row expected = QuantisedRow({x});
    EXPECT_EQ(static_cast<double>(Bf16ToF32(scale)), expected.scale) << x;
    EXPECT_EQ(static_cast<double>(InverseOfPower(static_cast<uint32_t>(scale) << 16)),
              1 / expected.scale);
  }
}

// To 3 bits behind the point: half of 2^-3 of an element, or half of the 2^-9 that subnormals
// are apart, of scales that leave the largest element at 224 or more.
TEST(KvF8Test, RoundTripStaysNear) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 100; ++i) {
    std::vector<float> row(128);
    for (float& x : row) x = normal(random) * std::exp2(4 * normal(random));
    row[7] *= 100;  // a channel with a bias
    float most = 0;
    for (const float x : row) most = std::max(most, std::abs(x));
    const uint32_t scale_bits = static_cast<uint32_t>(RowScale(BitsOfFloat(most))) << 16;
    const float scale = FloatOfBits(scale_bits);
    for (const float x : row) {
      const float back = E4m3ToFloat(FloatToE4m3(x * InverseOfPower(scale_bits))) * scale;
      const float allowed = std::max(std::ldexp(std::abs(x), -4), std::ldexp(most / 224, -10));
      EXPECT_LE(std::abs(back - x), allowed);
    }
  }
}

TEST(KvF8Test, PagesTakeAByteAnElementAndTwoARow) {
  ModelConfig config;
  config.num_layers = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  EXPECT_EQ(CudaKvPageBytes(config, CacheType::kF8e4m3), int64_t{32} * 8 * 2 * 64 * (128 + 2));
  EXPECT_EQ(CudaKvPageBytes(config, CacheType::kF16), int64_t{32} * 8 * 2 * 64 * 128 * 2);
  const DeviceKv kv = KvShape(config, CacheType::kF8e4m3);
  EXPECT_EQ(kv.row_bytes, 128);
  EXPECT_EQ(kv.v_offset, 64 * 128);
  EXPECT_EQ(kv.scales_offset, 2 * 64 * 128);
  EXPECT_EQ(kv.kv_head_bytes, 2 * 64 * 130);
  for (const int32_t head_dim : {16, 64, 80, 96, 256}) {
    config.head_dim = head_dim;
    const DeviceKv other = KvShape(config, CacheType::kF8e4m3);
    EXPECT_EQ(other.kv_head_bytes % 16, 0) << head_dim;
    EXPECT_EQ(other.page_bytes, 8 * other.kv_head_bytes);
  }
}

class CudaKvF8Test : public CudaTest {};

// Of the layer of `config` at `base`, one KV head's row and its scale.
struct Place {
  const uint8_t* row;
  const uint8_t* scale;
};
Place PlaceOf(const DeviceKv& kv, const std::vector<uint8_t>& pages, int32_t slot, int32_t kv_head,
              bool is_value) {
  const uint8_t* part = pages.data() + slot / 64 * kv.page_bytes + kv_head * kv.kv_head_bytes;
  return {part + (is_value ? kv.v_offset : 0) + slot % 64 * kv.row_bytes,
          part + kv.scales_offset + slot % 64 * 4 + (is_value ? 2 : 0)};
}

TEST_F(CudaKvF8Test, AppendedRowsAreQuantisedByTheDefinition) {
  constexpr int32_t kRows = 70;
  for (const int32_t head_dim : {16, 64, 80, 128, 256}) {
    SCOPED_TRACE(head_dim);
    ModelConfig config;
    config.num_layers = 1;
    config.num_kv_heads = 3;
    config.head_dim = head_dim;
    DeviceKv kv = KvShape(config, CacheType::kF8e4m3);
    std::mt19937 random(6);
    std::normal_distribution<float> normal;
    const std::vector<float> edges = Edges();
    std::vector<float> rows[2];
    for (std::vector<float>& of : rows) {
      for (int32_t row = 0; row < kRows * 3; ++row) {
        // Of all sizes; some hold the edges between codes, and 448, which makes their scale 1.
        const float size = std::exp2(static_cast<float>(row % 50 - 25) * 4);
        for (int32_t d = 0; d < head_dim; ++d) {
          const float edge = edges[random() % edges.size()];
          of.push_back(row % 3 != 0 ? normal(random) * size : std::abs(edge) < 448 ? edge : 1.0F);
        }
        if (row % 3 == 0) of[of.size() - 1] = -448;
        if (row == 7) std::fill(of.end() - head_dim, of.end(), 0.0F);
        if (row == 8) of[of.size() - 2] = std::nanf("");
        if (row == 10) of[of.size() - 3] = -std::numeric_limits<float>::infinity();
      }
    }
    std::vector<int32_t> slots;
    for (int32_t i = 0; i < kRows; ++i) slots.push_back((i * 37 + 5) % (3 * 64));
    const DeviceArray<uint8_t> pages(
        std::vector<uint8_t>(static_cast<size_t>(3 * kv.page_bytes), 0xee));
    const DeviceArray<float> q(std::vector<float>(static_cast<size_t>(kRows * 3 * head_dim), 1));
    const DeviceArray<float> k(rows[0]);
    const DeviceArray<float> v(rows[1]);
    const DeviceArray<int32_t> device_slots(slots);
    kv.base = pages.data();
    AppendCall call;
    call.q = q.data();
    call.k = k.data();
    call.v = v.data();
    call.slots = device_slots.data();
    call.kv = kv;
    call.num_rows = kRows;
    call.num_heads = 3;
    ASSERT_EQ(RotateAndAppend(call, nullptr), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const std::vector<uint8_t> got = pages.Read();
    for (int32_t i = 0; i < kRows * 3 * 2; ++i) {
      const int32_t row = i / 2;
      const std::vector<float>& of = rows[i % 2];
      const F8Row expected =
          QuantisedRow({of.begin() + row * head_dim, of.begin() + (row + 1) * head_dim});
      const Place place =
          PlaceOf(kv, got, slots[static_cast<size_t>(row / 3)], row % 3, i % 2 == 1);
      uint16_t scale = 0;
      std::memcpy(&scale, place.scale, 2);
      ASSERT_EQ(static_cast<double>(Bf16ToF32(scale)), expected.scale) << "row " << row;
      for (int32_t d = 0; d < head_dim; ++d)
        ASSERT_EQ(place.row[d], expected.codes[static_cast<size_t>(d)])
            << "row " << row << " channel " << d << ": "
            << of[static_cast<size_t>(row * head_dim + d)];
    }
    // Nothing else was written.
    const auto untouched = std::count(got.begin(), got.end(), 0xee);
    EXPECT_GE(untouched, 3 * kv.page_bytes - int64_t{kRows} * 3 * 2 * (head_dim + 2));
  }
}

// One token: its probability is 1, so V comes out as it is stored.
TEST_F(CudaKvF8Test, EveryCodeIsReadExactly) {
  ModelConfig config;
  config.num_layers = 1;
  config.num_kv_heads = 1;
  config.head_dim = 256;
  DeviceKv kv = KvShape(config, CacheType::kF8e4m3);
  for (const double scale : {1.0, 0x1p-40, 0x1p40}) {
    std::vector<uint8_t> page(static_cast<size_t>(kv.page_bytes), 0xff);
    for (int32_t d = 0; d < 256; ++d) {
      page[static_cast<size_t>(d)] = static_cast<uint8_t>(d % 127);
      page[static_cast<size_t>(kv.v_offset + d)] = static_cast<uint8_t>(d);
    }
    const uint16_t scales[2] = {F32ToBf16(0.125F), F32ToBf16(static_cast<float>(scale))};
    std::memcpy(page.data() + kv.scales_offset, scales, 4);
    const DeviceArray<uint8_t> pages(page);
    const DeviceArray<DeviceSequence> steps({{0, 1, 1, 0, 0}});
    const DeviceArray<int32_t> page_ids({0});
    const DeviceArray<uint8_t> flags({kReadsAll});
    const DeviceArray<float> q(std::vector<float>(256, 0.5F));
    const DeviceArray<float> partial(
        std::vector<float>(static_cast<size_t>(AttentionPartialFloats(1, 1, 1, 256))));
    const DeviceArray<int32_t> counters({0});
    for (const bool is_float : {true, false}) {
      const DeviceArray<float> out(std::vector<float>(256, 12345));
      AttentionCall call;
      call.step = {steps.data(), page_ids.data(), flags.data(), 1};
      call.kv = kv;
      call.kv.base = pages.data();
      call.q = q.data();
      call.out = out.data();
      call.num_heads = 1;
      call.attn_scale = 0.0625F;
      call.workspace = {partial.data(), counters.data()};
      ASSERT_EQ(is_float ? AttendFloat(call, 1, nullptr) : AttendDecode(call, nullptr),
                cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      const std::vector<float> got = out.Read();
      for (int32_t d = 0; d < 256; ++d) {
        const double expected = E4m3Value(static_cast<uint8_t>(d)) * scale;
        const auto value = static_cast<double>(got[static_cast<size_t>(d)]);
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(value)) << d;
        } else {
          EXPECT_EQ(value, expected) << d;
        }
      }
    }
  }
}

TEST_F(CudaKvF8Test, SavedPagesKeepRowsAndScalesOfTheirTokens) {
  ModelConfig config;
  config.num_layers = 2;
  config.num_kv_heads = 3;
  config.head_dim = 80;
  CudaExecutorOptions options;
  options.cache_type = CacheType::kF8e4m3;
  options.num_pages = 4;
  Result<CudaCache> cache = CudaCache::Create(config, options);
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  const DeviceKv kv = KvShape(config, CacheType::kF8e4m3);
  EXPECT_EQ(cache->kv_page_bytes(), 2 * kv.page_bytes);
  EXPECT_EQ(cache->kv_bytes(), 4 * 2 * kv.page_bytes);
  EXPECT_EQ(cache->token_bytes(), 3 * (2 * 80 + 4));
  EXPECT_EQ(cache->key_bytes(), 3 * (80 + 4));
  const PageFormat format = cache->page_format();
  EXPECT_NE(format.kv.find("f8e4m3"), std::string::npos) << format.kv;
  EXPECT_EQ(format.kv_bytes, 2 * kv.page_bytes);
  std::mt19937 random(8);
  std::vector<std::byte> page(static_cast<size_t>(2 * kv.page_bytes));
  for (std::byte& byte : page) byte = static_cast<std::byte>(1 + random() % 255);
  ASSERT_TRUE(cache->WritePage(2, kPageSize, page, {}, nullptr).ok());
  for (const int32_t num_tokens : {64, 63, 10, 1}) {
    std::vector<std::byte> got(page.size());
    ASSERT_TRUE(cache->ReadPage(2, num_tokens, got, {}, nullptr).ok());
    for (size_t i = 0; i < got.size(); ++i) {
      const auto at = static_cast<int64_t>(i) % kv.kv_head_bytes;
      const int64_t token = at < kv.scales_offset ? at % kv.v_offset / kv.row_bytes
                                                  : (at - kv.scales_offset) / kTokenScaleBytes;
      ASSERT_EQ(got[i], token < num_tokens ? page[i] : std::byte{0})
          << num_tokens << " tokens, byte " << i;
    }
  }
}

}  // namespace
}  // namespace tidal
