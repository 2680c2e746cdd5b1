// What      y = W x for 1 to 8 rows of x and weights of F16 or BF16 on tensor cores; RMS norm in
//           front, bias, addition or silu(gate) * up behind.
// Shapes    W [rows][cols] (weight_layout.h), x [num_rows][cols] f32, out [num_rows][rows] f32.
// Launch    one block per multiprocessor; task t (16 weight rows; of gate and up 8 each) belongs to
//           block t % grid. One warp copies stages of 16 rows by 512 columns to a ring in shared
//           memory, filled before WaitForInputs: while the kernel before drains, the memory keeps
//           reading. Eight warps multiply, each its own 64 columns of every stage. A block has all
//           of a multiprocessor's shared memory (matvec.cc).
// Bytes     W once; x from L2 once per multiprocessor and eight tasks, for which it stays in
//           registers as the tensor cores want it (matvec_half_x.cuh).
// Speed     one to eight rows of x take the same time: a bf16 step's products of Llama-3-8B, one
//           behind the other, read at 87 to 88 % of an H200's rate (gate and up at 95 %), since
//           each leaves the memory idle for some 4 us.
// Numerics  exact products of x in three parts (matvec_half_x.cuh); sums of 64 columns on tensor
//           cores, which cut off below the last place, then float32 over a warp's columns and over
//           the warps. Fixed order: the result of a row of x does not depend on the other rows nor
//           on their number.
// Oracle    DequantizeRow and sums in double; products_test.cc.
#include "cuda/launch.cuh"
#include "cuda/matvec_block_ring.cuh"
#include "cuda/matvec_common.cuh"
#include "cuda/matvec_half_x.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace {

constexpr int kFeederWarp = kMatvecWarps;
constexpr int kThreads = kMatvecThreads + 32;
static_assert(2 * kMaxStages + kMatvecWarps * kMaxHalfXDepth <= kBarrierBytes / 8);

// The block's tasks, in chunks, and the passes over the columns of each chunk: in a pass every task
// has one stage.
struct Share {
  int num_tasks;
  int num_passes;

  __device__ explicit Share(const MatvecParams& p)
      : num_tasks((p.task_begin[p.num_jobs] - static_cast<int>(blockIdx.x) +
                   static_cast<int>(gridDim.x) - 1) /
                  static_cast<int>(gridDim.x)),
        num_passes((p.cols + kHalfPassCols - 1) / kHalfPassCols) {}
  __device__ int ChunkTasks(const HalfMatvecParams& half, int chunk) const {
    return min(half.chunk_tasks, num_tasks - chunk);
  }
  static __device__ int Task(int i) {
    return static_cast<int>(blockIdx.x) + i * static_cast<int>(gridDim.x);
  }
};

// The box of a stage that begins at this row, as BoxCopy lays it out.
__device__ void CopyBox(const HalfMatvecParams& half, const WeightRow& at, int group, uint8_t* to,
                        const StageCopy& copy) {
#if __CUDA_ARCH__ >= 900
  copy.Box(to, &half.boxes[at.job], at.row, group);
#else
  const MatvecParams::Job& job = half.p.jobs[at.job];
  const int64_t row_bytes = FloatRowBytes(DType::kBF16, half.p.cols);
  for (int i = static_cast<int>(threadIdx.x % 32); i < kBoxBytes / 16; i += 32) {
    const int chunk = i % 8;
    const int row = i / 8 % kBoxRows;
    const int64_t byte = (group + i / 8 / kBoxRows) * int64_t{kBoxGroupBytes} + chunk * 16;
    const bool exists = at.row + row < job.rows && byte < row_bytes;
    const uint8_t* from = job.weight + (exists ? (at.row + row) * row_bytes + byte : 0);
    CopyAsync16(to + (i - chunk + (chunk ^ row)) * 16, from, exists);
  }
#endif
}

// The warp that starts the copies.
__device__ void FeedStages(const HalfMatvecParams& half, const Share& share, BlockRing ring) {
  if (threadIdx.x % 32 == 0) ring.InitBarriers(kMatvecWarps);
  SyncThreads(kStartBarrier, kThreads);
  int count = 0;
  const auto feed = [&](int task, int pass) {
    if (count++ >= half.p.num_stages) ring.WaitForFree();
    ring.Fill(kHalfStageBytes, [&](uint8_t* to, const StageCopy& copy) {
#pragma unroll
      for (int box = 0; box < 2; ++box) {
        const WeightRow at = RowOfTask<kHalfTaskRows>(half.p, Share::Task(task), box * kBoxRows);
        CopyBox(half, at, pass * kBoxGroups, to + box * kBoxBytes, copy);
      }
    });
    if (count == half.p.num_stages) AllowNext();
  };
  for (int chunk = 0; chunk < share.num_tasks; chunk += half.chunk_tasks) {
    for (int pass = 0; pass < share.num_passes; ++pass) {
      for (int task = 0; task < share.ChunkTasks(half, chunk); ++task) feed(chunk + task, pass);
    }
  }
  AllowNext();
  ring.Drain();
}

// The warp's part of a stage, transposed, times x: what its columns add to the lane's sums of row
// lane / 4 of x, for the weight rows 2 * (lane % 4) and the next one of each box.
template <DType kType>
__device__ __forceinline__ float4 MultiplyStage(const uint8_t* stage, const SplitX& x) {
  const int row = static_cast<int>(threadIdx.x % 32) / 4;  // of a box, whose columns this lane has
  const int chunk = static_cast<int>(threadIdx.x % 4) * 2;
  const uint8_t* at = stage + threadIdx.x / 32 * (kBoxRows * kBoxGroupBytes) + row * kBoxGroupBytes;
  uint4 w[2][2];  // 8 columns each of row `row` of a box
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int box = 0; box < 2; ++box)
      w[i][box] = *reinterpret_cast<const uint4*>(at + box * kBoxBytes + ((chunk + i) ^ row) * 16);
  }
  float firsts[2][4] = {};
  float thirds[2][2][4] = {};
#pragma unroll
  for (int step = 0; step < kHalfSteps; ++step) {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      const uint4& v = w[step / 2][box];
      const uint32_t low = step % 2 == 0 ? v.x : v.z;
      const uint32_t high = step % 2 == 0 ? v.y : v.w;
      MatMul16x8x16<Half<kType>>(firsts[box], x.first[step], low, high);
      MatMul16x8x16<Half<kType>>(thirds[box][step % 2], x.third[step / 2], low, high);
    }
  }
  const auto sum = [&](int box, int i) {
    return firsts[box][i] + (firsts[box][2 + i] + (thirds[box][0][i] + thirds[box][1][2 + i]));
  };
  return {sum(0, 0), sum(0, 1), sum(1, 0), sum(1, 1)};
}

// Where the warps keep their sums of a chunk: [tasks][warps][num_rows][4 lanes][4].
__device__ __forceinline__ int PartialOf(const MatvecParams& p, int warp, int task, int n) {
  return ((task * kMatvecWarps + warp) * p.num_rows + n) * kHalfTaskRows;
}

// A thread's results of a chunk: of one row of x and one place in a task, of every kTasksAtOnce-th
// task from the first one on.
template <bool kPairs>
struct Results {
  static constexpr int kRows = kPairs ? kBoxRows : kHalfTaskRows;
  static constexpr int kTasksAtOnce = kMatvecThreads / (kRows * kMaxMatvecRows);

  const MatvecParams& p;
  int row = static_cast<int>(threadIdx.x) % kRows;
  int n = static_cast<int>(threadIdx.x) / kRows % kMaxMatvecRows;
  int first = static_cast<int>(threadIdx.x) / kRows / kMaxMatvecRows;

  // Calls use(task, its place in weights, where the result goes) for each.
  template <typename Use>
  __device__ __forceinline__ void ForEach(int chunk, int tasks, const Use& use) const {
    if (n >= p.num_rows) return;
    for (int task = first; task < tasks; task += kTasksAtOnce) {
      const WeightRow at = RowOfTask<kHalfTaskRows>(p, Share::Task(chunk + task), row);
      const MatvecParams::Job& job = p.jobs[at.job];
      if (at.row < job.rows) use(task, at, job.out + n * job.out_stride + at.row);
    }
  }
  // Where what a result is added to is kept from the chunk's start on.
  __device__ __forceinline__ float* Addend(float* addends, int task) const {
    return addends + (task * p.num_rows + n) * kHalfTaskRows + row;
  }
};

__device__ __forceinline__ void BringAddends(const MatvecParams& p, int chunk, int tasks,
                                             float* addends) {
  const Results<false> results{p};
  results.ForEach(chunk, tasks, [&](int task, const WeightRow&, const float* out) {
    CopyAsync4(results.Addend(addends, task), out, true);
  });
}

__device__ __forceinline__ float SumOfWarps(const MatvecParams& p, const float* partial, int task,
                                            int n, int row) {
  const int place = row % kBoxRows / 2 * 4 + row / kBoxRows * 2 + row % 2;  // as lanes keep them
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kMatvecWarps; ++warp)
    sum += partial[PartialOf(p, warp, task, n) + place];
  return sum;
}

// Adds up the warps' sums of a chunk's tasks and puts results.
template <bool kPairs>
__device__ void PutResults(const MatvecParams& p, int chunk, int tasks, const float* partial,
                           float* addends, const float* squares_of_warps) {
  const Results<kPairs> results{p};
  if (results.n >= p.num_rows) return;
  const float inverse_rms = InverseRms(p, SumOfSquares(squares_of_warps, results.n));
  results.ForEach(chunk, tasks, [&](int task, const WeightRow& at, float* out) {
    const auto sum = [&](int row) {
      return SumOfWarps(p, partial, task, results.n, row) * inverse_rms;
    };
    float value = WithBias(p.jobs[at.job], at.row, sum(results.row));
    if constexpr (kPairs) {
      value = Silu(value) * WithBias(p.jobs[1], at.row, sum(results.row + kBoxRows));
    }
    if (p.output == ProductOutput::kAdd) value = *results.Addend(addends, task) + value;
    *out = value;
  });
}

// One of the warps that multiply.
template <DType kType, bool kAligned>
__device__ void MultiplyAndPut(const HalfMatvecParams& half, const Share& share,
                               float* squares_of_warps, float* partial, float4* x_memory,
                               uint64_t* x_barriers, BlockRing ring) {
  const MatvecParams& p = half.p;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int row = static_cast<int>(threadIdx.x % 32) / 4;  // of x
  auto* kept = reinterpret_cast<float4*>(partial + PartialOf(p, warp, 0, row)) + threadIdx.x % 4;
  const int kept_stride = kMatvecWarps * p.num_rows * (kHalfTaskRows / 4);
  const int depth = min(half.x_depth, share.num_passes);
  XRing x_ring(p, x_memory + warp * depth * XRing::SlotQuads(p), x_barriers + warp * kMaxHalfXDepth,
               depth);
  for (int i = 0; i < depth; ++i) x_ring.BringNorm<kAligned>(i, i);
  SyncThreads(kStartBarrier, kThreads);
  WaitForInputs();
  x_ring.FindRows();
  for (int i = 0; i < depth; ++i) x_ring.BringX<kAligned>(i, i);
  float* addends = partial + kMatvecWarps * half.chunk_tasks * p.num_rows * kHalfTaskRows;
  const int chunks = (share.num_tasks + half.chunk_tasks - 1) / half.chunk_tasks;
  int passes_left = chunks * share.num_passes - depth;  // whose x is not on its way
  int next_pass = depth % share.num_passes;
  float squares = 0;
  for (int chunk = 0; chunk < share.num_tasks; chunk += half.chunk_tasks) {
    const int tasks = share.ChunkTasks(half, chunk);
    if (chunk > 0) SyncThreads(kWorkBarrier, kMatvecThreads);
    if (p.output == ProductOutput::kAdd) BringAddends(p, chunk, tasks, addends);
    for (int pass = 0; pass < share.num_passes; ++pass) {
      float4 quads[kHalfSteps];
      float4 norm[kHalfSteps];
      x_ring.Take(quads, norm);
      if (p.norm != nullptr) {
#pragma unroll
        for (int i = 0; i < kHalfSteps; ++i) {
          if (chunk == 0) squares += Square(quads[i]);
          quads[i] = Times(quads[i], norm[i]);
        }
      }
      SplitX x;
      Split<kType>(quads, &x);
      const int slot = x_ring.Release();
      if (passes_left-- > 0) {
        x_ring.BringNorm<kAligned>(next_pass, slot);
        x_ring.BringX<kAligned>(next_pass, slot);
        next_pass = next_pass + 1 == share.num_passes ? 0 : next_pass + 1;
      }
#pragma unroll 1
      for (int task = 0; task < tasks; ++task) {
        float4* at = kept + task * kept_stride;
        float4 before = {0, 0, 0, 0};
        if (pass > 0 && row < p.num_rows) before = *at;
        float4 sums = MultiplyStage<kType>(ring.Take(), x);
        ring.Release();
        if constexpr (kType == DType::kF16) sums = Times(sums, x.unscale);
        if (row < p.num_rows) *at = Sum(before, sums);
      }
    }
    if (chunk == 0) {
      squares += __shfl_xor_sync(~0u, squares, 1);
      squares += __shfl_xor_sync(~0u, squares, 2);
      if (threadIdx.x % 4 == 0) squares_of_warps[row * kMatvecWarps + warp] = squares;
    }
    WaitForAllCopies();  // the thread's own addends
    SyncThreads(kWorkBarrier, kMatvecThreads);
    if (p.output == ProductOutput::kSiluMul) {
      PutResults<true>(p, chunk, tasks, partial, addends, squares_of_warps);
    } else {
      PutResults<false>(p, chunk, tasks, partial, addends, squares_of_warps);
    }
  }
}

template <DType kType, bool kAligned>
__global__ void __launch_bounds__(kThreads, 1)
    HalfMatvecKernel(const __grid_constant__ HalfMatvecParams half) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const MatvecParams& p = half.p;
  const Share share(p);
  const BlockRing ring(shared + p.ring_offset, reinterpret_cast<uint64_t*>(shared), p.num_stages,
                       kHalfStageBytes);
  if (threadIdx.x / 32 == kFeederWarp) return FeedStages(half, share, ring);
  auto* squares_of_warps = reinterpret_cast<float*>(shared + kBarrierBytes);  // [rows][warps]
  auto* x_memory = reinterpret_cast<float4*>(shared + p.x_offset);
  auto* x_barriers = reinterpret_cast<uint64_t*>(shared) + 2 * kMaxStages;
  auto* partial = reinterpret_cast<float*>(shared + p.carry_offset);
  MultiplyAndPut<kType, kAligned>(half, share, squares_of_warps, partial, x_memory, x_barriers,
                                  ring);
}

}  // namespace

cudaError_t LaunchHalfMatvec(DType type, const HalfMatvecParams& params, int grid, int shared_bytes,
                             cudaStream_t stream) {
  const auto launch = [&](auto kernel) {
    return LaunchPrepared(kernel, params, grid, shared_bytes, stream, kThreads);
  };
  const bool aligned = params.p.x_aligned;
  if (type == DType::kF16) {
    return launch(aligned ? HalfMatvecKernel<DType::kF16, true>
                          : HalfMatvecKernel<DType::kF16, false>);
  }
  if (type == DType::kBF16) {
    return launch(aligned ? HalfMatvecKernel<DType::kBF16, true>
                          : HalfMatvecKernel<DType::kBF16, false>);
  }
  return cudaErrorInvalidValue;
}

}  // namespace tidal
