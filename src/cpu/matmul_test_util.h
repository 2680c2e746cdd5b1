// Random weight matrices in file format, with what their values are, for the tests of packing and
// products.
#ifndef TIDAL_CPU_MATMUL_TEST_UTIL_H_
#define TIDAL_CPU_MATMUL_TEST_UTIL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "base/float16.h"
#include "cpu/packed_layout.h"
#include "quant/dtype.h"
#include "quant/quant_blocks.h"

namespace tidal {

// Exactly `bytes` bytes at an alignment of 64, so that a sanitizer sees any access past the end;
// filled with 0xff, which is NaN in every float type.
class TestMemory {
 public:
  explicit TestMemory(int64_t bytes)
      : memory_(static_cast<std::byte*>(
            ::operator new (static_cast<size_t>(bytes), std::align_val_t{64}))) {
    std::memset(memory_.get(), 0xff, static_cast<size_t>(bytes));
  }
  std::byte* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
};

enum class Codes { kRandom, kLargest, kSmallest };

struct TestMatrix {
  DType dtype;
  int64_t rows;
  int64_t cols;
  std::vector<std::byte> bytes;  // as a file has them
  std::vector<float> values;     // [rows][cols]
  // [rows][cols] what is added to scale times code; 0 for types without a minimum.
  std::vector<float> minimum;
};

// Sets every scale of a block to a value near `scale` and the codes as told.
class BlockMaker {
 public:
  BlockMaker(uint32_t seed, float scale, Codes codes)
      : random_(seed), scale_(scale), codes_(codes) {}

  uint16_t Scale() {
    const float sign = codes_ == Codes::kRandom && random_() % 4 == 0 ? -1.0f : 1.0f;
    return F32ToF16(sign * scale_ * std::uniform_real_distribution<float>(0.5f, 1.0f)(random_));
  }
  template <size_t kSize>
  void Fill(uint8_t (&bytes)[kSize]) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(Byte(0x00, 0xff));
  }
  int Byte(int smallest, int largest) {
    if (codes_ == Codes::kSmallest) return smallest;
    return codes_ == Codes::kLargest ? largest : static_cast<int>(random_() & 0xff);
  }

  void Make(BlockQ4_0& b) { b.d = Scale(), Fill(b.qs); }
  void Make(BlockQ4_1& b) { b.d = Scale(), b.m = Scale(), Fill(b.qs); }
  void Make(BlockQ5_0& b) { b.d = Scale(), Fill(b.qh), Fill(b.qs); }
  void Make(BlockQ5_1& b) { b.d = Scale(), b.m = Scale(), Fill(b.qh), Fill(b.qs); }
  void Make(BlockQ8_0& b) {
    b.d = Scale();
    for (int8_t& q : b.qs) q = static_cast<int8_t>(Byte(-128, 127));
  }
  void Make(BlockQ4_K& b) { b.d = Scale(), b.dmin = Scale(), Fill(b.scales), Fill(b.qs); }
  void Make(BlockQ5_K& b) {
    b.d = Scale(), b.dmin = Scale(), Fill(b.scales), Fill(b.qh), Fill(b.qs);
  }
  void Make(BlockQ6_K& b) {
    b.d = Scale(), Fill(b.ql), Fill(b.qh);
    // The largest products come from the smallest scale, -128.
    for (int8_t& s : b.scales) s = static_cast<int8_t>(Byte(-128, 127));
  }

 private:
  std::mt19937 random_;
  float scale_;
  Codes codes_;
};

template <typename Block>
std::vector<std::byte> MakeBlocks(BlockMaker maker, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(Block));
  for (int64_t i = 0; i < count; ++i) {
    Block block;
    maker.Make(block);
    std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof(Block), &block, sizeof(Block));
  }
  return bytes;
}

inline std::vector<std::byte> MakeFloats(DType dtype, BlockMaker maker, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(BytesOf(dtype, count)));
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t half = maker.Scale();
    const float value = F16ToF32(half) * (dtype == DType::kF32 ? 1.2345678f : 1.0f);
    const uint16_t bits = dtype == DType::kBF16 ? F32ToBf16(value) : half;
    const size_t size = dtype == DType::kF32 ? 4 : 2;
    std::memcpy(bytes.data() + static_cast<size_t>(i) * size,
                size == 4 ? static_cast<const void*>(&value) : &bits, size);
  }
  return bytes;
}

// The same blocks with all codes 0: they stand for the minimum alone.
template <typename Block>
std::vector<std::byte> WithoutCodes(std::vector<std::byte> bytes, size_t first_code,
                                    size_t num_codes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(Block))
    std::memset(bytes.data() + at + first_code, 0, num_codes);
  return bytes;
}

inline TestMatrix MakeTestMatrix(DType dtype, int64_t rows, int64_t cols, uint32_t seed,
                                 float scale = 0.01f, Codes codes = Codes::kRandom) {
  TestMatrix m = {dtype, rows, cols, {}, {}, {}};
  const BlockMaker maker(seed, scale, codes);
  const int64_t count = rows * cols;
  const int64_t blocks = count / InfoOf(dtype).quant_block_size;
  std::vector<std::byte> floor;
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      m.bytes = MakeFloats(dtype, maker, count);
      break;
    case DType::kQ4_0:
      m.bytes = MakeBlocks<BlockQ4_0>(maker, blocks);
      break;
    case DType::kQ4_1:
      m.bytes = MakeBlocks<BlockQ4_1>(maker, blocks);
      floor = WithoutCodes<BlockQ4_1>(m.bytes, offsetof(BlockQ4_1, qs), sizeof(BlockQ4_1::qs));
      break;
    case DType::kQ5_0:
      m.bytes = MakeBlocks<BlockQ5_0>(maker, blocks);
      break;
    case DType::kQ8_0:
      m.bytes = MakeBlocks<BlockQ8_0>(maker, blocks);
      break;
    case DType::kQ4_K:
      m.bytes = MakeBlocks<BlockQ4_K>(maker, blocks);
      floor = WithoutCodes<BlockQ4_K>(m.bytes, offsetof(BlockQ4_K, qs), sizeof(BlockQ4_K::qs));
      break;
    case DType::kQ5_K:
      m.bytes = MakeBlocks<BlockQ5_K>(maker, blocks);
      floor = WithoutCodes<BlockQ5_K>(m.bytes, offsetof(BlockQ5_K, qh),
                                      sizeof(BlockQ5_K::qh) + sizeof(BlockQ5_K::qs));
      break;
    case DType::kQ6_K:
      m.bytes = MakeBlocks<BlockQ6_K>(maker, blocks);
      break;
    case DType::kQ5_1:
      m.bytes = MakeBlocks<BlockQ5_1>(maker, blocks);
      floor = WithoutCodes<BlockQ5_1>(m.bytes, offsetof(BlockQ5_1, qh),
                                      sizeof(BlockQ5_1::qh) + sizeof(BlockQ5_1::qs));
      break;
    default:
      TIDAL_CHECK(false, "{} is not packed as it is", NameOf(dtype));
  }
  m.values.resize(static_cast<size_t>(count));
  DequantizeRow(dtype, m.bytes.data(), m.values.data(), count);
  m.minimum.assign(static_cast<size_t>(count), 0.0f);
  if (!floor.empty()) DequantizeRow(dtype, floor.data(), m.minimum.data(), count);
  return m;
}

inline constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                                       DType::kQ4_1, DType::kQ5_0, DType::kQ8_0, DType::kQ4_K,
                                       DType::kQ5_K, DType::kQ6_K, DType::kQ5_1};
static_assert(std::size(kAllDTypes) == kNumKeptDTypes);

}  // namespace tidal

#endif  // TIDAL_CPU_MATMUL_TEST_UTIL_H_
