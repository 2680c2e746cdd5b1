// What      merge=rank: tokens in the order of their best rank over a set's heads, ties of ranks by
//           the heads' order; as ordered integers, the higher the earlier.
// Shapes    ranked int32 [num_heads][max_tokens], each head's best tokens by position, num_ranked
//           [num_heads]; ordered uint32 [num_sets][max_tokens].
// Launch    two blocks of 256 threads per multiprocessor; a block per head and 256 of its tokens.
// Bytes     each head's n best are compared with each other: n^2 / 256 * 8 per head, from cache.
//           For the budgets that the merge is used with (some hundred to some thousand).
// Numerics  exact.
// Oracle    selection_test.cc.
// Source    LessIsMore's merge, as docs/attention_plans.md defines it.
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kThreads = 256;

__device__ __forceinline__ bool Ranks(const ChoiceLaunch& c, int32_t sequence) {
  const ChoiceParams& params = c.params[sequence];
  return Chooses(c, sequence) && params.merge == Merge::kRank && ScoresTokens(params.scorer) &&
         IsFresh(c, sequence);
}
// All that compete are wanted: their order does not matter.
__device__ __forceinline__ bool TakesAll(const ChoiceParams& params) {
  return params.wanted >= params.always_end - params.always_begin - params.num_keep;
}

__global__ void __launch_bounds__(kThreads) ClearKernel(ChoiceLaunch c) {
  WaitForInputs();
  AllowNext();
  for (int32_t s = 0; s < c.step.num_sequences; ++s) {
    if (!Ranks(c, s)) continue;
    const ChoiceParams& params = c.params[s];
    const uint32_t value = TakesAll(params) ? 1 : 0;
    const int32_t kv_len = c.step.sequences[s].kv_len;
    for (int32_t set = 0; set < params.num_sets; ++set) {
      uint32_t* ordered = params.ordered + int64_t{set} * c.max_tokens;
      for (auto i = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x); i < kv_len;
           i += static_cast<int32_t>(gridDim.x * kThreads))
        ordered[i] = value;
    }
  }
}

// 256 of a head's tokens: how many of all rank before each.
__device__ void RankChunk(const ChoiceLaunch& c, const ChoiceParams& params, int32_t head,
                          int32_t first) {
  __shared__ uint32_t others[kThreads];
  const int32_t* positions = params.ranked + int64_t{head} * c.max_tokens;
  const float* scores = static_cast<const float*>(params.scores) + int64_t{head} * c.max_tokens;
  const int32_t count = params.num_ranked[head];
  const int32_t me = first + static_cast<int32_t>(threadIdx.x);
  const uint32_t mine = me < count ? OrderedBits(scores[positions[me]]) : 0;
  uint32_t rank = 0;
  for (int32_t tile = 0; tile < count; tile += kThreads) {
    const int32_t other = tile + static_cast<int32_t>(threadIdx.x);
    __syncthreads();
    others[threadIdx.x] = other < count ? OrderedBits(scores[positions[other]]) : 0;
    __syncthreads();
    for (int32_t i = 0; i < min(kThreads, count - tile); ++i)
      rank += others[i] > mine || (others[i] == mine && tile + i < me) ? 1 : 0;
  }
  if (me >= count) return;
  const auto heads = static_cast<uint32_t>(params.heads_per_set);
  const uint32_t key = rank * heads + static_cast<uint32_t>(head) % heads;
  const int64_t set = head / params.heads_per_set;
  atomicMax(&params.ordered[set * c.max_tokens + positions[me]], 0xfffffffeu - key);
}

__global__ void __launch_bounds__(kThreads) RankKernel(ChoiceLaunch c) {
  extern __shared__ int32_t begins[];
  WaitForInputs();
  AllowNext();
  const auto chunks_of = [&](int32_t s) { return (c.params[s].wanted + kThreads - 1) / kThreads; };
  const auto items_of = [&](int32_t s) {
    return Ranks(c, s) && !TakesAll(c.params[s]) ? chunks_of(s) * c.num_heads : 0;
  };
  BeginsOfSequences(c.step.num_sequences, items_of, begins);
  for (auto item = static_cast<int32_t>(blockIdx.x); item < begins[c.step.num_sequences];
       item += static_cast<int32_t>(gridDim.x)) {
    const int32_t s = SequenceOf(begins, item);
    const int32_t chunks = chunks_of(s);
    RankChunk(c, c.params[s], (item - begins[s]) / chunks, (item - begins[s]) % chunks * kThreads);
  }
}

}  // namespace

cudaError_t LaunchRank(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                       const TopKShape& shape, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(2 * geometry.num_sms));
  cudaError_t error = LaunchHeads(launch, shape, stream);
  if (error == cudaSuccess) error = Launch(ClearKernel, grid, dim3(kThreads), 0, stream, launch);
  if (error != cudaSuccess) return error;
  const size_t shared_bytes =
      sizeof(int32_t) * (static_cast<size_t>(launch.step.num_sequences) + 1);
  return Launch(RankKernel, grid, dim3(kThreads), shared_bytes, stream, launch);
}

}  // namespace tidal
