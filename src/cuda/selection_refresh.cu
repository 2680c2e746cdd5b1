// What      Whether a sequence's earlier sets of a layer are used again: refresh by cosine.
// Shapes    q of the step and kept queries [num_heads * head_dim] float32; fresh [num_sequences].
// Launch    a block of 256 threads per sequence.
// Bytes     both queries.
// Numerics  sums in double, in an order that no step changes.
// Oracle    selection_test.cc.
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kThreads = 256;

struct Products {
  double dot = 0;
  double now = 0;
  double then = 0;
};

__device__ Products SumOfBlock(const Products& mine) {
  __shared__ Products warps[kThreads / 32];
  const Products warp = {WarpSum(mine.dot), WarpSum(mine.now), WarpSum(mine.then)};
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = warp;
  __syncthreads();
  Products sum;
  for (const Products& part : warps) {
    sum.dot += part.dot;
    sum.now += part.now;
    sum.then += part.then;
  }
  return sum;
}

__device__ bool CanReuse(const ChoiceLaunch& c, int32_t sequence) {
  const ChoiceParams& params = c.params[sequence];
  if (params.kept.headers == nullptr) return false;
  const KeptHeader kept = params.kept.headers[c.layer];
  if (kept.kv_len == 0 || kept.generation != params.generation) return false;
  const int32_t count = c.num_heads * c.kv.head_dim;
  const float* q = QueryOf(c, sequence);
  const float* before = params.kept.queries + int64_t{c.layer} * count;
  Products mine;
  for (int32_t i = threadIdx.x; i < count; i += kThreads) {
    const double now = q[i];
    const double then = before[i];
    mine.dot += now * then;
    mine.now += now * now;
    mine.then += then * then;
  }
  const Products sum = SumOfBlock(mine);
  return sum.dot / sqrt(sum.now * sum.then) >= params.refresh_cosine;
}

__global__ void __launch_bounds__(kThreads) DecideKernel(ChoiceLaunch c) {
  WaitForInputs();
  AllowNext();
  const auto sequence = static_cast<int32_t>(blockIdx.x);
  const bool fresh = !Chooses(c, sequence) || !CanReuse(c, sequence);
  if (threadIdx.x == 0) c.fresh[sequence] = fresh ? 1 : 0;
}

}  // namespace

cudaError_t LaunchDecide(const ChoiceLaunch& launch, cudaStream_t stream) {
  return Launch(DecideKernel, dim3(static_cast<unsigned>(launch.step.num_sequences)),
                dim3(kThreads), 0, stream, launch);
}

}  // namespace tidal
