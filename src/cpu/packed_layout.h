// The bytes of a packed weight matrix. The packer and the kernels of every ISA share this page.
//
// A matrix [rows, cols] is cut into tiles of kRowTile rows; the last tile is filled up with rows of
// zeros. Tiles follow each other, TileBytes apart. Inside a tile the rows are interleaved, so that
// the lanes of a vector are rows and a product needs no horizontal sum.
//
// Float types: element (row r, column k) of a tile is element k * kRowTile + r. Any cols.
//
// Quantised types: units one after the other, each the scales of its groups, then their codes, so
// that a product reads one stream from end to end. A unit is one group, for Q4_K, Q5_K and Q6_K
// eight. A group is kGroupCols columns; q[r][k] is the unsigned code of row r, column k of the
// group; step s of a group is its columns 4s .. 4s+3, so that 64 bytes hold one step of 16 rows.
// For t in 0..3:
//   4 bits  256 bytes   byte (s*16+r)*4+t, s in 0..3: low nibble q[r][4s+t], high nibble
//                       q[r][16+4s+t]
//   5 bits  + 64 bytes  byte 256 + r*4+t: bit s, s in 0..7, is bit 4 of q[r][4s+t]
//   6 bits  + 128 bytes byte 256 + p*64 + r*4+t, p in 0..1: bits 2j..2j+1, j in 0..3, are bits 4..5
//                       of q[r][16p+4j+t]
//   8 bits  512 bytes   byte (s*16+r)*4+t, s in 0..7: q[r][4s+t]
// The scales of a unit, each an array [kRowTile] (d and m are f16 bits):
//   Q4_0, Q5_0, Q8_0    d                                      x = d * (q - 8, 16, 128)
//   Q4_1, Q5_1          d, m                                   x = d * q + m
//   Q4_K, Q5_K          d, -dmin, per group u8 scale, u8 min   x = d * scale * q - dmin * min
//   Q6_K                d, per 16 columns s8 scale, 32 unused  x = d * scale * (q - 32)
//                       bytes
// All of it is exactly what the file holds, or what a rarer type is widened to. It takes the file's
// size, plus 2.8 % for Q4_K, 2.3 % for Q5_K (the 6-bit scales are widened to bytes), 1 % for Q6_K
// and what fills up the last tile.
//
// Only C headers here: the file is compiled with each ISA's flags.
#ifndef TIDAL_CPU_PACKED_LAYOUT_H_
#define TIDAL_CPU_PACKED_LAYOUT_H_

#include <stdint.h>

namespace tidal {

inline constexpr int kRowTile = 16;
inline constexpr int kGroupCols = 32;
inline constexpr int kStepBytes = 64;      // 16 rows x 4 columns
inline constexpr int kTileAlignment = 64;  // of a tile's first byte, where the matrix has it

// The types of DType that weights are kept as, without its header, which needs the C++ library.
// Same order.
enum class PackedType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ5_1
};
inline constexpr int kNumPackedTypes = 11;

enum class ScaleLayout : uint8_t { kNone, kSymmetric, kAffine, kSuperAffine, kSuperSymmetric };

// What the kernels need to know of a type at compile time.
struct PackedTraits {
  int bits;        // of a code, or of a float element
  int zero_point;  // the code that stands for 0; 0 where the scales hold a minimum
  ScaleLayout scales;
};

// The functions are static, so that a copy compiled with an ISA's flags stays in that file.
static constexpr PackedTraits TraitsOf(PackedType type) {
  switch (type) {
    case PackedType::kF32:
      return {32, 0, ScaleLayout::kNone};
    case PackedType::kF16:
      return {16, 0, ScaleLayout::kNone};
    case PackedType::kBF16:
      return {16, 0, ScaleLayout::kNone};
    case PackedType::kQ4_0:
      return {4, 8, ScaleLayout::kSymmetric};
    case PackedType::kQ4_1:
      return {4, 0, ScaleLayout::kAffine};
    case PackedType::kQ5_0:
      return {5, 16, ScaleLayout::kSymmetric};
    case PackedType::kQ8_0:
      return {8, 128, ScaleLayout::kSymmetric};
    case PackedType::kQ4_K:
      return {4, 0, ScaleLayout::kSuperAffine};
    case PackedType::kQ5_K:
      return {5, 0, ScaleLayout::kSuperAffine};
    case PackedType::kQ6_K:
      return {6, 32, ScaleLayout::kSuperSymmetric};
    case PackedType::kQ5_1:
      return {5, 0, ScaleLayout::kAffine};
  }
  return {};
}
static constexpr bool IsQuantized(PackedType type) {
  return TraitsOf(type).scales != ScaleLayout::kNone;
}
static constexpr bool HasSuperBlocks(PackedType type) {
  return TraitsOf(type).scales == ScaleLayout::kSuperAffine ||
         TraitsOf(type).scales == ScaleLayout::kSuperSymmetric;
}
static constexpr bool HasMinimum(PackedType type) {
  return TraitsOf(type).scales == ScaleLayout::kAffine ||
         TraitsOf(type).scales == ScaleLayout::kSuperAffine;
}

// Bytes of one group's codes.
static constexpr int GroupCodeBytes(PackedType type) {
  return TraitsOf(type).bits * kRowTile * kGroupCols / 8;
}
// Groups of a unit; cols is a multiple of their columns.
static constexpr int UnitGroups(PackedType type) { return HasSuperBlocks(type) ? 8 : 1; }
static constexpr int UnitCodeBytes(PackedType type) {
  return UnitGroups(type) * GroupCodeBytes(type);
}
static constexpr int UnitScaleBytes(PackedType type) {
  switch (TraitsOf(type).scales) {
    case ScaleLayout::kNone:
      return 0;
    case ScaleLayout::kSymmetric:
      return kRowTile * 2;
    case ScaleLayout::kAffine:
      return kRowTile * 4;
    case ScaleLayout::kSuperAffine:
      return kRowTile * 20;
    case ScaleLayout::kSuperSymmetric:
      return kRowTile * 20;
  }
  return 0;
}
static constexpr int UnitBytes(PackedType type) {
  return UnitCodeBytes(type) + UnitScaleBytes(type);
}
// Columns of a unit; 1 for float types.
static constexpr int UnitCols(PackedType type) {
  return IsQuantized(type) ? UnitGroups(type) * kGroupCols : 1;
}
static constexpr int64_t TileBytes(PackedType type, int64_t cols) {
  const int64_t bytes = IsQuantized(type) ? cols / UnitCols(type) * UnitBytes(type)
                                          : cols * TraitsOf(type).bits / 8 * kRowTile;
  return (bytes + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
}

}  // namespace tidal

#endif  // TIDAL_CPU_PACKED_LAYOUT_H_
