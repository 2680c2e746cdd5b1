// What      y = W x for 1 to 8 rows of x and packed weights; RMS norm in front, bias, addition or
//           silu(gate) * up behind. Tensor cores multiply the codes as they are.
// Shapes    W tiles (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block of 8 warps per multiprocessor; tile t belongs to block t % grid, and its
//           stages (256 columns; 128 of Q8_0) to the warps in turn. Rings and dependent launch as
//           in matvec_float.cu.
// Bytes     W once, x twice per multiprocessor from L2.
// Numerics  each element of x is scaled by a power of two for its row and split into two f16, whose
//           products with codes are summed in float32 as tensor cores do (off by about 2^-20 of the
//           largest weight times the sum of |x|, where float32 would be by 2^-23); scales
//           multiply float32 sums of a group. Fixed order; the result of a row of x does not depend
//           on the other rows nor on their number.
// Oracle    DequantizeRow and sums in double; products_test.cc.
#include <cuda_fp16.h>

#include "cuda/matvec_common.cuh"
#include "cuda/matvec_packed_x.cuh"
#include "cuda/matvec_ring.cuh"
#include "cuda/packed_fragment.cuh"

namespace tidal {
namespace {

template <DType kType>
struct Geometry {
  int num_tasks;
  int first_stage;  // of this warp
  int pass_stages;
  int units;  // of a tile
  int tiles_per_task;
  int64_t tile_bytes;

  __device__ explicit Geometry(const MatvecParams& p)
      : num_tasks(p.task_begin[p.num_jobs]),
        first_stage(static_cast<int>(threadIdx.x / 32)),
        pass_stages(p.pass_cols / StageCols(kType)),
        units(static_cast<int>(UnitsPerTile(kType, p.cols))),
        tiles_per_task(p.output == ProductOutput::kSiluMul ? 2 : 1),
        tile_bytes(TileBytes(kType, p.cols)) {}
  __device__ int EndStage(int pass) const {
    const int stages = (units + StageUnits(kType) - 1) / StageUnits(kType);
    return min(stages, (pass + 1) * pass_stages);
  }
  __device__ int UnitsOf(int stage) const {
    return min(StageUnits(kType), units - stage * StageUnits(kType));
  }
};

struct TileAt {
  int job;
  int tile;
};
__device__ TileAt TileOfTask(const MatvecParams& p, int task, int i) {
  if (p.output == ProductOutput::kSiluMul) return {i, task};
  const int job = JobOf(p, task);
  return {job, task - p.task_begin[job]};
}

// Walks the warp's stages in the order in which they will be used.
template <DType kType>
class Feeder {
 public:
  __device__ Feeder(const MatvecParams& p, const Geometry<kType>& geometry)
      : p_(p), geometry_(geometry), task_(static_cast<int>(blockIdx.x)) {
    StartTile();
  }
  __device__ void Feed(WarpRing* ring) {
    if (pass_ == p_.num_passes) return AllowNextAfterLoads();
    ring->Fill(tile_ + static_cast<int64_t>(stage_) * StageBytes(kType),
               geometry_.UnitsOf(stage_) * UnitBytes(kType), 1);
    stage_ += kMatvecWarps;
    if (stage_ < geometry_.EndStage(pass_)) return;
    NextTile();
    StartTile();
  }

 private:
  __device__ void NextTile() {
    if (++i_ < geometry_.tiles_per_task) return;
    i_ = 0;
    task_ += static_cast<int>(gridDim.x);
    if (task_ < geometry_.num_tasks) return;
    task_ = static_cast<int>(blockIdx.x);
    ++pass_;
  }
  // Passes over passes in which the warp has nothing.
  __device__ void StartTile() {
    stage_ = pass_ * geometry_.pass_stages + geometry_.first_stage;
    while (pass_ < p_.num_passes && stage_ >= geometry_.EndStage(pass_)) {
      ++pass_;
      stage_ += geometry_.pass_stages;
    }
    if (pass_ == p_.num_passes) return;
    const TileAt at = TileOfTask(p_, task_, i_);
    tile_ = p_.jobs[at.job].weight + at.tile * geometry_.tile_bytes;
  }

  const MatvecParams& p_;
  const Geometry<kType>& geometry_;
  int task_;
  int i_ = 0;
  int pass_ = 0;
  int stage_ = 0;
  const uint8_t* tile_ = nullptr;
};

__device__ __forceinline__ void MultiplyCodes(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A lane's share of a tile's sums: rows g and g + 8 for row t (and t + 4) of x, g = lane / 4,
// t = lane % 4.
template <int kN>
struct Sums {
  static constexpr int kBlocks = kN > 4 ? 2 : 1;  // of four rows of x
  float value[kBlocks][2];
};

// Starts a group: its offset times the sum of its x.
template <DType kType>
__device__ __forceinline__ void StartGroup(float (&c)[4], float x_sum) {
  constexpr int kOffset = UnitParts<kType>::kOffset;
  c[0] = c[2] = kOffset == 0 ? 0 : -static_cast<float>(kOffset) * x_sum;
  c[1] = c[3] = 0;
}

// Columns 32 * half to 32 * half + 31 of a chunk: two steps, one group (Q6_K: two).
template <DType kType, int kN, int kHalf>
__device__ __forceinline__ void AddHalfChunk(const CodeFragments<kType>& codes,
                                             const GroupScales<kType>& scales, int chunk,
                                             const uint4* operands, const float* x_sums, int lane,
                                             Sums<kN>* sums) {
  using Parts = UnitParts<kType>;
  constexpr int kGroups = 32 / Parts::kGroupCols;
  const int first_group = (chunk * 2 + kHalf) * kGroups;
  uint32_t a[2][4];
  codes.template Get<2 * kHalf>(a[0]);
  codes.template Get<2 * kHalf + 1>(a[1]);
#pragma unroll
  for (int block = 0; block < Sums<kN>::kBlocks; ++block) {
    const int column = lane / 4 + 8 * block;
    uint4 b = {0, 0, 0, 0};
    if (column < 2 * kN) b = operands[((chunk * 2 + kHalf) * 2 * kN + column) * 4 + lane % 4];
    const int n = min(lane % 4 + 4 * block, kN - 1);
    float c[4];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const float x_sum = x_sums[(first_group + group) * kN + n];
      StartGroup<kType>(c, x_sum);
      if (kGroups == 1 || group == 0) MultiplyCodes(c, a[0], b.x, b.y);
      if (kGroups == 1 || group == 1) MultiplyCodes(c, a[1], b.z, b.w);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float& sum = sums->value[block][row];
        sum = fmaf(scales.Scale(row, first_group + group), c[2 * row] + c[2 * row + 1], sum);
        if constexpr (Parts::kHasMin) {
          sum = fmaf(-scales.Min(row, first_group + group), x_sum, sum);
        }
      }
    }
  }
}

template <DType kType, int kN>
__device__ __forceinline__ void AddUnit(const uint8_t* unit, const uint32_t* operands,
                                        const float* x_sums, int lane, Sums<kN>* sums) {
  const GroupScales<kType> scales(unit, lane);
  const auto* b = reinterpret_cast<const uint4*>(operands);
#pragma unroll
  for (int chunk = 0; chunk < UnitParts<kType>::kChunks; ++chunk) {
    const CodeFragments<kType> codes(unit, chunk, lane);
    AddHalfChunk<kType, kN, 0>(codes, scales, chunk, b, x_sums, lane, sums);
    AddHalfChunk<kType, kN, 1>(codes, scales, chunk, b, x_sums, lane, sums);
  }
}

template <DType kType, int kN>
__device__ __forceinline__ void AddStage(const uint8_t* stage, int units, int col, const StagedX& x,
                                         int lane, Sums<kN>* sums) {
  constexpr int kCols = UnitCols(kType);
  const uint32_t* operands = x.operands + col / 32 * 2 * kN * 16;
  const float* x_sums = x.sums + col / UnitParts<kType>::kGroupCols * kN;
  for (int unit = 0; unit < units; ++unit) {
    AddUnit<kType, kN>(stage + unit * UnitBytes(kType), operands, x_sums, lane, sums);
    operands += kCols / 32 * 2 * kN * 16;
    x_sums += kCols / UnitParts<kType>::kGroupCols * kN;
  }
}

// The warps' sums of a task's tiles, [2 tiles][warps][16 rows][kN].
template <int kN>
__device__ void PutPartial(float* partial, int tile, const Sums<kN>& sums) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int block = 0; block < Sums<kN>::kBlocks; ++block) {
    const int n = lane % 4 + 4 * block;
    if (n >= kN) continue;
    float* at = partial + ((tile * kMatvecWarps + warp) * kTileRows + lane / 4) * kN + n;
    at[0] = sums.value[block][0];
    at[8 * kN] = sums.value[block][1];
  }
}

template <int kN>
__device__ void Finish(const MatvecParams& p, int task, const float* partial,
                       const RowFactors<kN>& factors) {
  if (threadIdx.x >= kTileRows * kN) return;
  const int n = static_cast<int>(threadIdx.x) % kN;
  if (n >= p.num_rows) return;
  const bool pairs = p.output == ProductOutput::kSiluMul;
  float values[2];
  const TileAt at = TileOfTask(p, task, 0);
  const int row = at.tile * kTileRows + static_cast<int>(threadIdx.x) / kN;
  if (row >= p.jobs[at.job].rows) return;
  for (int tile = 0; tile < (pairs ? 2 : 1); ++tile) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kMatvecWarps; ++warp) {
      sum += partial[(tile * kMatvecWarps + warp) * kTileRows * kN + threadIdx.x];
    }
    values[tile] = WithBias(p.jobs[at.job + tile], row, sum * factors.restore[n]);
  }
  PutResult(p, p.jobs[at.job], row, n, pairs ? Silu(values[0]) * values[1] : values[0]);
}

template <DType kType, int kN>
__global__ void __launch_bounds__(kMatvecThreads, 2)
    PackedMatvecKernel(const __grid_constant__ MatvecParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const Geometry<kType> geometry(p);
  WarpRing ring(shared + p.ring_offset + warp * p.num_stages * StageBytes(kType),
                reinterpret_cast<uint64_t*>(shared) + warp * kMaxStages, p.num_stages,
                StageBytes(kType));
  Feeder<kType> feeder(p, geometry);
  for (int i = 0; i < p.num_stages; ++i) feeder.Feed(&ring);
  WaitForInputs();

  auto& factors = *reinterpret_cast<RowFactors<kN>*>(shared + kBarrierBytes);
  FindFactors<kN>(p, reinterpret_cast<float*>(&factors + 1), &factors);
  auto* partials = reinterpret_cast<float*>(shared + p.x_offset);
  constexpr int kPartialFloats = static_cast<int>(PackedPartialBytes(kN) / 8);  // of one buffer
  const StagedX x = {.operands = reinterpret_cast<uint32_t*>(partials + 2 * kPartialFloats),
                     .sums = partials + 2 * kPartialFloats + kN * p.pass_cols};
  auto* carry = reinterpret_cast<float*>(shared + p.carry_offset) + threadIdx.x;
  constexpr int kSums = Sums<kN>::kBlocks * 2;
  for (int pass = 0; pass < p.num_passes; ++pass) {
    const bool last = pass + 1 == p.num_passes;
    if (pass > 0) __syncthreads();
    StageX<kType, kN>(p, pass, factors, x);
    __syncthreads();
    int round = 0;
    for (int task = static_cast<int>(blockIdx.x); task < geometry.num_tasks; task += gridDim.x) {
      float* partial = partials + round % 2 * kPartialFloats;
      for (int tile = 0; tile < geometry.tiles_per_task; ++tile) {
        float* kept = carry + (round * geometry.tiles_per_task + tile) * kSums * kMatvecThreads;
        Sums<kN> sums;
#pragma unroll
        for (int i = 0; i < kSums; ++i) {
          sums.value[i / 2][i % 2] = pass == 0 ? 0 : kept[i * kMatvecThreads];
        }
        const int begin = pass * geometry.pass_stages;
        for (int stage = begin + warp; stage < geometry.EndStage(pass); stage += kMatvecWarps) {
          AddStage<kType, kN>(ring.Take(), geometry.UnitsOf(stage),
                              (stage - begin) * StageCols(kType), x, lane, &sums);
          feeder.Feed(&ring);
        }
        if (last) {
          PutPartial<kN>(partial, tile, sums);
        } else {
#pragma unroll
          for (int i = 0; i < kSums; ++i) kept[i * kMatvecThreads] = sums.value[i / 2][i % 2];
        }
      }
      if (last) {
        __syncthreads();
        Finish<kN>(p, task, partial, factors);
      }
      ++round;
    }
  }
}

template <DType kType>
cudaError_t Start(int rows, const MatvecParams& params, int grid, int shared_bytes,
                  cudaStream_t stream) {
  return LaunchForRows(rows, params, grid, shared_bytes, stream,
                       [](auto n) { return PackedMatvecKernel<kType, n>; });
}

}  // namespace

cudaError_t LaunchPackedMatvec(DType type, int rows, const MatvecParams& params, int grid,
                               int shared_bytes, cudaStream_t stream) {
  switch (type) {
    case DType::kQ4_0:
      return Start<DType::kQ4_0>(rows, params, grid, shared_bytes, stream);
    case DType::kQ4_1:
      return Start<DType::kQ4_1>(rows, params, grid, shared_bytes, stream);
    case DType::kQ5_0:
      return Start<DType::kQ5_0>(rows, params, grid, shared_bytes, stream);
    case DType::kQ5_1:
      return Start<DType::kQ5_1>(rows, params, grid, shared_bytes, stream);
    case DType::kQ8_0:
      return Start<DType::kQ8_0>(rows, params, grid, shared_bytes, stream);
    case DType::kQ4_K:
      return Start<DType::kQ4_K>(rows, params, grid, shared_bytes, stream);
    case DType::kQ5_K:
      return Start<DType::kQ5_K>(rows, params, grid, shared_bytes, stream);
    case DType::kQ6_K:
      return Start<DType::kQ6_K>(rows, params, grid, shared_bytes, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tidal
