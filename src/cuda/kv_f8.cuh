// Rows of an f8e4m3 cache: floats of 8 bits, 3 of them mantissa, and a scale for each row.
//
// Scale     e4m3 reaches from 2^-9 to 448. One scale for a layer or a head, chosen without
//           calibration data, would cut off outliers or lose small rows; a row's own needs none. It
//           is the smallest power of two that brings the row's largest element to 448 or below:
//           floats keep their relative precision under any scale, and by a power of two rows are
//           scaled exactly, there and back.
// Bytes     head_dim + 2 a row: bf16 scales, K's and V's of a token in one word, so that a token
//           read alone touches one more sector of 32 bytes.
// Numerics  to nearest, ties to even: within 2^-4 of an element, or 2^-17 of the row's largest. A
//           row with a NaN or an infinity is NaN throughout.
// Oracle    kv_f8_test.cc, from the format's definition.
#ifndef TIDAL_CUDA_KV_F8_CUH_
#define TIDAL_CUDA_KV_F8_CUH_

#include <cstdint>
#include <cstring>
#include <cuda_fp16.h>

#include "cuda/device_types.h"

namespace tidal {

struct E4m3 {
  uint8_t bits;
};

// --- One number, by its bits: what devices before sm_89 convert by.

__host__ __device__ inline float FloatOfBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
__host__ __device__ inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

__host__ __device__ inline float E4m3ToFloat(uint32_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const uint32_t sign = (code & 0x80u) << 24;
  if (magnitude == 0x7f) return FloatOfBits(sign | 0x7fc00000u);
  if (magnitude < 8)  // subnormal
    return FloatOfBits(sign | BitsOfFloat(static_cast<float>(magnitude) * 0x1p-9f));
  return FloatOfBits(sign | ((magnitude << 20) + (120u << 23)));
}

// Saturates at 448.
__host__ __device__ inline uint32_t FloatToE4m3(float x) {
  const uint32_t bits = BitsOfFloat(x);
  const uint32_t sign = bits >> 24 & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7fu;
  if (magnitude >= 0x43e00000u) return sign | 0x7eu;
  if (magnitude < 0x3c800000u) {  // below 2^-6: adding 2^14 rounds at 2^-9
    const float rounded = FloatOfBits(magnitude) + 0x1p14f;
    return sign | (BitsOfFloat(rounded) - BitsOfFloat(0x1p14f));
  }
  const uint32_t odd = magnitude >> 20 & 1u;
  return sign | ((magnitude - (120u << 23) + 0x7ffffu + odd) >> 20);
}

// --- Scales

// Of a row whose largest magnitude has these bits. Held within 2^-40 and 2^40, so that what is
// divided by one stays finite.
__host__ __device__ inline uint16_t RowScale(uint32_t most) {
  // The exponent field of the least power of two from which on most / 1.75 * 2^-8 is at most 1.
  const auto field = static_cast<int32_t>((most + 0x1fffffu) >> 23) - 8;
  const int32_t held = field < 127 - 40 ? 127 - 40 : field > 127 + 40 ? 127 + 40 : field;
  return static_cast<uint16_t>(held << 7);
}
// 1 / scale, by the bits of a float that is a power of two.
__host__ __device__ inline float InverseOfPower(uint32_t bits) {
  return FloatOfBits((254u << 23) - bits);
}

// A token's scales.
__host__ __device__ inline float KeyScale(uint32_t scales) { return FloatOfBits(scales << 16); }
__host__ __device__ inline uint32_t ValueScaleBits(uint32_t scales) { return scales & 0xffff0000u; }
__host__ __device__ inline float ValueScale(uint32_t scales) {
  return FloatOfBits(ValueScaleBits(scales));
}

#ifdef __CUDACC__

// --- Pairs, as the device converts them

// The two e4m3 of the low 16 bits as halves, exactly; the low one first.
__device__ __forceinline__ uint32_t HalvesOfPair(uint32_t pair) {
  uint32_t halves;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(pair)));
#else
  const __half2 both = __floats2half2_rn(E4m3ToFloat(pair & 0xffu), E4m3ToFloat(pair >> 8 & 0xffu));
  memcpy(&halves, &both, sizeof(halves));
#endif
  return halves;
}

// Four e4m3 as two pairs of halves. In one piece, so that no shift brings the upper pair down.
__device__ __forceinline__ uint2 HalvesOfFour(uint32_t four) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint2 halves;
  asm("{\n"
      ".reg .b16 low, high;\n"
      "mov.b32 {low, high}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, low;\n"
      "cvt.rn.f16x2.e4m3x2 %1, high;\n"
      "}"
      : "=r"(halves.x), "=r"(halves.y)
      : "r"(four));
  return halves;
#else
  return {HalvesOfPair(four & 0xffffu), HalvesOfPair(four >> 16)};
#endif
}

__device__ __forceinline__ uint32_t PairOfFloats(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return FloatToE4m3(low) | FloatToE4m3(high) << 8;
#endif
}

__device__ __forceinline__ float ToFloat(E4m3 x) {
  return __half2float(__ushort_as_half(static_cast<uint16_t>(HalvesOfPair(x.bits))));
}

// --- Rows

// Where the scales of a token are; `part` is a KV head's part of a page, which begins with its K
// rows.
__device__ __forceinline__ const uint32_t* ScalesAt(const DeviceKv& kv, const uint8_t* part,
                                                    int32_t token) {
  return reinterpret_cast<const uint32_t*>(part + kv.scales_offset) + token;
}

// Stores a row and its scale; by all lanes of a warp. REQUIRES: head_dim a multiple of 4.
__device__ inline void StoreF8Row(const float* from, int32_t head_dim, uint8_t* row,
                                  uint16_t* scale) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  uint32_t most = 0;
  for (int32_t d = lane; d < head_dim; d += 32)
    most = max(most, __float_as_uint(from[d]) & 0x7fffffffu);
  most = __reduce_max_sync(0xffffffff, most);
  const bool is_finite = most < 0x7f800000u;
  const auto power = is_finite ? RowScale(most) : static_cast<uint16_t>(127 << 7);
  const float inverse = InverseOfPower(static_cast<uint32_t>(power) << 16);
  for (int32_t d = 4 * lane; d < head_dim; d += 128) {
    const uint32_t low = PairOfFloats(from[d] * inverse, from[d + 1] * inverse);
    const uint32_t high = PairOfFloats(from[d + 2] * inverse, from[d + 3] * inverse);
    *reinterpret_cast<uint32_t*>(row + d) = is_finite ? low | high << 16 : 0x7f7f7f7fu;
  }
  if (lane == 0) *scale = power;
}

#endif  // __CUDACC__

}  // namespace tidal

#endif  // TIDAL_CUDA_KV_F8_CUH_
