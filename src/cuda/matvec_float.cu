// What      y = W x for 1 to 8 rows of x and weights of F32; RMS norm in front, bias, addition or
//           silu(gate) * up behind.
// Shapes    W [rows][cols] (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block of 8 warps per multiprocessor; task t, 4 weight rows, belongs to warp t % 8
//           of block t / 8 % grid, so that what a multiprocessor reads at a time lies together.
//           Each warp streams its rows through a ring of 2 KB stages in shared memory, filled
//           before WaitForInputs: while the kernel before drains and x is normed, the memory keeps
//           reading. The next kernel's blocks fill theirs beside it (matvec.cc).
// Bytes     W once, x once per multiprocessor from L2.
// Speed     not watched: models of F32 weights are made for comparing.
// Numerics  float32 multiply-adds, in column order within a lane, then a tree over the lanes. Fixed
//           order: the result of a row of x does not depend on the other rows nor on their number.
// Oracle    DequantizeRow and sums in double; products_test.cc.
#include "cuda/launch.cuh"
#include "cuda/matvec_common.cuh"
#include "cuda/matvec_ring.cuh"

namespace tidal {
namespace {

// A stage holds a run of each row of a task: a vector of 16 bytes for each lane.
constexpr int kRunBytes = kFloatStageBytes / kFloatTaskRows;
constexpr int kRunCols = kRunBytes / 4;
static_assert(kRunBytes == 32 * 16);

struct Geometry {
  int num_tasks;
  int first_task;
  int task_stride;
  int row_bytes;
  int run_steps;  // of a whole pass

  __device__ explicit Geometry(const MatvecParams& p)
      : num_tasks(p.task_begin[p.num_jobs]),
        first_task(static_cast<int>(blockIdx.x * kMatvecWarps + threadIdx.x / 32)),
        task_stride(static_cast<int>(gridDim.x) * kMatvecWarps),
        row_bytes(static_cast<int>(FloatRowBytes(DType::kF32, p.cols))),
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
class Feeder {
 public:
  __device__ Feeder(const MatvecParams& p, const Geometry& geometry)
      : p_(p), geometry_(geometry), task_(geometry.first_task) {
    if (task_ >= geometry_.num_tasks) pass_ = p_.num_passes;
    FindRow();
  }
  __device__ void Feed(WarpRing* ring) {
    if (pass_ == p_.num_passes) return;
    const int step = pass_ * geometry_.run_steps + step_;
    ring->Fill(row_ + static_cast<int64_t>(step) * kRunBytes, geometry_.RunBytes(step),
               kFloatTaskRows);
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
    const WeightRow at =
        RowOfTask<kFloatTaskRows>(p_, task_, static_cast<int>(threadIdx.x % kFloatTaskRows));
    const MatvecParams::Job& job = p_.jobs[at.job];
    const int row = min(at.row, job.rows - 1);  // a task's missing rows repeat the last one
    row_ = job.weight + static_cast<int64_t>(row) * geometry_.row_bytes;
  }

  const MatvecParams& p_;
  const Geometry& geometry_;
  int task_;
  int pass_ = 0;
  int step_ = 0;
  const uint8_t* row_ = nullptr;  // of lane i: the task's row i % kFloatTaskRows
};

// x of a pass, times the norm's weights, to shared memory; adds up the squares of x.
template <int kN>
__device__ void StageX(const MatvecParams& p, int pass, float* x, float (&squares)[kN]) {
  ForEachQuad<kN>(p, pass * p.pass_cols, StagedCols(p, pass),
                  [&](int n, int col, float4 v, float4 norm) {
                    squares[n] += Square(v);
                    *reinterpret_cast<float4*>(x + n * p.pass_cols + col) = Times(v, norm);
                  });
}

// acc[i * kN + n] += row i of the stage times row n of x.
template <int kN>
__device__ __forceinline__ void Accumulate(const uint8_t* stage, int run_bytes, const float* x,
                                           int x_stride, float (&acc)[kFloatTaskRows * kN]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (lane * 16 >= run_bytes) return;
  float4 weights[kFloatTaskRows];
#pragma unroll
  for (int i = 0; i < kFloatTaskRows; ++i)
    weights[i] = *reinterpret_cast<const float4*>(stage + i * run_bytes + lane * 16);
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float4 v = *reinterpret_cast<const float4*>(x + n * x_stride + lane * 4);
#pragma unroll
    for (int i = 0; i < kFloatTaskRows; ++i) {
      float& sum = acc[i * kN + n];
      sum = fmaf(weights[i].x, v.x, sum);
      sum = fmaf(weights[i].y, v.y, sum);
      sum = fmaf(weights[i].z, v.z, sum);
      sum = fmaf(weights[i].w, v.w, sum);
    }
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
template <int kN>
struct LaneSum {
  static constexpr int kLanes = 32 / (kFloatTaskRows * kN);
  static __device__ int Row() { return static_cast<int>(threadIdx.x % 32) / kLanes / kN; }
  static __device__ int N() { return static_cast<int>(threadIdx.x % 32) / kLanes % kN; }
};

template <int kN>
__device__ void Finish(const MatvecParams& p, int task, float inverse_rms,
                       float (&acc)[kFloatTaskRows * kN]) {
  float value = SumOverLanes(acc) * inverse_rms;
  const int n = LaneSum<kN>::N();
  const WeightRow at = RowOfTask<kFloatTaskRows>(p, task, LaneSum<kN>::Row());
  const MatvecParams::Job& job = p.jobs[at.job];
  const bool exists = at.row < job.rows && n < p.num_rows;
  if (exists) value = WithBias(job, at.row, value);
  bool writes = exists && threadIdx.x % LaneSum<kN>::kLanes == 0;
  if (p.output == ProductOutput::kSiluMul) {
    const float up = __shfl_xor_sync(~0u, value, 16);
    value = Silu(value) * up;
    writes = writes && at.job == 0;
  }
  if (!writes) return;
  float* out = job.out + n * job.out_stride + at.row;
  if (p.output == ProductOutput::kAdd) value = LoadActivation(out) + value;
  *out = value;
}

template <int kN>
__global__ void __launch_bounds__(kMatvecThreads, 2)
    FloatMatvecKernel(const __grid_constant__ MatvecParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / 32;
  const Geometry geometry(p);
  WarpRing ring(shared + p.ring_offset + warp * p.num_stages * kFloatStageBytes,
                reinterpret_cast<uint64_t*>(shared) + warp * kMaxStages, p.num_stages,
                kFloatStageBytes);
  Feeder feeder(p, geometry);
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
    StageX(p, pass, x, squares);
    if (last) PutSquares(squares, reduce);
    __syncthreads();
    // Of the row of x whose sums this lane will have.
    const float inverse_rms = last ? InverseRms(p, SumOfSquares(reduce, LaneSum<kN>::N())) : 1;
    const int steps = geometry.Steps(pass);
    int round = 0;
    for (int task = geometry.first_task; task < geometry.num_tasks; task += geometry.task_stride) {
      constexpr int kSums = kFloatTaskRows * kN;
      float acc[kSums];
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        acc[i] = pass == 0 ? 0 : carry[(round * kSums + i) * kMatvecThreads];
      }
      for (int step = 0; step < steps; ++step) {
        Accumulate<kN>(ring.Take(), geometry.RunBytes(pass * geometry.run_steps + step),
                       x + step * kRunCols, p.pass_cols, acc);
        feeder.Feed(&ring);
      }
      if (last) {
        Finish<kN>(p, task, inverse_rms, acc);
      } else {
#pragma unroll
        for (int i = 0; i < kSums; ++i) carry[(round * kSums + i) * kMatvecThreads] = acc[i];
      }
      ++round;
    }
  }
}

}  // namespace

cudaError_t LaunchFloatMatvec(int rows, const MatvecParams& params, int grid, int shared_bytes,
                              cudaStream_t stream) {
  return LaunchForRows(rows, params, grid, shared_bytes, stream, [](auto n) {
    constexpr int kN = n;
    return FloatMatvecKernel<kN>;
  });
}

}  // namespace tidal
