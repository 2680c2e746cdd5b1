// How weight matrices lie in device memory. Host code and kernels both read
// this description.
//
// F32, F16, BF16: rows one after the other, each padded with zeros, F32 to a
// multiple of 16 bytes, the others of 128, a group of 64 columns. The copy
// engine of sm_90 takes these in boxes of 8 rows by 8 groups. In shared memory,
// from a multiple of 1024 bytes on, a box lies group by group and row by row,
// 128 bytes each, with the 16-byte chunk c of row r at place c ^ r of its row,
// so that neither the rows of a chunk nor the chunks of a row share a bank.
//
// Packed types: tiles of 16 rows times all columns, one after the other; the
// last tile's missing rows are zeros. A tile is a sequence of units of 256
// columns (K types) or 64 columns (the others; the last one's missing half is
// zeros); a unit holds the same bits that the file held for these columns,
// re-arranged so that lane `l` of a warp finds its part of the 16x8x16 tensor
// core operand with one 16-byte load for 64 columns. Within a unit: row g or g
// + 8, g = l / 4; columns 16 * step + 8 * high + 2 * (l % 4) + odd. A unit is,
// in this order:
//   codes   [columns / 64][32 lanes][4 words]: word `step` of 4 has eight 4-bit
//   codes, the one of
//           (odd, row + 8 * low_row, high) at bit 16 * odd + 8 * low_row + 4 *
//           high. Q8_0: [2][32 lanes][4 words]: word 2 * (step % 2) + high of
//           vector step / 2 has four codes plus 128, at bit 16 * odd + 8 *
//           low_row.
//   high    Q5_0, Q5_1, Q5_K: [columns / 64][32 lanes] words: the fifth bit at
//   bit
//           16 * odd + 4 * step + 2 * high + low_row.
//           Q6_K: [columns / 64][32 lanes][2 words]: word step / 2 has the two
//           top bits at bit 16 * odd + 2 * (4 * (step % 2) + 2 * high +
//           low_row).
//   scales  Q4_0, Q5_0, Q8_0: [16 rows][2 groups] f16.
//           Q4_1, Q5_1: the same, then [16 rows][2 groups] f16 minima.
//           Q4_K, Q5_K: [8 g][2] words d | dmin << 16 of rows g and g + 8; then
//           for the 6-bit codes of row g and of row g + 8 in each pair of
//           groups a word each, minima at bits 0 and 16, scales at bits 6 and
//           22, kept as [8 g][4 pairs] words and [8 g][4 pairs] halves: row g's
//           word, in whose bits 12-15 and 28-31 are bits 8-11 and 24-27 of row
//           g + 8's, and bits 0-7 and 16-23 of that. Q6_K: [16 rows][16 groups]
//           signed bytes, then [16 rows] f16 d.
#ifndef TIDAL_CUDA_WEIGHT_LAYOUT_H_
#define TIDAL_CUDA_WEIGHT_LAYOUT_H_

#include <cstdint>

#include "quant/dtype_enum.h"

namespace tidal {

inline constexpr int kTileRows = 16;

inline constexpr int kBoxRows = 8;
inline constexpr int kBoxGroups = 8;
inline constexpr int kBoxGroupCols = 64;
inline constexpr int kBoxGroupBytes = 2 * kBoxGroupCols;
inline constexpr int kBoxBytes = kBoxRows * kBoxGroups * kBoxGroupBytes;

constexpr bool IsTiled(DType type) {
  return type != DType::kF32 && type != DType::kF16 && type != DType::kBF16;
}

// Of types that are not tiled.
constexpr int FloatBytes(DType type) { return type == DType::kF32 ? 4 : 2; }
constexpr int64_t FloatRowBytes(DType type, int64_t cols) {
  const int64_t align = type == DType::kF32 ? 16 : kBoxGroupBytes;
  return (cols * FloatBytes(type) + align - 1) / align * align;
}

// Of types that are tiled.
constexpr bool IsKType(DType type) {
  return type == DType::kQ4_K || type == DType::kQ5_K || type == DType::kQ6_K;
}
constexpr int UnitCols(DType type) { return IsKType(type) ? 256 : 64; }
constexpr int UnitBytes(DType type) {
  switch (type) {  // 16 rows times the bytes of the file's blocks
    case DType::kQ4_0:
      return kTileRows * 2 * 18;
    case DType::kQ4_1:
      return kTileRows * 2 * 20;
    case DType::kQ5_0:
      return kTileRows * 2 * 22;
    case DType::kQ5_1:
      return kTileRows * 2 * 24;
    case DType::kQ8_0:
      return kTileRows * 2 * 34;
    case DType::kQ4_K:
      return kTileRows * 144;
    case DType::kQ5_K:
      return kTileRows * 176;
    case DType::kQ6_K:
      return kTileRows * 210;
    default:
      return 0;
  }
}
constexpr int64_t UnitsPerTile(DType type, int64_t cols) {
  return (cols + UnitCols(type) - 1) / UnitCols(type);
}
constexpr int64_t TileBytes(DType type, int64_t cols) {
  return UnitsPerTile(type, cols) * UnitBytes(type);
}

}  // namespace tidal

#endif  // TIDAL_CUDA_WEIGHT_LAYOUT_H_
