// The fixed sizes of the matrix-vector kernels, and how a call is laid over a multiprocessor's
// shared memory.
#ifndef TIDAL_CUDA_MATVEC_SHAPE_H_
#define TIDAL_CUDA_MATVEC_SHAPE_H_

#include <algorithm>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/matvec.h"
#include "cuda/weight_layout.h"

namespace tidal {

inline constexpr int kMatvecWarps = 8;
inline constexpr int kMatvecThreads = 32 * kMatvecWarps;
inline constexpr int kMaxStages = 16;      // of a warp's ring, or of the block's
inline constexpr int kXAlignCols = 256;    // x is staged in multiples of this
inline constexpr int kPassQuantum = 2048;  // columns; passes are multiples of it
inline constexpr int kFloatTaskRows = 4;   // weight rows that a warp works on at once, at most
inline constexpr int kFloatStageBytes = 2048;

// Tasks of fewer rows read x from shared memory more often for each weight; with many rows of x
// that would be slower than device memory. kSiluMul needs two.
constexpr int FewestFloatTaskRows(int rows) { return std::min(rows, kFloatTaskRows); }

// Start of every kernel's shared memory: barriers, then what blocks reduce over.
inline constexpr int kBarrierBytes = kMatvecWarps * kMaxStages * 8;
inline constexpr int kReduceBytes = 1024;
inline constexpr int kFixedBytes = kBarrierBytes + kReduceBytes;

// Tiles: the units that a stage holds.
constexpr int StageUnits(DType tiled) {
  return IsKType(tiled) ? 1 : (tiled == DType::kQ8_0 ? 2 : 4);
}
constexpr int StageCols(DType tiled) { return StageUnits(tiled) * UnitCols(tiled); }

constexpr int StageBytes(DType type) {
  return IsTiled(type) ? StageUnits(type) * UnitBytes(type) : kFloatStageBytes;
}

// Shared memory for `cols` (a multiple of 256) columns of x as tiles need them: two f16 of each
// element; for each 64 columns the sums of its groups and a scale.
constexpr int64_t PackedXBytes(DType tiled, int rows, int64_t cols) {
  const int groups = tiled == DType::kQ6_K ? 4 : 2;
  return rows * (cols * 4 + cols / 64 * (groups + 1) * 4);
}
// Two buffers of the warps' sums of up to two tiles.
constexpr int64_t PackedPartialBytes(int rows) {
  return int64_t{2} * 2 * kMatvecWarps * kTileRows * rows * 4;
}
// The threads' unfinished sums of one task between passes (of one tile, where a task has two): two
// rows, for each row of x, or each chunk of a stage where there are fewer rows.
constexpr int64_t PackedCarryBytes(int rows) { return int64_t{kMatvecThreads} * 2 * rows * 4; }
constexpr int64_t FloatCarryBytes(int rows, int task_rows) {
  return int64_t{kMatvecThreads} * task_rows * rows * 4;
}

// Rows of x that a kernel is compiled for: the next of 1, 2, 4, 8.
constexpr int CompiledRows(int num_rows) {
  return num_rows <= 1 ? 1 : (num_rows <= 2 ? 2 : (num_rows <= 4 ? 4 : 8));
}

// Kernels of matvec_float.cu and matvec_packed.cu. `rows` is 1, 2, 4 or 8, task_rows 1, 2 or 4 from
// FewestFloatTaskRows(rows) on.
cudaError_t LaunchFloatMatvec(DType type, int rows, int task_rows, const MatvecParams& params,
                              int grid, int shared_bytes, cudaStream_t stream);
cudaError_t LaunchPackedMatvec(DType type, int rows, const MatvecParams& params, int grid,
                               int shared_bytes, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_SHAPE_H_
