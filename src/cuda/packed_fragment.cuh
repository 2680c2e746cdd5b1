// Units of weight_layout.h as operands of 16x8x16 tensor core products, for a
// whole warp.
//
// A code q goes to the tensor cores as the f16 whose bits are q: the number q *
// 2^-24, exact for q up to 1023, so that widening costs a mask for two weights.
// Where two codes share a byte, those of the upper half of a step's columns
// stay where they are, four bits up: 16 times as large, while their x is staged
// as a sixteenth. Scales, minima and offsets are applied to the float32 sums of
// each group.
#ifndef TIDAL_CUDA_PACKED_FRAGMENT_CUH_
#define TIDAL_CUDA_PACKED_FRAGMENT_CUH_

#include <cstdint>
#include <cuda_fp16.h>

#include "cuda/packed_unit.cuh"

namespace tidal {

inline constexpr int kChunkCols = 64;
// What the codes of the upper columns of a step count for.
template <DType kType>
inline constexpr float kUpperTimes = kType == DType::kQ8_0 ? 1.0f : 16.0f;
// What all codes are multiplied by on their way through the tensor cores, and
// those of 6-bit scales and minima on their way to float32.
inline constexpr float kCodeUnit = 0x1p-24f;

// word << by, or >> -by.
template <int kBy>
__device__ __forceinline__ uint32_t Shift(uint32_t word) {
  if constexpr (kBy >= 0) {
    return word << kBy;
  } else {
    return word >> -kBy;
  }
}

// The lane's codes of 64 columns.
template <DType kType>
class CodeFragments {
 public:
  using Parts = UnitParts<kType>;

  __device__ __forceinline__ CodeFragments(const uint8_t* unit, int chunk, int lane) {
    if constexpr (kType == DType::kQ8_0) {
      Load(unit + lane * 16, 0);
      Load(unit + 512 + lane * 16, 4);
    } else {
      Load(unit + chunk * 512 + lane * 16, 0);
    }
    const uint8_t* high = unit + Parts::kHighOffset;
    if constexpr (Parts::kHasFifthBit) high_[0] = WordAt(high, chunk * 128 + lane * 4);
    if constexpr (kType == DType::kQ6_K) {
      const auto words = *reinterpret_cast<const uint2*>(high + chunk * 256 + lane * 8);
      high_[0] = words.x;
      high_[1] = words.y;
    }
  }

  // The operand of 16 columns: register r has rows + 8 * (r % 2), columns + 8 *
  // (r / 2); these kUpperTimes as large.
  template <int kStep>
  __device__ __forceinline__ void Get(uint32_t (&a)[4]) const {
    if constexpr (kType == DType::kQ8_0) {
      a[0] = codes_[2 * kStep] & 0x00ff00ffu;
      a[1] = codes_[2 * kStep] >> 8 & 0x00ff00ffu;
      a[2] = codes_[2 * kStep + 1] & 0x00ff00ffu;
      a[3] = codes_[2 * kStep + 1] >> 8 & 0x00ff00ffu;
    } else {
      const uint32_t low_rows = codes_[kStep] >> 8;
      a[0] = codes_[kStep] & 0x000f000fu;
      a[1] = low_rows & 0x000f000fu;
      a[2] = codes_[kStep] & 0x00f000f0u;
      a[3] = low_rows & 0x00f000f0u;
      AddHigh<kStep, 0>(a);
      AddHigh<kStep, 1>(a);
      AddHigh<kStep, 2>(a);
      AddHigh<kStep, 3>(a);
    }
  }

 private:
  __device__ __forceinline__ void Load(const uint8_t* at, int word) {
    const auto v = *reinterpret_cast<const uint4*>(at);
    codes_[word] = v.x;
    codes_[word + 1] = v.y;
    codes_[word + 2] = v.z;
    codes_[word + 3] = v.w;
  }
  template <int kStep, int kRegister>
  __device__ __forceinline__ void AddHigh(uint32_t (&a)[4]) const {
    constexpr int kPlace = kRegister < 2 ? 4 : 8;
    if constexpr (Parts::kHasFifthBit) {
      a[kRegister] |= Shift<kPlace - (4 * kStep + kRegister)>(high_[0]) & (0x00010001u << kPlace);
    } else if constexpr (kType == DType::kQ6_K) {
      constexpr int kBit = 2 * (4 * (kStep % 2) + kRegister);
      a[kRegister] |= Shift<kPlace - kBit>(high_[kStep / 2]) & (0x00030003u << kPlace);
    }
  }

  uint32_t codes_[kType == DType::kQ8_0 ? 8 : 4];
  uint32_t high_[2] = {};
};

__device__ __forceinline__ float2 HalfPairAt(const uint8_t* at) {
  return __half22float2(*reinterpret_cast<const __half2*>(at));
}
__device__ __forceinline__ float2 SmallCodes(uint32_t pair) {  // times kCodeUnit
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

// What scales make of the sums of codes of a chunk's groups, in rows g and g +
// 8 (g = lane / 4).
//
// Value(row, sums, x_sums): sums[i] are codes times x of group i, x_sums[i] its
// x; both, and the result, times kCodeUnit.
template <DType kType>
class ChunkScales {
 public:
  using Parts = UnitParts<kType>;
  static constexpr int kGroups = 2;
  static constexpr float kUnit = kCodeUnit;  // of Value

  __device__ __forceinline__ ChunkScales(const uint8_t* unit, int, int g) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      scales_[row] = HalfPairAt(unit + Parts::kScaleOffset + (g + 8 * row) * 4);
      if constexpr (Parts::kHasMin)
        mins_[row] = HalfPairAt(unit + Parts::kSecondScaleOffset + (g + 8 * row) * 4);
    }
  }
  __device__ __forceinline__ float Value(int row, const float (&sums)[2],
                                         const float (&x_sums)[2]) const {
    const float2 scale = scales_[row];
    if constexpr (Parts::kHasMin) {
      const float mins = fmaf(mins_[row].x, x_sums[0], mins_[row].y * x_sums[1]);
      return fmaf(scale.x, sums[0], fmaf(scale.y, sums[1], mins));
    }
    constexpr float kOffset = Parts::kOffset;
    const float first = fmaf(-kOffset, x_sums[0], sums[0]);
    const float second = fmaf(-kOffset, x_sums[1], sums[1]);
    return fmaf(scale.x, first, scale.y * second);
  }

 private:
  float2 scales_[2];
  float2 mins_[2];
};

// Q4_K and Q5_K: 6-bit codes of scales and minima, times one f16 each of the
// row.
template <DType kType>
class KChunkScales {
 public:
  static constexpr int kGroups = 2;
  static constexpr float kUnit = kCodeUnit * kCodeUnit;

  __device__ __forceinline__ KChunkScales(const uint8_t* unit, int chunk, int g) {
    const uint8_t* at = unit + UnitParts<kType>::kScaleOffset;
    const KPair pair = KPairAt(at, g, chunk);
    const auto d_pairs = *reinterpret_cast<const uint2*>(at + g * 8);
    d_[0] = SmallCodes(d_pairs.x);  // any f16
    d_[1] = SmallCodes(d_pairs.y);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      scales_[row] = SmallCodes(pair.of_row[row] >> 6 & 0x003f003fu);
      mins_[row] = SmallCodes(pair.of_row[row] & 0x003f003fu);
    }
  }
  __device__ __forceinline__ float Value(int row, const float (&sums)[2],
                                         const float (&x_sums)[2]) const {
    const float scaled = fmaf(scales_[row].x, sums[0], scales_[row].y * sums[1]);
    const float mins = fmaf(mins_[row].x, x_sums[0], mins_[row].y * x_sums[1]);
    return fmaf(d_[row].x, scaled, -d_[row].y * mins);
  }

 private:
  float2 d_[2];  // d, dmin
  float2 scales_[2];
  float2 mins_[2];
};
template <>
class ChunkScales<DType::kQ4_K> : public KChunkScales<DType::kQ4_K> {
  using KChunkScales::KChunkScales;
};
template <>
class ChunkScales<DType::kQ5_K> : public KChunkScales<DType::kQ5_K> {
  using KChunkScales::KChunkScales;
};

template <>
class ChunkScales<DType::kQ6_K> {
 public:
  using Parts = UnitParts<DType::kQ6_K>;
  static constexpr int kGroups = 4;
  static constexpr float kUnit = kCodeUnit;

  __device__ __forceinline__ ChunkScales(const uint8_t* unit, int chunk, int g) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      codes_[row] = WordAt(unit + Parts::kScaleOffset, (g + 8 * row) * 16 + chunk * 4);
      d_[row] = HalfAt(unit, Parts::kSecondScaleOffset + (g + 8 * row) * 2);
    }
  }
  __device__ __forceinline__ float Value(int row, const float (&sums)[4],
                                         const float (&x_sums)[4]) const {
    constexpr float kOffset = Parts::kOffset;
    float value = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto scale = static_cast<float>(static_cast<int8_t>(codes_[row] >> (8 * i)));
      value = fmaf(scale, fmaf(-kOffset, x_sums[i], sums[i]), value);
    }
    return d_[row] * value;
  }

 private:
  uint32_t codes_[2];
  float d_[2];
};

}  // namespace tidal

#endif  // TIDAL_CUDA_PACKED_FRAGMENT_CUH_
