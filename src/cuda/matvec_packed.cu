// What      y = W x for 1 to 8 rows of x and packed weights; RMS norm in front, bias, addition or
//           silu(gate) * up behind. Tensor cores multiply the codes as they are.
// Shapes    W tiles (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block of 8 warps that multiply and two beside them per multiprocessor; tile t
//           belongs to block t % grid. One warp copies stages of eight times 256 columns (128 of
//           Q8_0) of a tile to a ring in shared memory, each of the eight works on its part of a
//           stage, and the last one adds up their sums of a tile and puts the results while they
//           are at the next ones: no warp waits for all others but when x is staged. Dependent
//           launch as in matvec_float.cu.
// Bytes     W once, x once per multiprocessor from L2.
// Speed     a step's products read at 55 % (Q4_K), 63 % (Q6_K) and 72 % (Q8_0) of an
//           H200's rate, the LM head at 75 to 93 %; 4 to 5 us of each are not reading.
// Work      per 16 x 256 weights of Q4_K and one row of x about 210 instructions of a warp, of the
//           520 that the schedulers of an H200 issue while memory delivers them: 80 mask codes, 16
//           are tensor core products, 16 pick their results, 40 apply scales. They are a chain of
//           some 430 cycles, which two warps of a scheduler have to hide.
// Numerics  each element of x is scaled by a power of two for its 64 columns and split into two
//           f16, whose products with codes are summed in float32 as tensor cores do (off by about
//           2^-20 of the largest weight times the sum of |x|, where float32 would be by 2^-23);
//           scales multiply float32 sums of a group. Fixed order; the result of a row of x does not
//           depend on the other rows nor on their number.
// Oracle    DequantizeRow and sums in double; products_test.cc.
#include <cuda_fp16.h>

#include "cuda/matvec_block_ring.cuh"
#include "cuda/matvec_common.cuh"
#include "cuda/matvec_packed_sums.cuh"
#include "cuda/matvec_packed_x.cuh"
#include "cuda/shared_barrier.cuh"

namespace tidal {
namespace {

// A block's warps: those that multiply, one that feeds them, and one that puts results.
constexpr int kFeederWarp = kMatvecWarps;
constexpr int kThreads = kMatvecThreads + 2 * 32;

// A stage of the ring has `stage` units (matvec_shape.h) for each of the warps.
template <DType kType>
struct Geometry {
  static constexpr int kStageUnits = kMatvecWarps * StageUnits(kType);
  static constexpr int kStageBytes = kMatvecWarps * StageBytes(kType);

  int num_tasks;
  int pass_units;
  int units;  // of a tile
  int tiles_per_task;
  int64_t tile_bytes;

  __device__ explicit Geometry(const MatvecParams& p)
      : num_tasks(p.task_begin[p.num_jobs]),
        pass_units(p.pass_cols / UnitCols(kType)),
        units(static_cast<int>(UnitsPerTile(kType, p.cols))),
        tiles_per_task(p.output == ProductOutput::kSiluMul ? 2 : 1),
        tile_bytes(TileBytes(kType, p.cols)) {}
  __device__ int BeginUnit(int pass) const { return pass * pass_units; }
  __device__ int EndUnit(int pass) const { return min(units, (pass + 1) * pass_units); }
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

// Walks the block's stages in the order in which they will be used.
template <DType kType>
class Feeder {
 public:
  __device__ Feeder(const MatvecParams& p, const Geometry<kType>& geometry)
      : p_(p), geometry_(geometry), task_(static_cast<int>(blockIdx.x)) {
    StartTile();
  }
  __device__ bool HasMore() const { return pass_ < p_.num_passes; }
  __device__ void Feed(BlockRing* ring) {
    constexpr int kUnits = Geometry<kType>::kStageUnits;
    const int bytes = min(kUnits, end_unit_ - unit_) * UnitBytes(kType);
    ring->Fill(bytes,
               [&](uint8_t* stage, const StageCopy& copy) { copy.Run(stage, source_, bytes); });
    unit_ += kUnits;
    source_ += Geometry<kType>::kStageBytes;
    if (unit_ < end_unit_) return;
    NextTile();
    if (HasMore()) StartTile();
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
  __device__ void StartTile() {
    unit_ = geometry_.BeginUnit(pass_);
    end_unit_ = geometry_.EndUnit(pass_);
    const TileAt at = TileOfTask(p_, task_, i_);
    source_ = p_.jobs[at.job].weight + at.tile * geometry_.tile_bytes +
              static_cast<int64_t>(unit_) * UnitBytes(kType);
  }

  const MatvecParams& p_;
  const Geometry<kType>& geometry_;
  int task_;
  int i_ = 0;
  int pass_ = 0;
  int unit_ = 0;
  int end_unit_ = 0;
  const uint8_t* source_ = nullptr;
};

// Two buffers of the warps' sums of a task: the warps fill one while the other is added up.
template <int kN>
class Partials {
 public:
  // barriers: two for each buffer.
  __device__ Partials(float* memory, uint64_t* barriers) : memory_(memory), barriers_(barriers) {}
  __device__ void InitBarriers() const {
    for (int i = 0; i < kBuffers; ++i) {
      InitBarrier(Ready(i), kMatvecWarps);
      InitBarrier(Free(i), 1);
    }
  }
  __device__ float* Buffer(int task) const { return memory_ + task % kBuffers * kFloats; }
  // Of the block's task number `task`, its whole warp: before and after putting its sums,
  __device__ void WaitForFree(int task) const {
    if (task >= kBuffers) WaitForPhase(Free(task % kBuffers), (task / kBuffers - 1) & 1);
  }
  __device__ void Put(int task) const { ArriveOfWarp(Ready(task % kBuffers)); }
  // before and after reading those of all warps.
  __device__ void WaitForAll(int task) const {
    WaitForPhase(Ready(task % kBuffers), task / kBuffers & 1);
  }
  __device__ void Release(int task) const { ArriveOfWarp(Free(task % kBuffers)); }

 private:
  static constexpr int kBuffers = 2;
  static constexpr int kFloats = static_cast<int>(PackedPartialBytes(kN) / 8);
  __device__ BarrierAt Ready(int i) const { return barriers_ + 2 * i; }
  __device__ BarrierAt Free(int i) const { return barriers_ + 2 * i + 1; }

  float* memory_;
  uint64_t* barriers_;
};

// The results of a task that a lane puts.
template <int kN>
class Results {
 public:
  // Asks for what they are added to: when the task begins, so that it is there at its end.
  __device__ Results(const MatvecParams& p, int task)
      : p_(p), at_(TileOfTask(p, task, 0)), pairs_(p.output == ProductOutput::kSiluMul) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      addend_[i] = 0;
      bias_[i][0] = 0;
      bias_[i][1] = 0;
      if (!Exists(i)) continue;
      const MatvecParams::Job& job = p.jobs[at_.job];
      if (p.output == ProductOutput::kAdd) addend_[i] = LoadActivation(Out(i));
      if (job.bias != nullptr) bias_[i][0] = job.bias[Row(i)];
      if (pairs_ && p.jobs[1].bias != nullptr) bias_[i][1] = p.jobs[1].bias[Row(i)];
    }
  }
  __device__ void Put(const float* partial, float inverse_rms) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!Exists(i)) continue;
      float value = bias_[i][0] + Sum(partial, i) * inverse_rms;
      if (pairs_) {
        const float* second = partial + kMatvecWarps * kTileRows * kN;
        value = Silu(value) * (bias_[i][1] + Sum(second, i) * inverse_rms);
      }
      *Out(i) = addend_[i] + value;
    }
  }

 private:
  static constexpr int kCount = (kTileRows * kN + 31) / 32;
  static __device__ int Index(int i) { return static_cast<int>(threadIdx.x % 32) + 32 * i; }
  static __device__ int N() { return static_cast<int>(threadIdx.x % 32) % kN; }
  __device__ int Row(int i) const { return at_.tile * kTileRows + Index(i) / kN; }
  __device__ bool Exists(int i) const {
    return Index(i) < kTileRows * kN && N() < p_.num_rows && Row(i) < p_.jobs[at_.job].rows;
  }
  __device__ float* Out(int i) const {
    return p_.jobs[at_.job].out + N() * p_.jobs[at_.job].out_stride + Row(i);
  }
  __device__ float Sum(const float* partial, int i) const {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kMatvecWarps; ++warp)
      sum += partial[warp * kTileRows * kN + Index(i)];
    return sum;
  }

  const MatvecParams& p_;
  TileAt at_;
  bool pairs_;
  float addend_[kCount];
  float bias_[kCount][2];
};

// The warp that starts the copies.
template <DType kType, int kN>
__device__ void FeedStages(const MatvecParams& p, const Geometry<kType>& geometry,
                           const Partials<kN>& partials, BlockRing ring) {
  if (threadIdx.x % 32 == 0) {
    ring.InitBarriers(kMatvecWarps);
    partials.InitBarriers();
  }
  __syncwarp();
  Feeder<kType> feeder(p, geometry);
  for (int i = 0; i < p.num_stages && feeder.HasMore(); ++i) feeder.Feed(&ring);
  AllowNext();
  SyncThreads(kStartBarrier, kThreads);
  while (feeder.HasMore()) {
    ring.WaitForFree();
    feeder.Feed(&ring);
  }
  ring.Drain();
}

// The warp that adds up the sums of those that multiply, and puts results.
template <DType kType, int kN>
__device__ void PutResults(const MatvecParams& p, const Geometry<kType>& geometry,
                           const float* reduce, const Partials<kN>& partials) {
  WaitForInputs();
  SyncThreads(kStartBarrier, kThreads);
  int count = 0;
  float inverse_rms = 1;
  for (int task = static_cast<int>(blockIdx.x); task < geometry.num_tasks; task += gridDim.x) {
    const Results<kN> results(p, task);
    partials.WaitForAll(count);
    if (count == 0) inverse_rms = InverseRms(p, SumOfSquares(reduce, threadIdx.x % kN));
    results.Put(partials.Buffer(count), inverse_rms);
    partials.Release(count);
    ++count;
  }
}

// One of the warps that multiply.
template <DType kType, int kN>
__device__ void StageAndMultiply(const MatvecParams& p, const Geometry<kType>& geometry,
                                 const StagedX& x, float* carry, float* reduce,
                                 const Partials<kN>& partials, BlockRing ring) {
  constexpr int kUnits = StageUnits(kType);
  constexpr int kSums = TileSums<kType, kN>::kCount;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  PrefetchNorm(p);
  float squares[kN] = {};
  int count = 0;
  for (int pass = 0; pass < p.num_passes; ++pass) {
    const bool last = pass + 1 == p.num_passes;
    if (pass > 0) SyncThreads(kWorkBarrier, kMatvecThreads);
    StageX<kType, kN>(p, pass, x, squares);
    if (pass == 0) {
      SyncThreads(kStartBarrier, kThreads);
    } else {
      SyncThreads(kWorkBarrier, kMatvecThreads);
    }
    if (last && p.norm != nullptr) PutSquares(squares, reduce);  // before the first Partials::Put
    const int begin = geometry.BeginUnit(pass);
    const int end = geometry.EndUnit(pass);
    int round = 0;
    for (int task = static_cast<int>(blockIdx.x); task < geometry.num_tasks; task += gridDim.x) {
      for (int tile = 0; tile < geometry.tiles_per_task; ++tile) {
        float* kept = carry + round * kSums * kMatvecThreads;
        TileSums<kType, kN> sums;
#pragma unroll
        for (int i = 0; i < kSums; ++i) sums.At(i) = pass == 0 ? 0 : kept[i * kMatvecThreads];
        for (int unit = begin; unit < end; unit += Geometry<kType>::kStageUnits) {
          const uint8_t* stage = ring.Take() + warp * StageBytes(kType);
          const int own = unit + warp * kUnits;
          if (own < end) {
            AddStage<kType, kN>(stage, min(kUnits, end - own),
                                (own - begin) * UnitCols(kType) / kChunkCols, x, lane, &sums);
          }
          ring.Release();
        }
        if (last) {
          if (tile == 0) partials.WaitForFree(count);
          PutPartial(partials.Buffer(count), tile, sums);
        } else {
#pragma unroll
          for (int i = 0; i < kSums; ++i) kept[i * kMatvecThreads] = sums.At(i);
        }
        ++round;
      }
      if (last) partials.Put(count++);
    }
  }
}

template <DType kType, int kN>
__global__ void __launch_bounds__(kThreads, kN < 8 ? 2 : 1)
    PackedMatvecKernel(const __grid_constant__ MatvecParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  auto* barriers = reinterpret_cast<uint64_t*>(shared);
  auto* reduce = reinterpret_cast<float*>(shared + kBarrierBytes);  // [kN][warps]
  auto* memory = reinterpret_cast<float*>(shared + p.x_offset);
  const Geometry<kType> geometry(p);
  const BlockRing ring(shared + p.ring_offset, barriers, p.num_stages,
                       Geometry<kType>::kStageBytes);
  const Partials<kN> partials(memory, barriers + 2 * kMaxStages);
  const int warp = static_cast<int>(threadIdx.x / 32);
  if (warp == kFeederWarp) return FeedStages<kType, kN>(p, geometry, partials, ring);
  if (warp > kFeederWarp) return PutResults<kType, kN>(p, geometry, reduce, partials);
  const StagedX x =
      SplitX<kType, kN>(memory + PackedPartialBytes(kN) / int64_t{sizeof(float)}, p.pass_cols);
  auto* carry = reinterpret_cast<float*>(shared + p.carry_offset) + threadIdx.x;
  StageAndMultiply<kType, kN>(p, geometry, x, carry, reduce, partials, ring);
}

template <DType kType>
cudaError_t Start(int rows, const MatvecParams& params, int grid, int shared_bytes,
                  cudaStream_t stream) {
  return LaunchForRows(
      rows, params, grid, shared_bytes, stream, [](auto n) { return PackedMatvecKernel<kType, n>; },
      kThreads);
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
