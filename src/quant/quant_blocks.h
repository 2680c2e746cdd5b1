// The bytes of a quantised block of each type, as GGUF files hold them: the scalar code, the packed
// kernels and the file writers all read this one description. Integers and f16 are little-endian,
// and so must the machine be.
//
// Every struct is a plain image of the file: no padding (asserted below), alignment at most 2.
// Scales named `d` and minima named `m` or `dmin` are f16 bits (base/float16.h). "q" is an unsigned
// code as stored, "x" the value it stands for.
#ifndef TIDAL_QUANT_QUANT_BLOCKS_H_
#define TIDAL_QUANT_QUANT_BLOCKS_H_

#include <bit>
#include <cstdint>

namespace tidal {

static_assert(std::endian::native == std::endian::little,
              "blocks are used as the file stores them");

inline constexpr int kQuantBlockSize = 32;   // elements of a block of the types with one scale
inline constexpr int kSuperBlockSize = 256;  // elements of a K-quant block
inline constexpr int kKScaleBytes = 12;      // 8 scales and 8 minima of 6 bits: see UnpackKScales

// 32 elements, 4.5 bits each: x = d * (q - 8), 0 <= q <= 15.
//   byte  0..1   d
//   byte  2..17  byte 2+i: low nibble q[i], high nibble q[i+16]
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[kQuantBlockSize / 2];
};
static_assert(sizeof(BlockQ4_0) == 18 && alignof(BlockQ4_0) == 2);

// 32 elements, 5 bits each: x = d * q + m, 0 <= q <= 15.
//   byte  0..1   d
//   byte  2..3   m
//   byte  4..19  byte 4+i: low nibble q[i], high nibble q[i+16]
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[kQuantBlockSize / 2];
};
static_assert(sizeof(BlockQ4_1) == 20 && alignof(BlockQ4_1) == 2);

// 32 elements, 5.5 bits each: x = d * (q - 16), 0 <= q <= 31.
//   byte  0..1   d
//   byte  2..5   the fifth bits: bit i of this little-endian 32-bit number is bit 4 of q[i]
//   byte  6..21  byte 6+i: low nibble the low bits of q[i], high nibble those of q[i+16]
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[kQuantBlockSize / 2];
};
static_assert(sizeof(BlockQ5_0) == 22 && alignof(BlockQ5_0) == 2);

// 32 elements, 6 bits each: x = d * q + m, 0 <= q <= 31.
//   byte  0..1   d
//   byte  2..3   m
//   byte  4..7   the fifth bits, as in Q5_0
//   byte  8..23  byte 8+i: low nibble the low bits of q[i], high nibble those of q[i+16]
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qh[4];
  uint8_t qs[kQuantBlockSize / 2];
};
static_assert(sizeof(BlockQ5_1) == 24 && alignof(BlockQ5_1) == 2);

// 32 elements, 8.5 bits each: x = d * q, -128 <= q <= 127.
//   byte  0..1   d
//   byte  2..33  q[0] .. q[31]
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[kQuantBlockSize];
};
static_assert(sizeof(BlockQ8_0) == 34 && alignof(BlockQ8_0) == 2);

// The values that the codes of IQ4_NL and IQ4_XS stand for.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// 32 elements, 4.5 bits each: x = d * kIq4Values[q].
//   byte  0..1   d
//   byte  2..17  byte 2+i: low nibble q[i], high nibble q[i+16]
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[kQuantBlockSize / 2];
};
static_assert(sizeof(BlockIQ4_NL) == 18 && alignof(BlockIQ4_NL) == 2);

// 256 elements in 8 groups of 32, 4.25 bits each: x = d * (scale[g] - 32) * kIq4Values[q], with
// 0 <= scale[g] <= 63 and g = i / 32.
//   byte   0..1    d
//   byte   2..3    bits 2g..2g+1 of this little-endian 16-bit number are bits 4..5 of scale[g]
//   byte   4..7    byte 4+j: low nibble the low bits of scale[2j], high nibble those of scale[2j+1]
//   byte   8..135  byte 8+16g+i: low nibble q of element 32g+i, high nibble q of element 32g+16+i
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[kSuperBlockSize / 64];
  uint8_t qs[kSuperBlockSize / 2];
};
static_assert(sizeof(BlockIQ4_XS) == 136 && alignof(BlockIQ4_XS) == 2);

// 256 elements in 16 groups of 16, 2.625 bits each: x = d * scale[g] * q - dmin * min[g], with
// 0 <= q <= 3, 0 <= scale[g], min[g] <= 15 and g = i / 16.
//   byte   0..15  byte g: low nibble scale[g], high nibble min[g]
//   byte  16..79  two runs of 32 bytes, run h for elements 128h to 128h+127. For 0 <= i < 32, byte
//                 16+32h+i: bits 0-1 q of element 128h+i,    bits 2-3 of element 128h+32+i,
//                           bits 4-5 of element 128h+64+i,   bits 6-7 of element 128h+96+i
//   byte  80..81  d
//   byte  82..83  dmin
struct BlockQ2_K {
  uint8_t scales[kSuperBlockSize / 16];
  uint8_t qs[kSuperBlockSize / 4];
  uint16_t d;
  uint16_t dmin;
};
static_assert(sizeof(BlockQ2_K) == 84 && alignof(BlockQ2_K) == 2);

// 256 elements in 16 groups of 16, 3.4375 bits each: x = d * (scale[g] - 32) * (q - 4), with
// 0 <= q <= 7, 0 <= scale[g] <= 63 and g = i / 16.
//   byte    0..31   the third bits: bit k of byte i is bit 2 of q of element 32k+i
//   byte   32..95   the low two bits, as in Q2_K
//   byte   96..107  scale[16], 6 bits each, from these 12 bytes b: bits 0..3 are the low nibble of
//                   b[g] for g < 8, else the high nibble of b[g-8]; bits 4..5 are bits
//                   2*(g/4) .. 2*(g/4)+1 of b[8+g%4]
//   byte  108..109  d
struct BlockQ3_K {
  uint8_t hmask[kSuperBlockSize / 8];
  uint8_t qs[kSuperBlockSize / 4];
  uint8_t scales[kKScaleBytes];
  uint16_t d;
};
static_assert(sizeof(BlockQ3_K) == 110 && alignof(BlockQ3_K) == 2);

// 256 elements in 8 groups of 32, 4.5 bits each: x = d * scale[g] * q - dmin * min[g], with
// 0 <= q <= 15 and g = i / 32.
//   byte   0..1    d
//   byte   2..3    dmin
//   byte   4..15   scale[8] and min[8], 6 bits each (UnpackKScales)
//   byte  16..143  four runs of 32 bytes, run r for groups 2r and 2r+1:
//                  byte 16+32r+i: low nibble q of element 64r+i, high nibble q of element 64r+32+i
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[kKScaleBytes];
  uint8_t qs[kSuperBlockSize / 2];
};
static_assert(sizeof(BlockQ4_K) == 144 && alignof(BlockQ4_K) == 2);

// 256 elements in 8 groups of 32, 5.5 bits each: x = d * scale[g] * q - dmin * min[g], with
// 0 <= q <= 31 and g = i / 32.
//   byte   0..1    d
//   byte   2..3    dmin
//   byte   4..15   scale[8] and min[8], 6 bits each (UnpackKScales)
//   byte  16..47   the fifth bits: bit g of byte 16+i is bit 4 of q of element 32g+i
//   byte  48..175  four runs of 32 bytes, run r for groups 2r and 2r+1:
//                  byte 48+32r+i: low nibble the low bits of element 64r+i,
//                                 high nibble the low bits of element 64r+32+i
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[kKScaleBytes];
  uint8_t qh[kSuperBlockSize / 8];
  uint8_t qs[kSuperBlockSize / 2];
};
static_assert(sizeof(BlockQ5_K) == 176 && alignof(BlockQ5_K) == 2);

// 256 elements in 16 groups of 16, 6.5625 bits each: x = d * scale[g] * (q - 32), with
// 0 <= q <= 63 and g = i / 16.
//   byte    0..127  low four bits; two runs of 64 bytes, run h for elements 128h to 128h+127.
//                   For 0 <= i < 32:
//                   byte 64h+i:    low nibble of element 128h+i,    high nibble: element 128h+64+i
//                   byte 64h+32+i: low nibble of element 128h+32+i, high nibble: element 128h+96+i
//   byte  128..191  high two bits. For 0 <= i < 32, byte 128+32h+i:
//                   bits 0-1 of element 128h+i,    bits 2-3 of element 128h+32+i,
//                   bits 4-5 of element 128h+64+i, bits 6-7 of element 128h+96+i
//   byte  192..207  scale[16], signed
//   byte  208..209  d
struct BlockQ6_K {
  uint8_t ql[kSuperBlockSize / 2];
  uint8_t qh[kSuperBlockSize / 4];
  int8_t scales[kSuperBlockSize / 16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210 && alignof(BlockQ6_K) == 2);

// The 6-bit scales and minima of a Q4_K or Q5_K block, from their 12 bytes b:
//   group g < 4:   scale = low six bits of b[g], min = low six bits of b[g+4]
//   group g >= 4:  scale = low nibble of b[g+4] + 16 * (top two bits of b[g-4])
//                  min = high nibble of b[g+4] + 16 * (top two bits of b[g])
inline void UnpackKScales(const uint8_t packed[kKScaleBytes], uint8_t scales[8], uint8_t mins[8]) {
  for (int g = 0; g < 4; ++g) {
    scales[g] = packed[g] & 63;
    mins[g] = packed[g + 4] & 63;
    scales[g + 4] = static_cast<uint8_t>((packed[g + 8] & 15) | ((packed[g] >> 6) << 4));
    mins[g + 4] = static_cast<uint8_t>((packed[g + 8] >> 4) | ((packed[g + 4] >> 6) << 4));
  }
}

// The two low bits of element e of a Q2_K or Q3_K block.
inline int LowTwoBits(const uint8_t qs[kSuperBlockSize / 4], int e) {
  return (qs[32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4))) & 3;
}

// 0 to 7: the code of element e.
inline int CodeOf(const BlockQ3_K& block, int e) {
  return LowTwoBits(block.qs, e) | (((block.hmask[e % 32] >> (e / 32)) & 1) << 2);
}

// -32 to 31: the scale of group g, less 32.
inline int ScaleOf(const BlockQ3_K& block, int g) {
  const int low = g < 8 ? block.scales[g] & 15 : block.scales[g - 8] >> 4;
  return (low | (((block.scales[8 + g % 4] >> (2 * (g / 4))) & 3) << 4)) - 32;
}
inline int ScaleOf(const BlockIQ4_XS& block, int g) {
  const int low = (block.scales_l[g / 2] >> (4 * (g % 2))) & 15;
  return (low | (((block.scales_h >> (2 * g)) & 3) << 4)) - 32;
}

}  // namespace tidal

#endif  // TIDAL_QUANT_QUANT_BLOCKS_H_
