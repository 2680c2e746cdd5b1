#include "cpu/packed_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "quant/quant_blocks.h"
#include "quant/widen.h"

namespace tidal {
namespace {

static_assert(static_cast<int>(PackedType::kF32) == static_cast<int>(DType::kF32) &&
              static_cast<int>(PackedType::kQ4_0) == static_cast<int>(DType::kQ4_0) &&
              static_cast<int>(PackedType::kQ8_0) == static_cast<int>(DType::kQ8_0) &&
              static_cast<int>(PackedType::kQ6_K) == static_cast<int>(DType::kQ6_K) &&
              static_cast<int>(PackedType::kQ5_1) == static_cast<int>(DType::kQ5_1) &&
              kNumPackedTypes == kNumKeptDTypes);

// Work on codes is done on four columns at a time, in the bytes of a word.
constexpr uint32_t kLowNibbles = 0x0f0f0f0f;
constexpr int kStepsPerGroup = kGroupCols / 4;
constexpr int kGroupsPerBlock = kSuperBlockSize / kGroupCols;

uint32_t Load32(const void* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

// Puts the word of one row's step where the layout wants it.
void StoreStep(uint8_t* base, int step, int row, uint32_t word) {
  std::memcpy(base + step * kStepBytes + row * 4, &word, sizeof(word));
}

void StoreHalf(uint8_t* base, int row, uint16_t half) {
  std::memcpy(base + row * 2, &half, sizeof(half));
}

// The low nibbles of a group: words 0..7 of its codes.
void StoreNibbles(uint8_t* group, int row, const uint32_t words[kStepsPerGroup]) {
  for (int s = 0; s < kStepsPerGroup / 2; ++s)
    StoreStep(group, s, row, (words[s] & kLowNibbles) | ((words[s + 4] & kLowNibbles) << 4));
}

// Bit 4 of each code of a group: bit s of byte t of the result is bit 0 of byte t of fifth[s].
void StoreFifthBits(uint8_t* group, int row, const uint32_t fifth[kStepsPerGroup]) {
  uint32_t bits = 0;
  for (int s = 0; s < kStepsPerGroup; ++s) bits |= (fifth[s] & 0x01010101) << s;
  StoreStep(group + 4 * kStepBytes, 0, row, bits);
}

// One block of a row, into the scales and codes of the unit that holds it for kRowTile rows.
template <typename Block>
void PackBlock(const Block& block, uint8_t* scales, uint8_t* codes, int row);

// The words of 32 nibbles as Q4_0 and its kin hold them: q[i] low, q[i+16] high.
void SplitNibbles(const uint8_t* qs, uint32_t words[kStepsPerGroup]) {
  for (int s = 0; s < kStepsPerGroup / 2; ++s) {
    const uint32_t word = Load32(qs + 4 * s);
    words[s] = word & kLowNibbles;
    words[s + 4] = (word >> 4) & kLowNibbles;
  }
}

template <>
void PackBlock(const BlockQ4_0& block, uint8_t* scales, uint8_t* codes, int row) {
  uint32_t words[kStepsPerGroup];
  SplitNibbles(block.qs, words);
  StoreNibbles(codes, row, words);
  StoreHalf(scales, row, block.d);
}

template <>
void PackBlock(const BlockQ4_1& block, uint8_t* scales, uint8_t* codes, int row) {
  uint32_t words[kStepsPerGroup];
  SplitNibbles(block.qs, words);
  StoreNibbles(codes, row, words);
  StoreHalf(scales, row, block.d);
  StoreHalf(scales + kRowTile * 2, row, block.m);
}

// The codes of a Q5_0 or Q5_1 block.
template <typename Block>
void PackFiveBitCodes(const Block& block, uint8_t* codes, int row) {
  uint32_t words[kStepsPerGroup];
  SplitNibbles(block.qs, words);
  const uint32_t high = Load32(block.qh);
  uint32_t fifth[kStepsPerGroup];
  // Four bits spread to four bytes: the products land 7 bits apart, so none carries into another.
  for (int s = 0; s < kStepsPerGroup; ++s)
    fifth[s] = (((high >> (4 * s)) & 15) * 0x00204081) & 0x01010101;
  StoreNibbles(codes, row, words);
  StoreFifthBits(codes, row, fifth);
}

template <>
void PackBlock(const BlockQ5_0& block, uint8_t* scales, uint8_t* codes, int row) {
  PackFiveBitCodes(block, codes, row);
  StoreHalf(scales, row, block.d);
}

template <>
void PackBlock(const BlockQ5_1& block, uint8_t* scales, uint8_t* codes, int row) {
  PackFiveBitCodes(block, codes, row);
  StoreHalf(scales, row, block.d);
  StoreHalf(scales + kRowTile * 2, row, block.m);
}

template <>
void PackBlock(const BlockQ8_0& block, uint8_t* scales, uint8_t* codes, int row) {
  for (int s = 0; s < kStepsPerGroup; ++s)
    StoreStep(codes, s, row, Load32(block.qs + 4 * s) ^ 0x80808080);  // + 128
  StoreHalf(scales, row, block.d);
}

template <typename Block>
void PackSuperAffineScales(const Block& block, uint8_t* scales, int row) {
  uint8_t scale[kGroupsPerBlock], min[kGroupsPerBlock];
  UnpackKScales(block.scales, scale, min);
  StoreHalf(scales, row, block.d);
  StoreHalf(scales + kRowTile * 2, row, block.dmin ^ 0x8000);
  uint8_t* bytes = scales + kRowTile * 4;
  for (int g = 0; g < kGroupsPerBlock; ++g) {
    bytes[2 * g * kRowTile + row] = scale[g];
    bytes[(2 * g + 1) * kRowTile + row] = min[g];
  }
}

template <>
void PackBlock(const BlockQ4_K& block, uint8_t* scales, uint8_t* codes, int row) {
  constexpr int kBytes = GroupCodeBytes(PackedType::kQ4_K);
  for (int g = 0; g < kGroupsPerBlock; ++g) {
    const uint8_t* qs = block.qs + (g / 2) * 32;
    uint32_t words[kStepsPerGroup];
    for (int s = 0; s < kStepsPerGroup; ++s) words[s] = Load32(qs + 4 * s) >> (g % 2 * 4);
    StoreNibbles(codes + g * kBytes, row, words);
  }
  PackSuperAffineScales(block, scales, row);
}

template <>
void PackBlock(const BlockQ5_K& block, uint8_t* scales, uint8_t* codes, int row) {
  constexpr int kBytes = GroupCodeBytes(PackedType::kQ5_K);
  for (int g = 0; g < kGroupsPerBlock; ++g) {
    const uint8_t* qs = block.qs + (g / 2) * 32;
    uint32_t words[kStepsPerGroup], fifth[kStepsPerGroup];
    for (int s = 0; s < kStepsPerGroup; ++s) {
      words[s] = Load32(qs + 4 * s) >> (g % 2 * 4);
      fifth[s] = Load32(block.qh + 4 * s) >> g;
    }
    uint8_t* group = codes + g * kBytes;
    StoreNibbles(group, row, words);
    StoreFifthBits(group, row, fifth);
  }
  PackSuperAffineScales(block, scales, row);
}

template <>
void PackBlock(const BlockQ6_K& block, uint8_t* scales, uint8_t* codes, int row) {
  constexpr int kBytes = GroupCodeBytes(PackedType::kQ6_K);
  for (int g = 0; g < kGroupsPerBlock; ++g) {
    const int quarter = g % 4;  // which 32 columns of the run of 128
    const uint8_t* ql = block.ql + (g / 4) * 64 + (quarter % 2) * 32;
    const uint8_t* qh = block.qh + (g / 4) * 32;
    uint32_t words[kStepsPerGroup];
    uint32_t high[2] = {0, 0};
    for (int s = 0; s < kStepsPerGroup; ++s) {
      words[s] = Load32(ql + 4 * s) >> (quarter / 2 * 4);
      high[s / 4] |= ((Load32(qh + 4 * s) >> (2 * quarter)) & 0x03030303) << (2 * (s % 4));
    }
    uint8_t* group = codes + g * kBytes;
    StoreNibbles(group, row, words);
    StoreStep(group + 4 * kStepBytes, 0, row, high[0]);
    StoreStep(group + 4 * kStepBytes, 1, row, high[1]);
  }
  StoreHalf(scales, row, block.d);
  for (int h = 0; h < 2 * kGroupsPerBlock; ++h)
    std::memcpy(scales + kRowTile * (2 + h) + row, &block.scales[h], 1);
}

struct Source {
  const std::byte* data;
  int64_t rows;
  int64_t cols;
};

template <typename Block>
void PackQuantizedTile(PackedType type, const Source& from, int64_t tile, uint8_t* dest) {
  const int64_t units = from.cols / UnitCols(type);
  const int64_t first = tile * kRowTile;
  const int rows = static_cast<int>(std::min<int64_t>(kRowTile, from.rows - first));
  if (rows < kRowTile) std::memset(dest, 0, static_cast<size_t>(TileBytes(type, from.cols)));
  for (int64_t unit = 0; unit < units; ++unit, dest += UnitBytes(type)) {
    for (int row = 0; row < rows; ++row) {
      Block block;
      std::memcpy(&block,
                  from.data + ((first + row) * units + unit) * static_cast<int64_t>(sizeof(Block)),
                  sizeof(Block));
      PackBlock(block, dest, dest + UnitScaleBytes(type), row);
    }
  }
}

template <typename Element>
void PackFloatTile(const Source& from, int64_t tile, uint8_t* dest) {
  constexpr int64_t kSize = sizeof(Element);
  constexpr int64_t kStretch = 16;  // columns at a time: a cache line or two of each row
  const int64_t first = tile * kRowTile;
  const int rows = static_cast<int>(std::min<int64_t>(kRowTile, from.rows - first));
  for (int64_t k0 = 0; k0 < from.cols; k0 += kStretch) {
    const int64_t width = std::min(kStretch, from.cols - k0);
    Element out[kStretch][kRowTile] = {};
    for (int row = 0; row < rows; ++row) {
      Element in[kStretch];
      std::memcpy(in, from.data + ((first + row) * from.cols + k0) * kSize,
                  static_cast<size_t>(width * kSize));
      for (int64_t k = 0; k < width; ++k) out[k][row] = in[k];
    }
    std::memcpy(dest + k0 * kRowTile * kSize, out, static_cast<size_t>(width * kRowTile * kSize));
  }
  const int64_t used = from.cols * kRowTile * kSize;
  const int64_t tile_bytes = RoundUp(used, kTileAlignment);
  std::memset(dest + used, 0, static_cast<size_t>(tile_bytes - used));
}

void PackTile(PackedType type, const Source& from, int64_t tile, uint8_t* dest) {
  switch (type) {
    case PackedType::kF32:
      return PackFloatTile<uint32_t>(from, tile, dest);
    case PackedType::kF16:
    case PackedType::kBF16:
      return PackFloatTile<uint16_t>(from, tile, dest);
    case PackedType::kQ4_0:
      return PackQuantizedTile<BlockQ4_0>(type, from, tile, dest);
    case PackedType::kQ4_1:
      return PackQuantizedTile<BlockQ4_1>(type, from, tile, dest);
    case PackedType::kQ5_0:
      return PackQuantizedTile<BlockQ5_0>(type, from, tile, dest);
    case PackedType::kQ8_0:
      return PackQuantizedTile<BlockQ8_0>(type, from, tile, dest);
    case PackedType::kQ4_K:
      return PackQuantizedTile<BlockQ4_K>(type, from, tile, dest);
    case PackedType::kQ5_K:
      return PackQuantizedTile<BlockQ5_K>(type, from, tile, dest);
    case PackedType::kQ6_K:
      return PackQuantizedTile<BlockQ6_K>(type, from, tile, dest);
    case PackedType::kQ5_1:
      return PackQuantizedTile<BlockQ5_1>(type, from, tile, dest);
  }
}

// The rows of one tile of a matrix of a rarer type, widened into `buffer`.
Source WidenTile(DType dtype, const Source& from, int64_t tile, std::vector<std::byte>* buffer) {
  const int64_t first = tile * kRowTile;
  const int64_t rows = std::min<int64_t>(kRowTile, from.rows - first);
  buffer->resize(static_cast<size_t>(BytesOf(KeptAs(dtype), rows * from.cols)));
  WidenRow(dtype, from.data + first * BytesOf(dtype, from.cols), buffer->data(), rows * from.cols);
  return {buffer->data(), rows, from.cols};
}

}  // namespace

PackedType PackedTypeOf(DType dtype) { return static_cast<PackedType>(KeptAs(dtype)); }

int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  return CeilDiv(rows, kRowTile) * TileBytes(PackedTypeOf(dtype), cols);
}

PackedMatrix Pack(DType dtype, int64_t rows, int64_t cols, const std::byte* data, std::byte* dest,
                  ThreadPool& pool) {
  const PackedType type = PackedTypeOf(dtype);
  TIDAL_CHECK(rows >= 1 && cols >= 1 && cols % InfoOf(dtype).quant_block_size == 0, "{} [{}, {}]",
              NameOf(dtype), rows, cols);
  TIDAL_CHECK(reinterpret_cast<uintptr_t>(dest) % kTileAlignment == 0, "dest is not aligned");
  const PackedMatrix matrix = {type, rows, cols, dest};
  const Source from = {data, rows, cols};
  const int64_t tile_bytes = matrix.tile_bytes();
  constexpr int64_t kBytesAtOnce = 256 << 10;
  const int64_t grain = std::max<int64_t>(1, kBytesAtOnce / tile_bytes);
  pool.ParallelFor(matrix.num_tiles(), grain, [&](int64_t begin, int64_t end, int) {
    std::vector<std::byte> buffer;
    for (int64_t tile = begin; tile < end; ++tile) {
      auto* const to = reinterpret_cast<uint8_t*>(dest) + tile * tile_bytes;
      if (KeptAs(dtype) == dtype) {
        PackTile(type, from, tile, to);
      } else {
        PackTile(type, WidenTile(dtype, from, tile, &buffer), 0, to);
      }
    }
  });
  return matrix;
}

}  // namespace tidal
