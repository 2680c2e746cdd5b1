// The fixed sizes of the matrix-vector kernels, and how a call is laid over a multiprocessor's
// shared memory.
#ifndef TIDAL_CUDA_MATVEC_SHAPE_H_
#define TIDAL_CUDA_MATVEC_SHAPE_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/matvec_params.h"
#include "cuda/weight_layout.h"

namespace tidal {

inline constexpr int kMatvecWarps = 8;
inline constexpr int kMatvecThreads = 32 * kMatvecWarps;
inline constexpr int kMaxStages = 16;      // of a warp's ring, or of the block's
inline constexpr int kXAlignCols = 256;    // x is staged in multiples of this
inline constexpr int kPassQuantum = 2048;  // columns; passes are multiples of it
inline constexpr int kFloatTaskRows = 4;   // weight rows that a warp works on at once
inline constexpr int kFloatStageBytes = 2048;

// matvec_half.cu: a task is two boxes (weight_layout.h) high; a stage holds two, 8 groups of
// columns.
inline constexpr int kHalfTaskRows = 2 * kBoxRows;
inline constexpr int kHalfStageBytes = 2 * kBoxBytes;
inline constexpr int kMaxHalfChunkTasks = 8;  // that share what a warp has of x in registers

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
constexpr int64_t FloatCarryBytes(int rows) {
  return int64_t{kMatvecThreads} * kFloatTaskRows * rows * 4;
}

// Of a warp and pass of matvec_half.cu: 64 columns of the rows of x and of a norm's weights.
constexpr int64_t HalfXBytes(int64_t num_rows) { return (num_rows + 1) * kBoxGroupCols * 4; }
// The warps' sums of a chunk of tasks, and what results are added to.
constexpr int64_t HalfSumBytes(int64_t num_rows, int64_t chunk_tasks) {
  return num_rows * (kMatvecWarps + 1) * chunk_tasks * kHalfTaskRows * 4;
}
// Tasks of a chunk, of a block that has so many: even chunks.
constexpr int64_t HalfChunkTasks(int64_t tasks) {
  const int64_t chunks = (tasks + kMaxHalfChunkTasks - 1) / kMaxHalfChunkTasks;
  return (tasks + chunks - 1) / chunks;
}
// Passes whose x is there or on its way: those of eight stages, which take longer to come than x
// from the L2 cache.
inline constexpr int kMaxHalfXDepth = 8;
constexpr int64_t HalfXDepth(int64_t chunk_tasks) {
  return (kMaxHalfXDepth + chunk_tasks - 1) / chunk_tasks;
}

// Rows of x that a kernel is compiled for: the next of 1, 2, 4, 8.
constexpr int CompiledRows(int num_rows) {
  return num_rows <= 1 ? 1 : (num_rows <= 2 ? 2 : (num_rows <= 4 ? 4 : 8));
}

// Kernels of matvec_float.cu (F32), matvec_half.cu and matvec_packed.cu. `rows` is 1, 2, 4 or 8.
cudaError_t LaunchFloatMatvec(int rows, const MatvecParams& params, int grid, int shared_bytes,
                              cudaStream_t stream);
cudaError_t LaunchHalfMatvec(DType type, const HalfMatvecParams& params, int grid, int shared_bytes,
                             cudaStream_t stream);
cudaError_t LaunchPackedMatvec(DType type, int rows, const MatvecParams& params, int grid,
                               int shared_bytes, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_SHAPE_H_
