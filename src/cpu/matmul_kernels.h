// The matrix-product kernels that each ISA provides. Only C headers here: see packed_layout.h.
//
// Rounding: an output element is a sum over columns in one fixed order, whatever the number of
// tokens, tiles or threads, so results are bitwise independent of all three.
//   quantised, on 8-bit activations: per group of 32 columns, in order, with the integer dot
//     product exact: sum = fma(d, float(dot) * activation scale, sum), then for types with a
//     minimum sum = fma(m, activation sum, sum). AVX2 and AVX-512 agree to the bit; the portable
//     code rounds the product too.
//   float32: sum = fma(w[k], x[k], sum) for k in order, with w exactly as the file defines it.
#ifndef TIDAL_CPU_MATMUL_KERNELS_H_
#define TIDAL_CPU_MATMUL_KERNELS_H_

#include <stdint.h>

#include "cpu/packed_layout.h"

namespace tidal {

// kGroupCols activations of one token: x[i] = scale * codes[i], |codes[i]| <= 127.
struct ActivationBlock {
  int8_t codes[kGroupCols];
  float scale;
  float sum;             // scale * (sum of codes)
  int16_t half_sums[2];  // sums of codes 0..15 and 16..31
};
static_assert(sizeof(ActivationBlock) == 44);

enum class OutputMode : uint8_t { kStore, kAdd };

// Scratch that a kernel call needs, aligned to 64 bytes; its content is never read before it is
// written.
inline constexpr int kTokenBlock = 256;  // tokens whose sums are kept at a time
inline constexpr int kChunkGroups = 8;   // groups unpacked at a time
inline constexpr int kScratchTiles = 2;  // tiles unpacked at a time
inline constexpr int kScratchGroupBytes = 2 * kRowTile * kGroupCols + 4 * kRowTile * 4;
inline constexpr int64_t kMatMulScratchBytes =
    kScratchTiles * (int64_t{kTokenBlock} * kRowTile * 4 + kChunkGroups * kScratchGroupBytes);

// out[token][row] (=, +=) weight[row] . activation[token] (+ bias[row]) for `num_rows` rows that
// start at a tile. Rows past num_rows of the last tile are not written.
struct MatMulTask {
  PackedType type;
  const uint8_t* tiles;  // the first tile
  int64_t num_rows;
  int64_t cols;
  int64_t num_tokens;
  const ActivationBlock* blocks;  // [num_tokens][cols / kGroupCols], for `quantized`
  int64_t block_stride;           // in blocks
  const float* x;                 // [num_tokens][cols], for `full`
  int64_t x_stride;               // in floats
  float* out;
  int64_t out_stride;  // in floats
  const float* bias;   // null: none
  OutputMode mode;
  uint8_t* scratch;  // kMatMulScratchBytes
};

struct MatMulKernels {
  // blocks[cols / kGroupCols] from x[cols]: scale = the largest magnitude / 127, codes to nearest
  // even; all 0 where that magnitude is below 2^-110. A NaN or an infinity makes the scale NaN, and
  // so every output of that token. REQUIRES: cols a multiple of kGroupCols.
  void (*quantize_row)(const float* x, int64_t cols, ActivationBlock* blocks);
  // Quantised types on 8-bit activations.
  void (*quantized)(const MatMulTask& task);
  // Every type on float32 activations.
  void (*full)(const MatMulTask& task);
};

}  // namespace tidal

#endif  // TIDAL_CPU_MATMUL_KERNELS_H_
