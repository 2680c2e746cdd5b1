// The units of weight_layout.h, element by element: what packs them and what
// widens them. The products read them by fragment (matvec_packed.cu).
#ifndef TIDAL_CUDA_PACKED_UNIT_CUH_
#define TIDAL_CUDA_PACKED_UNIT_CUH_

#include <cstdint>
#include <cuda_fp16.h>

#include "cuda/weight_layout.h"
#include "quant/quant_blocks.h"

namespace tidal {

// Where the code of (row, col) of a unit is.
struct CodePlace {
  int chunk;  // of 64 columns
  int lane;
  int step;     // of 16 columns within the chunk
  int high;     // upper half of the step's columns
  int low_row;  // rows 8 to 15
  int odd;
};
__device__ inline CodePlace PlaceOf(int row, int col) {
  return {.chunk = col / 64,
          .lane = row % 8 * 4 + col % 8 / 2,
          .step = col % 64 / 16,
          .high = col % 16 / 8,
          .low_row = row / 8,
          .odd = col % 2};
}

__device__ inline float HalfBits(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

__device__ inline uint32_t WordAt(const uint8_t* unit, int offset) {
  return *reinterpret_cast<const uint32_t*>(unit + offset);
}
__device__ inline float HalfAt(const uint8_t* unit, int offset) {
  return HalfBits(*reinterpret_cast<const uint16_t*>(unit + offset));
}

// Where Q4_K's and Q5_K's 6-bit codes are among their scales.
inline constexpr int kKWordsOffset = kTileRows * 4;
inline constexpr int kKHalvesOffset = kKWordsOffset + kTileRows / 2 * 4 * 4;

// The parts of a unit in bytes, shared by all that walk it.
template <DType kType>
struct UnitParts {
  static constexpr int kCols = UnitCols(kType);
  static constexpr int kChunks = kCols / 64;
  static constexpr bool kHasFifthBit =
      kType == DType::kQ5_0 || kType == DType::kQ5_1 || kType == DType::kQ5_K;
  static constexpr int kHighBytes =
      kHasFifthBit ? kChunks * 128 : (kType == DType::kQ6_K ? kChunks * 256 : 0);
  static constexpr int kCodeBytes = kChunks * (kType == DType::kQ8_0 ? 1024 : 512);
  static constexpr int kHighOffset = kCodeBytes;
  static constexpr int kScaleOffset = kCodeBytes + kHighBytes;
  static constexpr int kSecondScaleOffset =  // Q4_1's and Q5_1's minima, Q6_K's d
      kScaleOffset + (kType == DType::kQ6_K ? 256 : 64);
  static constexpr int kGroupCols = kType == DType::kQ6_K ? 16 : 32;
  static constexpr bool kHasMin = kType == DType::kQ4_1 || kType == DType::kQ5_1 ||
                                  kType == DType::kQ4_K || kType == DType::kQ5_K;
  // x = scale * (code - kOffset), or scale * code - min.
  static constexpr int kOffset = kType == DType::kQ4_0   ? 8
                                 : kType == DType::kQ5_0 ? 16
                                 : kType == DType::kQ8_0 ? 128
                                 : kType == DType::kQ6_K ? 32
                                                         : 0;
};

template <DType kType>
__device__ inline int CodeAt(const uint8_t* unit, int row, int col) {
  using Parts = UnitParts<kType>;
  const CodePlace at = PlaceOf(row, col);
  const int bit = 16 * at.odd + 8 * at.low_row;
  if constexpr (kType == DType::kQ8_0) {
    const int word = 2 * (at.step % 2) + at.high;
    return WordAt(unit, at.step / 2 * 512 + at.lane * 16 + word * 4) >> bit & 255;
  }
  const int low =
      WordAt(unit, at.chunk * 512 + at.lane * 16 + at.step * 4) >> (bit + 4 * at.high) & 15;
  if constexpr (Parts::kHasFifthBit) {
    const uint32_t word = WordAt(unit, Parts::kHighOffset + at.chunk * 128 + at.lane * 4);
    return low | (word >> (16 * at.odd + 4 * at.step + 2 * at.high + at.low_row) & 1) << 4;
  } else if constexpr (kType == DType::kQ6_K) {
    const uint32_t word =
        WordAt(unit, Parts::kHighOffset + at.chunk * 256 + at.lane * 8 + at.step / 2 * 4);
    const int top = 16 * at.odd + 2 * (4 * (at.step % 2) + 2 * at.high + at.low_row);
    return low | (word >> top & 3) << 4;
  }
  return low;
}

// The 6-bit codes of rows g and g + 8 of a Q4_K or Q5_K unit in one pair of
// groups: minima at bits 0 and 16, scales at bits 6 and 22.
struct KPair {
  uint32_t of_row[2];
};
__device__ __forceinline__ KPair KPairAt(const uint8_t* scales, int g, int pair) {
  const uint32_t first = WordAt(scales, kKWordsOffset + (g * 4 + pair) * 4);
  const uint32_t rest =
      *reinterpret_cast<const uint16_t*>(scales + kKHalvesOffset + (g * 4 + pair) * 2);
  return {{first, (first >> 4 & 0x0f000f00u) | (rest & 0xff) | (rest & 0xff00) << 8}};
}

struct ScaleAndMin {
  float scale;
  float min;  // subtracted
};

// In the order of operations of DequantizeRow, none fused, so that the results
// are its own.
template <DType kType>
__device__ inline ScaleAndMin ScaleAt(const uint8_t* unit, int row, int col) {
  using Parts = UnitParts<kType>;
  const int group = col / Parts::kGroupCols;
  if constexpr (kType == DType::kQ6_K) {
    const auto code = static_cast<int8_t>(unit[Parts::kScaleOffset + row * 16 + group]);
    return {__fmul_rn(HalfAt(unit, Parts::kSecondScaleOffset + row * 2), code), 0};
  } else if constexpr (IsKType(kType)) {
    const uint8_t* scales = unit + Parts::kScaleOffset;
    const uint32_t word = KPairAt(scales, row % 8, group / 2).of_row[row / 8];
    const uint32_t d_pair = WordAt(scales, (row % 8 * 2 + row / 8) * 4);
    const int bit = 16 * (group % 2);
    return {__fmul_rn(HalfBits(d_pair & 0xffff), static_cast<float>(word >> (bit + 6) & 63)),
            __fmul_rn(HalfBits(d_pair >> 16), static_cast<float>(word >> bit & 63))};
  } else {
    const int offset = row * 4 + group * 2;
    const float min = Parts::kHasMin ? -HalfAt(unit, Parts::kSecondScaleOffset + offset) : 0;
    return {HalfAt(unit, Parts::kScaleOffset + offset), min};
  }
}

// The weight as DequantizeRow gives it, to the bit.
template <DType kType>
__device__ inline float WeightAt(const uint8_t* unit, int row, int col) {
  using Parts = UnitParts<kType>;
  const ScaleAndMin s = ScaleAt<kType>(unit, row, col);
  const auto code = static_cast<float>(CodeAt<kType>(unit, row, col) - Parts::kOffset);
  const float product = __fmul_rn(code, s.scale);
  return Parts::kHasMin ? __fsub_rn(product, s.min) : product;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_PACKED_UNIT_CUH_
