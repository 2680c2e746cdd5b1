// What      y = W x for 1 to 8 rows of x and weights of F32, F16 or BF16; RMS norm in front, bias,
//           addition or silu(gate) * up behind.
// Shapes    W [rows][cols] (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block of 8 warps per multiprocessor; task t (4, 2 or 1 weight rows, see matvec.cc)
//           belongs to warp t % 8 of block t / 8 % grid, so that what a multiprocessor reads at a
//           time lies together. Each warp streams its rows through a ring of 2 KB stages in shared
//           memory, filled before WaitForInputs: while the kernel before drains and x is normed,
//           the memory keeps reading. The next kernel's blocks fill theirs beside it (matvec.cc).
// Bytes     W once, x once per multiprocessor from L2.
// Speed     a bf16 step's products, one behind the other, read at 86 to 88 % of an H200's rate (the
//           LM head at 92 %), since each leaves the memory idle for some 4 us. Eight rows of x read
//           at 45 %: two warps a scheduler do not hide what they wait for.
// Numerics  float32 multiply-adds, in column order within a lane, then a tree over the lanes. Fixed
//           order, the same for tasks of 4, 2 and 1 rows; the result of a row of x does not depend
//           on the other rows nor on their number.
// Oracle    DequantizeRow and sums in double; products_test.cc.
#include <cuda_fp16.h>

#include "cuda/launch.cuh"
#include "cuda/matvec_common.cuh"
#include "cuda/matvec_ring.cuh"

namespace tidal {
namespace {

template <DType kType>
struct Vector {  // of 16 bytes
  static constexpr int kCols = 16 / FloatBytes(kType);
  static constexpr int kQuads = kCols / 4;
  static constexpr int kStepCols = 32 * kCols;

  // Four of its elements.
  static __device__ float4 Quad(const uint4& v, int quad) {
    if constexpr (kType == DType::kF32) {
      return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
              __uint_as_float(v.w)};
    }
    const uint32_t low = quad == 0 ? v.x : v.z;
    const uint32_t high = quad == 0 ? v.y : v.w;
    const float2 a = Pair(low);
    const float2 b = Pair(high);
    return {a.x, a.y, b.x, b.y};
  }

 private:
  static __device__ float2 Pair(uint32_t bits) {
    if constexpr (kType == DType::kF16) {
      return __half22float2(*reinterpret_cast<const __half2*>(&bits));
    }
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  }
};

// Where a group of four columns of x is kept: as the lanes that need them read them, without bank
// conflicts.
template <DType kType>
__device__ int SlotOfX(int col) {
  using V = Vector<kType>;
  const int in_step = col % V::kStepCols;
  return col - in_step + in_step % V::kCols / 4 * 128 + in_step / V::kCols * 4;
}

struct WeightRow {
  int job;
  int row;
};
// Row i of a task of kRows.
template <int kRows>
__device__ WeightRow RowOfTask(const MatvecParams& p, int task, int i) {
  if (p.output == ProductOutput::kSiluMul) {
    constexpr int kPairs = kRows > 1 ? kRows / 2 : 1;
    return {i / kPairs, task * kPairs + i % kPairs};
  }
  const int job = JobOf(p, task);
  return {job, (task - p.task_begin[job]) * kRows + i};
}

// A stage holds a run of each row of a task.
template <DType kType, int kRows>
struct Geometry {
  static constexpr int kRunBytes = StageBytes(kType) / kRows;
  static constexpr int kRunCols = kRunBytes / FloatBytes(kType);

  int num_tasks;
  int first_task;
  int task_stride;
  int row_bytes;
  int run_steps;  // of a whole pass

  __device__ explicit Geometry(const MatvecParams& p)
      : num_tasks(p.task_begin[p.num_jobs]),
        first_task(static_cast<int>(blockIdx.x * kMatvecWarps + threadIdx.x / 32)),
        task_stride(static_cast<int>(gridDim.x) * kMatvecWarps),
        row_bytes(static_cast<int>(FloatRowBytes(kType, p.cols))),
        run_steps((p.pass_cols + kRunCols - 1) / kRunCols) {}  // several passes: whole runs
  __device__ int Steps(int pass) const {
    const int left = (row_bytes + kRunBytes - 1) / kRunBytes - pass * run_steps;
    return min(left, run_steps);
  }
  __device__ int RunBytes(int step_of_row) const {
    return min(kRunBytes, row_bytes - step_of_row * kRunBytes);
  }
};

// Walks the warp's stages in the order in which they will be used, as far ahead as the ring allows.
template <DType kType, int kRows>
class Feeder {
 public:
  __device__ Feeder(const MatvecParams& p, const Geometry<kType, kRows>& geometry)
      : p_(p), geometry_(geometry), task_(geometry.first_task) {
    if (task_ >= geometry_.num_tasks) pass_ = p_.num_passes;
    FindRow();
  }
  __device__ void Feed(WarpRing* ring) {
    if (pass_ == p_.num_passes) return;
    const int step = pass_ * geometry_.run_steps + step_;
    ring->Fill(row_ + static_cast<int64_t>(step) * Geometry<kType, kRows>::kRunBytes,
               geometry_.RunBytes(step), kRows);
    if (++step_ < geometry_.Steps(pass_)) return;
    step_ = 0;
    task_ += geometry_.task_stride;
    if (task_ >= geometry_.num_tasks) {
      task_ = geometry_.first_task;
      ++pass_;
    }
    FindRow();
  }

 private:
  __device__ void FindRow() {
    if (pass_ == p_.num_passes) return;
    const WeightRow at = RowOfTask<kRows>(p_, task_, threadIdx.x % kRows);
    const MatvecParams::Job& job = p_.jobs[at.job];
    const int row = min(at.row, job.rows - 1);  // a task's missing rows repeat the last one
    row_ = job.weight + static_cast<int64_t>(row) * geometry_.row_bytes;
  }

  const MatvecParams& p_;
  const Geometry<kType, kRows>& geometry_;
  int task_;
  int pass_ = 0;
  int step_ = 0;
  const uint8_t* row_ = nullptr;  // of lane i: the task's row i % kRows
};

// x of a pass, times the norm's weights, to shared memory; adds up the squares of x.
template <DType kType, int kN>
__device__ void StageX(const MatvecParams& p, int pass, float* x, float (&squares)[kN]) {
  ForEachQuad<kN>(p, pass * p.pass_cols, StagedCols(p, pass),
                  [&](int n, int col, float4 v, float4 norm) {
                    squares[n] += Square(v);
                    float* at = x + n * p.pass_cols + SlotOfX<kType>(col);
                    *reinterpret_cast<float4*>(at) = Times(v, norm);
                  });
}

// acc[i * kN + n] += row i of a step of the stage times row n of x.
template <DType kType, int kN, int kRows>
__device__ __forceinline__ void AccumulateStep(const uint8_t* stage, int run_bytes, const float* x,
                                               int x_stride, float (&acc)[kRows * kN]) {
  using V = Vector<kType>;
  const int lane = threadIdx.x % 32;
  uint4 w[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    w[i] = *reinterpret_cast<const uint4*>(stage + i * run_bytes + lane * 16);
  }
#pragma unroll
  for (int quad = 0; quad < V::kQuads; ++quad) {
    float4 weights[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) weights[i] = V::Quad(w[i], quad);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float4 v = *reinterpret_cast<const float4*>(x + n * x_stride + quad * 128 + lane * 4);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        float& sum = acc[i * kN + n];
        sum = fmaf(weights[i].x, v.x, sum);
        sum = fmaf(weights[i].y, v.y, sum);
        sum = fmaf(weights[i].z, v.z, sum);
        sum = fmaf(weights[i].w, v.w, sum);
      }
    }
  }
}

// The same for all steps, of 32 vectors of each row, that the runs of a stage are.
template <DType kType, int kN, int kRows>
__device__ __forceinline__ void Accumulate(const uint8_t* stage, int run_bytes, const float* x,
                                           int x_stride, float (&acc)[kRows * kN]) {
  constexpr int kStepBytes = 32 * 16;
  constexpr int kSteps = Geometry<kType, kRows>::kRunBytes / kStepBytes;
  const auto step = [&](int i) {
    AccumulateStep<kType, kN, kRows>(stage + i * kStepBytes, run_bytes,
                                     x + i * Vector<kType>::kStepCols, x_stride, acc);
  };
  if (kSteps > 1 && run_bytes == kSteps * kStepBytes) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) step(i);
  } else {
    const int bytes = run_bytes - static_cast<int>(threadIdx.x % 32) * 16;  // from the lane's on
#pragma unroll 1
    for (int i = 0; i < kSteps && i * kStepBytes < bytes; ++i) step(i);
  }
}

// Sums each of kCount values over the lanes, halving what a lane carries with every exchange; lane
// l returns the sum of value l / (32 / kCount). The tree is the same for every kCount.
template <int kCount>
__device__ float SumOverLanes(float (&values)[kCount]) {
  int count = kCount;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    if (count > 1) {
      count /= 2;
      const bool upper = threadIdx.x & distance;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i < count) {
          const float keep = upper ? values[i + count] : values[i];
          const float send = upper ? values[i] : values[i + count];
          values[i] = keep + __shfl_xor_sync(~0u, send, distance);
        }
      }
    } else {
      values[0] += __shfl_xor_sync(~0u, values[0], distance);
    }
  }
  return values[0];
}

// Which sum of a task a lane has at the end: kLanes lanes have the same one.
template <int kN, int kRows>
struct LaneSum {
  static constexpr int kLanes = 32 / (kRows * kN);
  static __device__ int Row() { return static_cast<int>(threadIdx.x % 32) / kLanes / kN; }
  static __device__ int N() { return static_cast<int>(threadIdx.x % 32) / kLanes % kN; }
};

// What the lane's sum is added to. Asked for when the task begins, it is there at its end; with
// eight rows of x there are no registers for it.
template <int kN>
constexpr bool kAsksEarly = kN < 8;
template <int kN, int kRows>
__device__ float LoadAddend(const MatvecParams& p, int task) {
  if (p.output != ProductOutput::kAdd) return 0;
  const WeightRow at = RowOfTask<kRows>(p, task, LaneSum<kN, kRows>::Row());
  const MatvecParams::Job& job = p.jobs[at.job];
  const int n = LaneSum<kN, kRows>::N();
  if (at.row >= job.rows || n >= p.num_rows) return 0;
  return LoadActivation(job.out + n * job.out_stride + at.row);
}

template <int kN, int kRows>
__device__ void Finish(const MatvecParams& p, int task, float inverse_rms, float addend,
                       float (&acc)[kRows * kN]) {
  float value = SumOverLanes(acc) * inverse_rms;
  const int n = LaneSum<kN, kRows>::N();
  const WeightRow at = RowOfTask<kRows>(p, task, LaneSum<kN, kRows>::Row());
  const MatvecParams::Job& job = p.jobs[at.job];
  const bool exists = at.row < job.rows && n < p.num_rows;
  if (exists) value = WithBias(job, at.row, value);
  bool writes = exists && threadIdx.x % LaneSum<kN, kRows>::kLanes == 0;
  if (kRows > 1 && p.output == ProductOutput::kSiluMul) {
    const float up = __shfl_xor_sync(~0u, value, 16);
    value = Silu(value) * up;
    writes = writes && at.job == 0;
  }
  if constexpr (!kAsksEarly<kN>) addend = LoadAddend<kN, kRows>(p, task);
  if (p.output == ProductOutput::kAdd) value = addend + value;
  if (writes) job.out[n * job.out_stride + at.row] = value;
}

template <DType kType, int kN, int kRows>
__global__ void __launch_bounds__(kMatvecThreads, 2)
    FloatMatvecKernel(const __grid_constant__ MatvecParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / 32;
  const Geometry<kType, kRows> geometry(p);
  WarpRing ring(shared + p.ring_offset + warp * p.num_stages * StageBytes(kType),
                reinterpret_cast<uint64_t*>(shared) + warp * kMaxStages, p.num_stages,
                StageBytes(kType));
  Feeder<kType, kRows> feeder(p, geometry);
  for (int i = 0; i < p.num_stages; ++i) feeder.Feed(&ring);
  PrefetchNorm(p);
  AllowNext();
  WaitForInputs();

  auto* reduce = reinterpret_cast<float*>(shared + kBarrierBytes);  // [kN][warps]
  auto* x = reinterpret_cast<float*>(shared + p.x_offset);
  auto* carry = reinterpret_cast<float*>(shared + p.carry_offset) + threadIdx.x;
  float squares[kN] = {};
  for (int pass = 0; pass < p.num_passes; ++pass) {
    const bool last = pass + 1 == p.num_passes;
    if (pass > 0) __syncthreads();
    StageX<kType>(p, pass, x, squares);
    if (last) PutSquares(squares, reduce);
    __syncthreads();
    // Of the row of x whose sums this lane will have.
    const float inverse_rms =
        last ? InverseRms(p, SumOfSquares(reduce, LaneSum<kN, kRows>::N())) : 1;
    const int steps = geometry.Steps(pass);
    int round = 0;
    for (int task = geometry.first_task; task < geometry.num_tasks; task += geometry.task_stride) {
      constexpr int kSums = kRows * kN;
      const float addend = kAsksEarly<kN> && last ? LoadAddend<kN, kRows>(p, task) : 0;
      float acc[kSums];
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        acc[i] = pass == 0 ? 0 : carry[(round * kSums + i) * kMatvecThreads];
      }
      for (int step = 0; step < steps; ++step) {
        Accumulate<kType, kN, kRows>(ring.Take(),
                                     geometry.RunBytes(pass * geometry.run_steps + step),
                                     x + step * Geometry<kType, kRows>::kRunCols, p.pass_cols, acc);
        feeder.Feed(&ring);
      }
      if (last) {
        Finish<kN, kRows>(p, task, inverse_rms, addend, acc);
      } else {
#pragma unroll
        for (int i = 0; i < kSums; ++i) carry[(round * kSums + i) * kMatvecThreads] = acc[i];
      }
      ++round;
    }
  }
}

template <DType kType>
cudaError_t Start(int rows, int task_rows, const MatvecParams& params, int grid, int shared_bytes,
                  cudaStream_t stream) {
  return LaunchForRows(rows, params, grid, shared_bytes, stream, [task_rows](auto n) {
    constexpr int kN = n;
    if constexpr (FewestFloatTaskRows(kN) <= 1) {
      if (task_rows == 1) return FloatMatvecKernel<kType, kN, 1>;
    }
    if constexpr (FewestFloatTaskRows(kN) <= 2) {
      if (task_rows == 2) return FloatMatvecKernel<kType, kN, 2>;
    }
    return FloatMatvecKernel<kType, kN, kFloatTaskRows>;
  });
}

}  // namespace

cudaError_t LaunchFloatMatvec(DType type, int rows, int task_rows, const MatvecParams& params,
                              int grid, int shared_bytes, cudaStream_t stream) {
  switch (type) {
    case DType::kF32:
      return Start<DType::kF32>(rows, task_rows, params, grid, shared_bytes, stream);
    case DType::kF16:
      return Start<DType::kF16>(rows, task_rows, params, grid, shared_bytes, stream);
    case DType::kBF16:
      return Start<DType::kBF16>(rows, task_rows, params, grid, shared_bytes, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tidal
