// What      y = W x for 1 to 8 rows of x and packed weights; RMS norm in front, bias, addition or
//           silu(gate) * up behind. Tensor cores multiply the codes as they are.
// Shapes    W tiles (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block of 8 warps per multiprocessor; tile t belongs to block t % grid, and its
//           stages (256 columns; 128 of Q8_0) to the warps in turn. Rings and dependent launch as
//           in matvec_float.cu.
// Bytes     W once, x once per multiprocessor from L2.
// Work      per 16 x 256 weights of Q4_K and one row of x about 250 instructions of a warp, of the
//           780 that the schedulers issue while memory delivers them: 80 mask codes, 16 are tensor
//           core products, 16 pick their results, 40 apply scales.
// Numerics  each element of x is scaled by a power of two for its 64 columns and split into two
//           f16, whose products with codes are summed in float32 as tensor cores do (off by about
//           2^-20 of the largest weight times the sum of |x|, where float32 would be by 2^-23);
//           scales multiply float32 sums of a group. Fixed order; the result of a row of x does not
//           depend on the other rows nor on their number.
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
    ring->FillOne(source_, geometry_.UnitsOf(stage_) * UnitBytes(kType));
    stage_ += kMatvecWarps;
    source_ += kMatvecWarps * StageBytes(kType);
    if (stage_ < end_stage_) return;
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
    end_stage_ = geometry_.EndStage(pass_);
    const TileAt at = TileOfTask(p_, task_, i_);
    source_ = p_.jobs[at.job].weight + at.tile * geometry_.tile_bytes +
              static_cast<int64_t>(stage_) * StageBytes(kType);
  }

  const MatvecParams& p_;
  const Geometry<kType>& geometry_;
  int task_;
  int i_ = 0;
  int pass_ = 0;
  int stage_ = 0;
  int end_stage_ = 0;
  const uint8_t* source_ = nullptr;
};

// d = a b and d += a b on tensor cores, [16][8] = [16][16] [16][8]; d in float32.
__device__ __forceinline__ void MultiplyCodes(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}
__device__ __forceinline__ void AddProductOfCodes(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A lane's sums of a tile, for rows g and g + 8 (g = lane / 4) and its set of x (lane % 4), apart
// for the rounds of a stage: with fewer rows of x the same chunks are apart by lane, so that all
// are added up in one order.
template <DType kType, int kN>
struct Sums {
  using Sets = XSets<kType, kN>;
  static constexpr int kCount = Sets::kRounds * Sets::kBlocks * 2;
  float value[Sets::kRounds][Sets::kBlocks][2];

  __device__ __forceinline__ float& At(int i) {
    return value[i / 2 / Sets::kBlocks][i / 2 % Sets::kBlocks][i % 2];
  }
};

// The sums of codes of a chunk's groups, of one block of sets.
template <int kGroups>
struct ChunkSums {
  float of_row[2][kGroups];
};

// Multiplies the chunk's codes with all sets of a block and keeps the results of the lane's own set
// where `keeps`.
template <DType kType>
__device__ __forceinline__ void MultiplyChunk(const CodeFragments<kType>& codes,
                                              const uint4 (&b)[2], bool keeps,
                                              ChunkSums<ChunkScales<kType>::kGroups>* sums) {
  constexpr int kGroups = ChunkScales<kType>::kGroups;
  uint32_t a[4][4];
  codes.template Get<0>(a[0]);
  codes.template Get<1>(a[1]);
  codes.template Get<2>(a[2]);
  codes.template Get<3>(a[3]);
  float d[kGroups][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if constexpr (kGroups == 2) {
      MultiplyCodes(d[half], a[2 * half], b[half].x, b[half].y);
      AddProductOfCodes(d[half], a[2 * half + 1], b[half].z, b[half].w);
    } else {
      MultiplyCodes(d[2 * half], a[2 * half], b[half].x, b[half].y);
      MultiplyCodes(d[2 * half + 1], a[2 * half + 1], b[half].z, b[half].w);
    }
  }
  if (!keeps) return;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    sums->of_row[0][i] = d[i][0] + d[i][1];
    sums->of_row[1][i] = d[i][2] + d[i][3];
  }
}

// One stage of `units` units whose x starts at `chunk` of what is staged.
template <DType kType, int kN>
__device__ __forceinline__ void AddStage(const uint8_t* stage, int units, int chunk,
                                         const StagedX& x, int lane, Sums<kType, kN>* sums) {
  using Sets = XSets<kType, kN>;
  constexpr int kGroups = Sets::kGroups;
  constexpr int kUnitChunks = UnitCols(kType) / kChunkCols;
  const int num_chunks = IsKType(kType) ? kUnitChunks : units;
  const int set = min(lane % 4, Sets::kSets - 1);
  const int slot = set / Sets::kBlockRows;
  const uint4* operands = x.operands +
                          chunk / Sets::kSlots * Sets::kBlocks * 2 * Sets::kHalfVectors +
                          min(lane, Sets::kHalfVectors - 1);
#pragma unroll
  for (int round = 0; round < Sets::kRounds; ++round) {
    uint4 b[Sets::kBlocks][2];
#pragma unroll
    for (int i = 0; i < Sets::kBlocks * 2; ++i)
      b[i / 2][i % 2] = operands[(round * Sets::kBlocks * 2 + i) * Sets::kHalfVectors];
    ChunkSums<kGroups> chunk_sums[Sets::kBlocks] = {};
#pragma unroll
    for (int s = 0; s < Sets::kSlots; ++s) {
      const int at = round * Sets::kSlots + s;
      if (at >= num_chunks) break;
      const CodeFragments<kType> codes(stage + at / kUnitChunks * UnitBytes(kType),
                                       at % kUnitChunks, lane);
#pragma unroll
      for (int block = 0; block < Sets::kBlocks; ++block)
        MultiplyChunk(codes, b[block], slot == s, &chunk_sums[block]);
    }
    const int own = round * Sets::kSlots + slot;
    if (own >= num_chunks) break;
    const ChunkScales<kType> scales(stage + own / kUnitChunks * UnitBytes(kType), own % kUnitChunks,
                                    lane / 4);
#pragma unroll
    for (int block = 0; block < Sets::kBlocks; ++block) {
      const int n = set % Sets::kBlockRows + block * Sets::kBlockRows;
      const int at = (chunk + own) * kN + n;
      float x_sums[kGroups];
#pragma unroll
      for (int i = 0; i < kGroups; ++i) x_sums[i] = x.sums[at * kGroups + i];
      const float unit = x.units[at];
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float& sum = sums->value[round][block][row];
        sum = fmaf(unit, scales.Value(row, chunk_sums[block].of_row[row], x_sums), sum);
      }
    }
  }
}

// The warps' sums of a task's tiles, [2 tiles][warps][16 rows][kN].
template <DType kType, int kN>
__device__ void PutPartial(float* partial, int tile, const Sums<kType, kN>& sums) {
  using Sets = XSets<kType, kN>;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int block = 0; block < Sets::kBlocks; ++block) {
    const int n = lane % 4 + block * Sets::kBlockRows;
    float* at = partial + ((tile * kMatvecWarps + warp) * kTileRows + lane / 4) * kN + n;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float round_sums[Sets::kRounds];
#pragma unroll
      for (int round = 0; round < Sets::kRounds; ++round) {
        float& sum = round_sums[round] = sums.value[round][block][row];
#pragma unroll
        for (int distance = Sets::kBlockRows; distance < Sets::kSets; distance *= 2)
          sum += __shfl_xor_sync(~0u, sum, distance);
      }
#pragma unroll
      for (int step = 1; step < Sets::kRounds; step *= 2) {
#pragma unroll
        for (int round = 0; round < Sets::kRounds; round += 2 * step)
          round_sums[round] += round_sums[round + step];
      }
      if (lane % 4 < Sets::kBlockRows) at[row * 8 * kN] = round_sums[0];
    }
  }
}

template <int kN>
__device__ void Finish(const MatvecParams& p, int task, const float* partial, float inverse_rms) {
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
    values[tile] = WithBias(p.jobs[at.job + tile], row, sum * inverse_rms);
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
  PrefetchNorm(p);
  WaitForInputs();

  auto* reduce = reinterpret_cast<float*>(shared + kBarrierBytes);  // [kN][warps]
  auto* partials = reinterpret_cast<float*>(shared + p.x_offset);
  constexpr int kPartialFloats = static_cast<int>(PackedPartialBytes(kN) / 8);  // of one buffer
  const StagedX x = SplitX<kType, kN>(partials + 2 * kPartialFloats, p.pass_cols);
  auto* carry = reinterpret_cast<float*>(shared + p.carry_offset) + threadIdx.x;
  constexpr int kSums = Sums<kType, kN>::kCount;
  float squares[kN] = {};
  float inverse_rms = 1;
  for (int pass = 0; pass < p.num_passes; ++pass) {
    const bool last = pass + 1 == p.num_passes;
    if (pass > 0) __syncthreads();
    StageX<kType, kN>(p, pass, x, squares);
    if (last) PutSquares(squares, reduce);
    __syncthreads();
    if (last) inverse_rms = InverseRms(p, SumOfSquares(reduce, threadIdx.x % kN));
    int round = 0;
    for (int task = static_cast<int>(blockIdx.x); task < geometry.num_tasks; task += gridDim.x) {
      float* partial = partials + round % 2 * kPartialFloats;
      for (int tile = 0; tile < geometry.tiles_per_task; ++tile) {
        float* kept = carry + (round * geometry.tiles_per_task + tile) * kSums * kMatvecThreads;
        Sums<kType, kN> sums;
#pragma unroll
        for (int i = 0; i < kSums; ++i) sums.At(i) = pass == 0 ? 0 : kept[i * kMatvecThreads];
        const int begin = pass * geometry.pass_stages;
        const int end = geometry.EndStage(pass);
        for (int stage = begin + warp; stage < end; stage += kMatvecWarps) {
          AddStage<kType, kN>(ring.Take(), geometry.UnitsOf(stage),
                              (stage - begin) * XSets<kType, kN>::kStageChunks, x, lane, &sums);
          feeder.Feed(&ring);
        }
        if (last) {
          PutPartial(partial, tile, sums);
        } else {
#pragma unroll
          for (int i = 0; i < kSums; ++i) kept[i * kMatvecThreads] = sums.At(i);
        }
      }
      if (last) {
        __syncthreads();
        Finish<kN>(p, task, partial, inverse_rms);
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
