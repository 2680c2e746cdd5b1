// What      packs rows of quantised blocks into the tiles of weight_layout.h.
// Shapes    raw [rows][cols / block] blocks -> [rows / 16][units] units, device memory.
// Launch    one warp per unit, 8 warps a block; each lane gathers its own codes, so the reads are
//           scattered bytes that the L1 cache joins. It runs at upload, where the bus is the limit.
// Numerics  moves bits only.
#include "cuda/pack.h"
#include "cuda/packed_unit.cuh"

namespace tidal {
namespace {

constexpr int kWarps = 8;

template <DType kType>
struct RawBlock;
template <>
struct RawBlock<DType::kQ4_0> {
  using Type = BlockQ4_0;
};
template <>
struct RawBlock<DType::kQ4_1> {
  using Type = BlockQ4_1;
};
template <>
struct RawBlock<DType::kQ5_0> {
  using Type = BlockQ5_0;
};
template <>
struct RawBlock<DType::kQ5_1> {
  using Type = BlockQ5_1;
};
template <>
struct RawBlock<DType::kQ8_0> {
  using Type = BlockQ8_0;
};
template <>
struct RawBlock<DType::kQ4_K> {
  using Type = BlockQ4_K;
};
template <>
struct RawBlock<DType::kQ5_K> {
  using Type = BlockQ5_K;
};
template <>
struct RawBlock<DType::kQ6_K> {
  using Type = BlockQ6_K;
};

template <DType kType>
constexpr int kBlockCols = IsKType(kType) ? kSuperBlockSize : kQuantBlockSize;

// The unsigned code of element e, as packed units have it.
__device__ uint32_t Code(const BlockQ4_0& b, int e) { return b.qs[e % 16] >> (e / 16 * 4) & 15; }
__device__ uint32_t Code(const BlockQ4_1& b, int e) { return b.qs[e % 16] >> (e / 16 * 4) & 15; }
template <typename Block>
__device__ uint32_t FiveBits(const Block& b, int e) {
  return (b.qs[e % 16] >> (e / 16 * 4) & 15) | (b.qh[e / 8] >> (e % 8) & 1) << 4;
}
__device__ uint32_t Code(const BlockQ5_0& b, int e) { return FiveBits(b, e); }
__device__ uint32_t Code(const BlockQ5_1& b, int e) { return FiveBits(b, e); }
__device__ uint32_t Code(const BlockQ8_0& b, int e) { return static_cast<uint8_t>(b.qs[e]) ^ 128; }
__device__ uint32_t Code(const BlockQ4_K& b, int e) {
  return b.qs[e / 64 * 32 + e % 32] >> (e / 32 % 2 * 4) & 15;
}
__device__ uint32_t Code(const BlockQ5_K& b, int e) {
  return (b.qs[e / 64 * 32 + e % 32] >> (e / 32 % 2 * 4) & 15) | (b.qh[e % 32] >> (e / 32) & 1)
                                                                     << 4;
}
__device__ uint32_t Code(const BlockQ6_K& b, int e) {
  const int quarter = e / 32 % 4;
  const int low = b.ql[e / 128 * 64 + quarter % 2 * 32 + e % 32] >> (quarter / 2 * 4) & 15;
  const int top = b.qh[e / 128 * 32 + e % 32] >> (quarter * 2) & 3;
  return low | top << 4;
}

// One unit's source: rows that are missing and columns past the end read as
// zeros.
template <DType kType>
struct Source {
  using Block = typename RawBlock<kType>::Type;

  const Block* blocks;  // of the unit's first row and column
  int64_t row_blocks;
  int rows;
  int blocks_left;  // from the unit's first column on

  __device__ const Block* Find(int row, int block) const {
    return row < rows && block < blocks_left ? &blocks[row * row_blocks + block] : nullptr;
  }
  __device__ uint32_t CodeOf(int row, int col) const {
    const Block* block = Find(row, col / kBlockCols<kType>);
    return block == nullptr ? 0 : Code(*block, col % kBlockCols<kType>);
  }
};

// The inverse of PlaceOf.
__device__ int RowOf(int lane, int low_row) { return lane / 4 + 8 * low_row; }
__device__ int ColOf(int lane, int step, int high, int odd) {
  return 16 * step + 8 * high + lane % 4 * 2 + odd;
}

template <DType kType>
__device__ void PackCodes(const Source<kType>& source, uint8_t* unit, int lane) {
  constexpr int kWords = UnitParts<kType>::kCodeBytes / 128;
  for (int i = 0; i < kWords; ++i) {
    uint32_t word = 0;
    for (int low_row = 0; low_row < 2; ++low_row) {
      for (int odd = 0; odd < 2; ++odd) {
        const int bit = 16 * odd + 8 * low_row;
        if constexpr (kType == DType::kQ8_0) {
          const int col = ColOf(lane, i / 2, i % 2, odd);
          word |= source.CodeOf(RowOf(lane, low_row), col) << bit;
        } else {
          for (int high = 0; high < 2; ++high) {
            const int col = ColOf(lane, i, high, odd);
            word |= (source.CodeOf(RowOf(lane, low_row), col) & 15) << (bit + 4 * high);
          }
        }
      }
    }
    reinterpret_cast<uint32_t*>(unit)[i / 4 * 128 + lane * 4 + i % 4] = word;
  }
}

// kBits of each code above the low four; kSteps steps of 16 columns share a
// word.
template <DType kType, int kBits, int kSteps>
__device__ void PackHigh(const Source<kType>& source, uint8_t* unit, int lane) {
  using Parts = UnitParts<kType>;
  auto* words = reinterpret_cast<uint32_t*>(unit + Parts::kHighOffset);
  constexpr int kChunkWords = 4 / kSteps;
  for (int i = 0; i < Parts::kChunks * kChunkWords; ++i) {
    uint32_t word = 0;
    for (int code = 0; code < kSteps * 8; ++code) {
      const int step = code / 8;
      const int high = code / 4 % 2;
      const int low_row = code / 2 % 2;
      const int odd = code % 2;
      const int col = ColOf(lane, i * kSteps + step, high, odd);
      const uint32_t top = source.CodeOf(RowOf(lane, low_row), col) >> 4;
      word |= top << (16 * odd + kBits * (4 * step + 2 * high + low_row));
    }
    words[i / kChunkWords * kChunkWords * 32 + lane * kChunkWords + i % kChunkWords] = word;
  }
}

// Six-bit codes of a pair of groups, as KPair has them.
template <typename Block>
__device__ uint32_t PairOf(const Block& block, int pair) {
  const uint8_t* b = block.scales;
  uint32_t word = 0;
  for (int i = 0; i < 2; ++i) {
    const int group = 2 * pair + i;
    const uint32_t scale = group < 4 ? b[group] & 63 : (b[group + 4] & 15) | b[group - 4] >> 6 << 4;
    const uint32_t min = group < 4 ? b[group + 4] & 63 : b[group + 4] >> 4 | b[group] >> 6 << 4;
    word |= (min | scale << 6) << (16 * i);
  }
  return word;
}

// Lane l packs rows l / 4 and l / 4 + 8 of the pair of groups l % 4.
template <DType kType>
__device__ void PackKScales(const Source<kType>& source, uint8_t* unit, int lane) {
  uint8_t* scales = unit + UnitParts<kType>::kScaleOffset;
  uint32_t pairs[2] = {};
  for (int low_row = 0; low_row < 2; ++low_row) {
    const auto* block = source.Find(RowOf(lane, low_row), 0);
    if (block != nullptr) pairs[low_row] = PairOf(*block, lane % 4);
    if (lane % 4 != 0) continue;
    reinterpret_cast<uint32_t*>(scales)[lane / 4 * 2 + low_row] =
        block == nullptr ? 0 : block->d | static_cast<uint32_t>(block->dmin) << 16;
  }
  reinterpret_cast<uint32_t*>(scales + kKWordsOffset)[lane] = pairs[0] | (pairs[1] & 0x0f000f00u)
                                                                             << 4;
  reinterpret_cast<uint16_t*>(scales + kKHalvesOffset)[lane] =
      static_cast<uint16_t>((pairs[1] & 0xff) | (pairs[1] >> 8 & 0xff00));
}

template <DType kType>
__device__ void PackScales(const Source<kType>& source, uint8_t* unit, int lane) {
  using Parts = UnitParts<kType>;
  if constexpr (kType == DType::kQ6_K) {
    for (int i = lane; i < kTileRows * 16; i += 32) {
      const auto* block = source.Find(i / 16, 0);
      unit[Parts::kScaleOffset + i] =
          block == nullptr ? 0 : static_cast<uint8_t>(block->scales[i % 16]);
    }
    if (lane < kTileRows) {
      const auto* block = source.Find(lane, 0);
      reinterpret_cast<uint16_t*>(unit + Parts::kSecondScaleOffset)[lane] =
          block == nullptr ? 0 : block->d;
    }
  } else {  // 16 rows, 2 groups: one for each lane
    const auto* block = source.Find(lane / 2, lane % 2);
    reinterpret_cast<uint16_t*>(unit + Parts::kScaleOffset)[lane] = block == nullptr ? 0 : block->d;
    if constexpr (UnitParts<kType>::kHasMin) {
      reinterpret_cast<uint16_t*>(unit + Parts::kSecondScaleOffset)[lane] =
          block == nullptr ? 0 : block->m;
    }
  }
}

template <DType kType>
__global__ void PackKernel(const uint8_t* raw, int64_t rows, int64_t cols, uint8_t* tiles,
                           int64_t num_units) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= num_units) return;
  const int lane = threadIdx.x % 32;
  const int64_t tile_units = UnitsPerTile(kType, cols);
  const int64_t tile = index / tile_units;
  const int64_t unit_blocks = UnitCols(kType) / kBlockCols<kType>;
  const int64_t first_block = index % tile_units * unit_blocks;
  const int64_t row_blocks = cols / kBlockCols<kType>;
  using Block = typename RawBlock<kType>::Type;
  const Source<kType> source = {
      .blocks = reinterpret_cast<const Block*>(raw) + tile * kTileRows * row_blocks + first_block,
      .row_blocks = row_blocks,
      .rows = static_cast<int>(min(rows - tile * kTileRows, static_cast<int64_t>(kTileRows))),
      .blocks_left = static_cast<int>(min(row_blocks - first_block, unit_blocks))};
  uint8_t* unit = tiles + index * UnitBytes(kType);
  PackCodes(source, unit, lane);
  if constexpr (UnitParts<kType>::kHasFifthBit) PackHigh<kType, 1, 4>(source, unit, lane);
  if constexpr (kType == DType::kQ6_K) PackHigh<kType, 2, 2>(source, unit, lane);
  if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
    PackKScales(source, unit, lane);
  } else {
    PackScales(source, unit, lane);
  }
}

template <DType kType>
cudaError_t LaunchPack(const uint8_t* raw, int64_t rows, int64_t cols, uint8_t* tiles,
                       cudaStream_t stream) {
  const int64_t num_units = (rows + kTileRows - 1) / kTileRows * UnitsPerTile(kType, cols);
  if (num_units == 0) return cudaSuccess;
  const auto grid = static_cast<unsigned>((num_units + kWarps - 1) / kWarps);
  PackKernel<kType><<<grid, kWarps * 32, 0, stream>>>(raw, rows, cols, tiles, num_units);
  return cudaGetLastError();
}

}  // namespace

cudaError_t PackTiles(DType type, const uint8_t* raw, int64_t rows, int64_t cols, uint8_t* tiles,
                      cudaStream_t stream) {
  switch (type) {
    case DType::kQ4_0:
      return LaunchPack<DType::kQ4_0>(raw, rows, cols, tiles, stream);
    case DType::kQ4_1:
      return LaunchPack<DType::kQ4_1>(raw, rows, cols, tiles, stream);
    case DType::kQ5_0:
      return LaunchPack<DType::kQ5_0>(raw, rows, cols, tiles, stream);
    case DType::kQ5_1:
      return LaunchPack<DType::kQ5_1>(raw, rows, cols, tiles, stream);
    case DType::kQ8_0:
      return LaunchPack<DType::kQ8_0>(raw, rows, cols, tiles, stream);
    case DType::kQ4_K:
      return LaunchPack<DType::kQ4_K>(raw, rows, cols, tiles, stream);
    case DType::kQ5_K:
      return LaunchPack<DType::kQ5_K>(raw, rows, cols, tiles, stream);
    case DType::kQ6_K:
      return LaunchPack<DType::kQ6_K>(raw, rows, cols, tiles, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tidal
