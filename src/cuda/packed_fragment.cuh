// Units of weight_layout.h as operands of 16x8x16 tensor core products, for a whole warp.
//
// A code q goes to the tensor cores as the f16 whose bits are q: the number q * 2^-24, exact for q
// up to 1023, so that widening costs a shift and a mask for two weights. Scales, minima and offsets
// are applied to the float32 sums of each group.
#ifndef TIDAL_CUDA_PACKED_FRAGMENT_CUH_
#define TIDAL_CUDA_PACKED_FRAGMENT_CUH_

#include <cstdint>
#include <cuda_fp16.h>

#include "cuda/packed_unit.cuh"

namespace tidal {

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

  // The operand of 16 columns: register r has rows + 8 * (r % 2), columns + 8 * (r / 2).
  template <int kStep>
  __device__ __forceinline__ void Get(uint32_t (&a)[4]) const {
    if constexpr (kType == DType::kQ8_0) {
      a[0] = codes_[2 * kStep] & 0x00ff00ffu;
      a[1] = codes_[2 * kStep] >> 8 & 0x00ff00ffu;
      a[2] = codes_[2 * kStep + 1] & 0x00ff00ffu;
      a[3] = codes_[2 * kStep + 1] >> 8 & 0x00ff00ffu;
    } else {
      a[0] = codes_[kStep] & 0x000f000fu;
      a[1] = codes_[kStep] >> 8 & 0x000f000fu;
      a[2] = codes_[kStep] >> 4 & 0x000f000fu;
      a[3] = codes_[kStep] >> 12 & 0x000f000fu;
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
    if constexpr (Parts::kHasFifthBit) {
      a[kRegister] |= Shift<4 - (4 * kStep + kRegister)>(high_[0]) & 0x00100010u;
    } else if constexpr (kType == DType::kQ6_K) {
      constexpr int kBit = 2 * (4 * (kStep % 2) + kRegister);
      a[kRegister] |= Shift<4 - kBit>(high_[kStep / 2]) & 0x00300030u;
    }
  }

  uint32_t codes_[kType == DType::kQ8_0 ? 8 : 4];
  uint32_t high_[2] = {};
};

// The scales and minima of rows g and g + 8 (g = lane / 4) of a unit, one group at a time.
template <DType kType>
class GroupScales {
 public:
  __device__ __forceinline__ GroupScales(const uint8_t* unit, int lane) {
    using Parts = UnitParts<kType>;
    const uint8_t* scales = unit + Parts::kScaleOffset + lane / 4 * 4;
    const uint8_t* mins = unit + Parts::kSecondScaleOffset + lane / 4 * 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      scales_[i] = Pair(WordAt(scales, i * 32));
      if constexpr (Parts::kHasMin) mins_[i] = Pair(WordAt(mins, i * 32));
    }
  }
  // Of row g + 8 * low_row. The minimum is to be subtracted.
  __device__ __forceinline__ float Scale(int low_row, int group) const {
    return group == 0 ? scales_[low_row].x : scales_[low_row].y;
  }
  __device__ __forceinline__ float Min(int low_row, int group) const {
    return group == 0 ? -mins_[low_row].x : -mins_[low_row].y;
  }

 private:
  static __device__ __forceinline__ float2 Pair(uint32_t bits) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  }
  float2 scales_[2];
  float2 mins_[2];
};

// Q4_K and Q5_K: each lane of the four that share rows decodes two of the eight groups, and asks
// the others for theirs.
template <DType kType>
class KGroupScales {
 public:
  __device__ __forceinline__ KGroupScales(const uint8_t* unit, int lane) : quad_(lane & ~3) {
    const uint8_t* at = unit + UnitParts<kType>::kScaleOffset + lane * 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = WordAt(at, i * 128);
      uint32_t d_pair = ((word >> 12 & 15) | (word >> 24 & 0xf0)) << (8 * (lane & 3));
      d_pair |= __shfl_xor_sync(~0u, d_pair, 1);
      d_pair |= __shfl_xor_sync(~0u, d_pair, 2);
      const float d = HalfBits(d_pair & 0xffff) * 0x1p24f;  // codes as f16 bits are times 2^-24
      const float dmin = HalfBits(d_pair >> 16) * 0x1p24f;
      const uint32_t scale_codes = word >> 6 & 0x003f003fu;
      const uint32_t min_codes = word & 0x003f003fu;
      const float2 scales = __half22float2(*reinterpret_cast<const __half2*>(&scale_codes));
      const float2 mins = __half22float2(*reinterpret_cast<const __half2*>(&min_codes));
      scales_[i] = {scales.x * d, scales.y * d};
      mins_[i] = {mins.x * dmin, mins.y * dmin};
    }
  }
  __device__ __forceinline__ float Scale(int low_row, int group) const {
    return Ask(scales_[low_row], group);
  }
  __device__ __forceinline__ float Min(int low_row, int group) const {
    return Ask(mins_[low_row], group);
  }

 private:
  __device__ __forceinline__ float Ask(float2 own, int group) const {
    return __shfl_sync(~0u, group % 2 == 0 ? own.x : own.y, quad_ + group / 2);
  }
  int quad_;
  float2 scales_[2];
  float2 mins_[2];
};
template <>
class GroupScales<DType::kQ4_K> : public KGroupScales<DType::kQ4_K> {
  using KGroupScales::KGroupScales;
};
template <>
class GroupScales<DType::kQ5_K> : public KGroupScales<DType::kQ5_K> {
  using KGroupScales::KGroupScales;
};

// Each lane of a quad decodes four of the sixteen groups.
template <>
class GroupScales<DType::kQ6_K> {
 public:
  __device__ __forceinline__ GroupScales(const uint8_t* unit, int lane) : quad_(lane & ~3) {
    using Parts = UnitParts<DType::kQ6_K>;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = WordAt(unit + Parts::kScaleOffset, lane * 4 + i * 128);
      const float d = HalfAt(unit, Parts::kSecondScaleOffset + lane / 4 * 2 + i * 16);
#pragma unroll
      for (int group = 0; group < 4; ++group) {
        scales_[i][group] = d * static_cast<float>(static_cast<int8_t>(word >> (8 * group)));
      }
    }
  }
  __device__ __forceinline__ float Scale(int low_row, int group) const {
    return __shfl_sync(~0u, scales_[low_row][group % 4], quad_ + group / 4);
  }
  __device__ __forceinline__ float Min(int, int) const { return 0; }

 private:
  int quad_;
  float scales_[2][4];
};

}  // namespace tidal

#endif  // TIDAL_CUDA_PACKED_FRAGMENT_CUH_
