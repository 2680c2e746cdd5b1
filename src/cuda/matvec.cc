// Lays a call of few rows over the device: which warp does what, and what shared memory holds.
#include "cuda/matvec.h"

#include <algorithm>
#include <optional>

#include "base/math.h"
#include "cuda/matvec_shape.h"

namespace tidal {
namespace {

// What a block may have of a multiprocessor's 228 KB of shared memory, of which the system takes 1
// KB a block. F16 and BF16 products take all of it: a stage of theirs is free when the last of
// eight warps is done with it, so that they need many (with eight rows of x, the products of a
// step of Llama-3-8B took 5.03 ms with the parts below and 4.32 with all, in an earlier form). Of
// the others blocks of two kernels share it, so that one fills its rings while the other ends. The
// products of a step take the two parts in turn, those that add to the residual stream the large
// one, which no multiprocessor has twice: behind attention, whose blocks end one by one, two blocks
// of the output product would lie on one multiprocessor and others have none (with the small part
// for both, Llama-2-7B with seven selection layers at 102,400 tokens took 5.85 instead of 4.62 ms,
// with the bf16 kernel of that time). Without a neighbour, all of it.
constexpr int64_t kSmallSharedBytes = 98 * 1024;
constexpr int64_t kLargeSharedBytes = (228 - 2) * 1024 - kSmallSharedBytes;
constexpr int64_t kAllSharedBytes = 227 * 1024;
// More than half, which a block of the large part asks for however its stages add up.
constexpr int64_t kUnpairedSharedBytes = (228 / 2 - 1) * 1024 + 128;
constexpr int kFewestStages = 3;  // one in use, two on their way
constexpr int kSharedAlign = 128;
constexpr int kRingAlign = 1024;  // as boxes want it

enum class Kernel : uint8_t {
  kFloat,   // matvec_float.cu, F32
  kHalf,    // matvec_half.cu, F16 and BF16
  kPacked,  // matvec_packed.cu
};
Kernel KernelFor(const ProductCall& call) {
  const DType type = call.jobs[0].weight->dtype;
  if (IsTiled(type)) return Kernel::kPacked;
  return type == DType::kF32 ? Kernel::kFloat : Kernel::kHalf;
}

struct Plan {
  Kernel kernel = Kernel::kFloat;
  int grid = 0;
  int rows = 0;  // of x, as compiled
  int shared_bytes = 0;
  MatvecParams params;
  int chunk_tasks = 0;  // kHalf: as in HalfMatvecParams
  int x_depth = 0;
};

bool IsGated(const ProductCall& call) { return call.output == ProductOutput::kSiluMul; }

// Weight rows of a task, of each matrix whose rows it pairs.
int TaskRows(const ProductCall& call, Kernel kernel) {
  if (kernel == Kernel::kPacked) return kTileRows;
  return (kernel == Kernel::kHalf ? kHalfTaskRows : kFloatTaskRows) / (IsGated(call) ? 2 : 1);
}

// A block's tasks, of the block that has most, counting one for each warp where warps have their
// own.
int64_t RoundsOf(Kernel kernel, int64_t tasks, int64_t grid) {
  return CeilDiv(tasks, kernel == Kernel::kFloat ? grid * kMatvecWarps : grid);
}

// Bytes of each part of shared memory for `cols` columns of x at once.
struct SharedParts {
  int64_t x = 0;
  int64_t carry = 0;
  int64_t stage = 0;  // of all warps
};

SharedParts PartsFor(const ProductCall& call, const Plan& plan, int64_t cols, int64_t rounds,
                     bool several_passes) {
  const DType type = call.jobs[0].weight->dtype;
  SharedParts parts;
  parts.stage = kMatvecWarps * StageBytes(type);
  const int64_t staged = RoundUp(cols, kXAlignCols);
  const int matrices = IsGated(call) ? 2 : 1;
  if (plan.kernel == Kernel::kPacked) {
    parts.x = PackedXBytes(type, plan.rows, staged) + PackedPartialBytes(plan.rows);
    if (several_passes) parts.carry = rounds * matrices * PackedCarryBytes(plan.rows);
  } else {
    parts.x = plan.rows * staged * static_cast<int64_t>(sizeof(float));
    if (several_passes) parts.carry = rounds * FloatCarryBytes(plan.rows);
  }
  parts.x = RoundUp(parts.x, kSharedAlign);
  parts.carry = RoundUp(parts.carry, kSharedAlign);
  return parts;
}

// The same for matvec_half.cu, whatever the columns.
SharedParts HalfParts(const Plan& plan) {
  return {.x = kMatvecWarps * plan.x_depth * HalfXBytes(plan.params.num_rows),
          .carry = HalfSumBytes(plan.params.num_rows, plan.chunk_tasks),
          .stage = kHalfStageBytes};
}

bool Place(const SharedParts& parts, int64_t budget, Plan* plan) {
  const int64_t used = RoundUp(kFixedBytes + parts.x + parts.carry, kRingAlign);
  const int64_t stages = std::min<int64_t>((budget - used) / parts.stage, kMaxStages);
  if (used > budget || stages < kFewestStages) return false;
  plan->params.num_stages = static_cast<int32_t>(stages);
  plan->params.x_offset = kFixedBytes;
  plan->params.carry_offset = static_cast<int32_t>(kFixedBytes + parts.x);
  plan->params.ring_offset = static_cast<int32_t>(used);
  plan->shared_bytes = static_cast<int>(used + stages * parts.stage);
  return true;
}

// x at once in a part of the shared memory, of which a block may have max_bytes, or in all of it,
// or the widest passes that fit.
bool PlaceInShared(const ProductCall& call, int64_t rounds, int64_t max_bytes, Plan* plan) {
  const int64_t cols = call.jobs[0].weight->cols;
  MatvecParams& params = plan->params;
  params.num_passes = 1;
  params.pass_cols = static_cast<int32_t>(RoundUp(cols, kXAlignCols));
  const SharedParts whole = PartsFor(call, *plan, cols, rounds, false);
  const bool takes_large = call.output == ProductOutput::kAdd;
  const int64_t part = takes_large ? kLargeSharedBytes : kSmallSharedBytes;
  for (const int64_t budget : {part, kLargeSharedBytes, kAllSharedBytes}) {
    if (!Place(whole, std::min(budget, max_bytes), plan)) continue;
    const int64_t least = takes_large ? std::min(kUnpairedSharedBytes, max_bytes) : 0;
    plan->shared_bytes = std::max(plan->shared_bytes, static_cast<int>(least));
    return true;
  }
  for (int64_t quanta = CeilDiv(cols, kPassQuantum) - 1; quanta >= 1; --quanta) {
    const int64_t pass_cols = quanta * kPassQuantum;
    params.num_passes = static_cast<int32_t>(CeilDiv(cols, pass_cols));
    params.pass_cols = static_cast<int32_t>(pass_cols);
    const SharedParts parts = PartsFor(call, *plan, pass_cols, rounds, true);
    if (Place(parts, std::min(kAllSharedBytes, max_bytes), plan)) return true;
  }
  return false;
}

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

void Describe(const ProductCall& call, int64_t num_rows, int task_rows, MatvecParams* params) {
  params->num_jobs = static_cast<int32_t>(call.jobs.size());
  params->cols = static_cast<int32_t>(call.jobs[0].weight->cols);
  params->x = call.x;
  params->x_stride = call.x_stride;
  params->num_rows = static_cast<int32_t>(num_rows);
  params->row_ids = call.row_ids;
  params->norm = call.norm;
  params->norm_eps = call.norm_eps;
  params->output = call.output;
  params->x_aligned =
      IsAligned(call.x) && IsAligned(call.norm) && call.x_stride % 4 == 0 && params->cols % 4 == 0;
  for (int i = 0; i < params->num_jobs; ++i) {
    const ProductJob& job = call.jobs[i];
    params->jobs[i] = {.weight = job.weight->data,
                       .rows = static_cast<int32_t>(job.weight->rows),
                       .out = job.out,
                       .out_stride = job.out_stride,
                       .bias = job.bias};
    const bool shares_tasks = IsGated(call) && i > 0;
    const int64_t tasks = shares_tasks ? 0 : CeilDiv(job.weight->rows, task_rows);
    params->task_begin[i + 1] = params->task_begin[i] + static_cast<int32_t>(tasks);
  }
}

std::optional<Plan> PlanCall(const ProductCall& call, int64_t num_rows,
                             const MatvecDevice& device) {
  if (num_rows < 1 || num_rows > kMaxMatvecRows || call.jobs.size() > kMaxMatvecJobs) return {};
  for (const ProductJob& job : call.jobs) {
    if (job.weight->dtype != call.jobs[0].weight->dtype) return {};
  }
  Plan plan;
  plan.kernel = KernelFor(call);
  plan.rows = CompiledRows(static_cast<int>(num_rows));
  MatvecParams& params = plan.params;
  Describe(call, num_rows, TaskRows(call, plan.kernel), &params);
  const int64_t tasks = params.task_begin[params.num_jobs];
  plan.grid = static_cast<int>(std::min<int64_t>(device.num_sms, tasks));
  const int64_t rounds = RoundsOf(plan.kernel, tasks, plan.grid);
  if (plan.kernel == Kernel::kHalf) {
    plan.chunk_tasks = static_cast<int>(HalfChunkTasks(rounds));
    plan.x_depth = static_cast<int>(HalfXDepth(plan.chunk_tasks));
    const int64_t budget = std::min<int64_t>(kAllSharedBytes, device.max_shared_bytes);
    if (!Place(HalfParts(plan), budget, &plan)) return {};
  } else if (!PlaceInShared(call, rounds, device.max_shared_bytes, &plan)) {
    return {};
  }
  return plan;
}

cudaError_t LaunchHalf(const ProductCall& call, const Plan& plan, const MatvecDevice& device,
                       cudaStream_t stream) {
  HalfMatvecParams params = {
      .boxes = {}, .p = plan.params, .chunk_tasks = plan.chunk_tasks, .x_depth = plan.x_depth};
  for (size_t i = 0; i < call.jobs.size() && device.maps.Exist(); ++i) {
    const cudaError_t error = device.maps.Make(*call.jobs[i].weight, &params.boxes[i]);
    if (error != cudaSuccess) return error;
  }
  return LaunchHalfMatvec(call.jobs[0].weight->dtype, params, plan.grid, plan.shared_bytes, stream);
}

}  // namespace

int64_t MatvecRows(const ProductCall& call, const MatvecDevice& device) {
  for (int64_t rows = std::min<int64_t>(call.num_rows, kMaxMatvecRows); rows > 0; rows /= 2) {
    if (PlanCall(call, rows, device).has_value()) return rows;
  }
  return 0;
}

cudaError_t LaunchMatvec(const ProductCall& call, const MatvecDevice& device, cudaStream_t stream) {
  const std::optional<Plan> plan = PlanCall(call, call.num_rows, device);
  if (!plan.has_value()) return cudaErrorInvalidValue;
  switch (plan->kernel) {
    case Kernel::kFloat:
      return LaunchFloatMatvec(plan->rows, plan->params, plan->grid, plan->shared_bytes, stream);
    case Kernel::kHalf:
      return LaunchHalf(call, *plan, device, stream);
    case Kernel::kPacked:
      return LaunchPackedMatvec(call.jobs[0].weight->dtype, plan->rows, plan->params, plan->grid,
                                plan->shared_bytes, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace tidal
