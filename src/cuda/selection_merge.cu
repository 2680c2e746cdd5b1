// What      The heads of a set merged: for each token the sum of their probabilities, and where a
//           plan ranks by it their maximum; a histogram of the values for the top-k.
// Shapes    scores [num_heads][max_tokens] as the scan left them; masses and values float32
//           [num_sets][max_tokens]; bins [num_sets][kTopKBins].
// Launch    two blocks of 8 warps per multiprocessor, each with an equal run of (set, page); a warp
//           per page, a lane for two tokens.
// Bytes     2 or 4 per token and head read, 4 per token and set written; per block 8 per unit of 8
//           pages and head.
// Numerics  float32, heads in order; no result depends on the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cc.
#include <cuda_fp16.h>

#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kWarps = kThreads / 32;

// What a block has of the set at hand.
struct MergeMemory {
  float* maximum;   // [heads_per_set] of all scores of a head
  float* inverse;   // [heads_per_set] 1 / sum of e^(score - maximum)
  uint32_t* bins;   // [kTopKBins]
  int32_t* begins;  // [num_sequences + 1]
};

__device__ __forceinline__ MergeMemory SplitMemory(uint32_t* memory, int32_t num_heads) {
  auto* floats = reinterpret_cast<float*>(memory + kTopKBins);
  return {floats, floats + num_heads, memory, reinterpret_cast<int32_t*>(floats + 2 * num_heads)};
}
int32_t MergeSharedBytes(int32_t num_heads, int32_t num_sequences) {
  return 4 * (kTopKBins + 2 * num_heads + num_sequences + 1);
}

// The softmax's maximum and sum of each of a set's heads, from the units'.
__device__ void SumUnits(const ChoiceLaunch& c, const ChoiceParams& params, int32_t num_units,
                         int32_t first_head, const MergeMemory& memory) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  for (auto i = static_cast<int32_t>(threadIdx.x / 32); i < params.heads_per_set; i += kWarps) {
    const float2* stats = params.unit_stats + int64_t{first_head + i} * MaxUnits(c.max_tokens);
    float most = -__builtin_inff();
    float sum = 0;
    for (int32_t unit = lane; unit < num_units; unit += 32) {
      const float2 stat = stats[unit];
      if (!(stat.x > -__builtin_inff())) continue;
      const float higher = fmaxf(most, stat.x);
      sum = sum * __expf(most - higher) + stat.y * __expf(stat.x - higher);
      most = higher;
    }
    const float maximum = WarpMax(most);
    sum = WarpSum(most > -__builtin_inff() ? sum * __expf(most - maximum) : 0.0f);
    if (lane != 0) continue;
    memory.maximum[i] = maximum;
    memory.inverse[i] = 1.0f / sum;
  }
}

// Two tokens' values of one head.
__device__ __forceinline__ float2 ScoresAt(const ChoiceParams& params, int64_t at) {
  if (params.kept_scores == KeptScores::kHalfProbs)
    return __half22float2(
        *reinterpret_cast<const __half2*>(static_cast<const __half*>(params.scores) + at));
  return *reinterpret_cast<const float2*>(static_cast<const float*>(params.scores) + at);
}

struct Merged {
  float2 sum = {0, 0};
  float2 most = {0, 0};
};

__device__ __forceinline__ Merged MergePage(const ChoiceLaunch& c, const ChoiceParams& params,
                                            int32_t first_head, int32_t page,
                                            const MergeMemory& memory) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const bool has_probs = params.kept_scores != KeptScores::kScores;
  Merged merged;
  for (int32_t first = 0; first < params.heads_per_set; first += 32) {
    const int32_t count = min(params.heads_per_set - first, 32);
    float factor = 0;  // of the lane's head: from a page's share to a probability
    if (lane < count && has_probs) {
      const float most = params.page_max[int64_t{page} * c.num_heads + first_head + first + lane];
      factor = __expf(most - memory.maximum[first + lane]) * memory.inverse[first + lane];
    }
    int64_t at =
        int64_t{first_head + first} * c.max_tokens + int64_t{page} * kTokensPerPage + 2 * lane;
#pragma unroll 8
    for (int32_t i = 0; i < count; ++i, at += c.max_tokens) {
      float2 prob = ScoresAt(params, at);
      if (has_probs) {
        const float scale = __shfl_sync(kAllLanes, factor, i);
        prob = {prob.x * scale, prob.y * scale};
      } else {
        const float maximum = memory.maximum[first + i];
        const float scale = memory.inverse[first + i];
        prob = {__expf(prob.x - maximum) * scale, __expf(prob.y - maximum) * scale};
      }
      merged.sum = {merged.sum.x + prob.x, merged.sum.y + prob.y};
      merged.most = {fmaxf(merged.most.x, prob.x), fmaxf(merged.most.y, prob.y)};
    }
  }
  return merged;
}

__device__ __forceinline__ void CountValue(const ChoiceParams& params, int32_t pos, float value,
                                           uint32_t* bins) {
  if (pos < params.always_begin || pos >= params.always_end) return;
  const uint32_t ordered = OrderedBits(value);
  if (ordered != 0) atomicAdd(&bins[ordered >> 21], 1u);
}

// Pages page .. page + num_pages - 1 of one set.
__device__ void MergePages(const ChoiceLaunch& c, int32_t sequence, int32_t set, int32_t page,
                           int32_t num_pages, const MergeMemory& memory) {
  const ChoiceParams& params = c.params[sequence];
  const int32_t first_head = set * params.heads_per_set;
  const bool counts = params.counts_bins != 0 && IsFresh(c, sequence);
  const bool ranks_by_most = params.values != params.masses && params.merge == Merge::kMax;
  __syncthreads();  // what the last set left in the block's memory has been used
  if (counts) {
    for (int32_t i = threadIdx.x; i < kTopKBins; i += kThreads) memory.bins[i] = 0;
  }
  SumUnits(c, params, NumUnits(c.step.sequences[sequence].kv_len), first_head, memory);
  __syncthreads();
  for (int32_t p = page + static_cast<int32_t>(threadIdx.x / 32); p < page + num_pages;
       p += kWarps) {
    const Merged merged = MergePage(c, params, first_head, p, memory);
    const int32_t pos = p * kTokensPerPage + static_cast<int32_t>(threadIdx.x % 32) * 2;
    const int64_t at = int64_t{set} * c.max_tokens + pos;
    *reinterpret_cast<float2*>(params.masses + at) = merged.sum;
    if (ranks_by_most) *reinterpret_cast<float2*>(params.values + at) = merged.most;
    if (!counts) continue;
    const float2 value = ranks_by_most ? merged.most : merged.sum;
    CountValue(params, pos, value.x, memory.bins);
    CountValue(params, pos + 1, value.y, memory.bins);
  }
  if (!counts) return;
  __syncthreads();
  for (int32_t i = threadIdx.x; i < kTopKBins; i += kThreads) {
    if (memory.bins[i] != 0) atomicAdd(&params.bins[int64_t{set} * kTopKBins + i], memory.bins[i]);
  }
}

__global__ void __launch_bounds__(kThreads) MergeKernel(ChoiceLaunch c) {
  extern __shared__ uint32_t shared[];
  const MergeMemory memory = SplitMemory(shared, c.num_heads);
  WaitForInputs();
  AllowNext();
  const auto pages_of = [&](int32_t s) {
    return GetsScores(c, s) ? c.params[s].num_sets * NumPages(c.step.sequences[s].kv_len) : 0;
  };
  BeginsOfSequences(c.step.num_sequences, pages_of, memory.begins);
  const BlockShare share = ShareOfBlock(memory.begins[c.step.num_sequences]);
  for (int32_t item = share.begin; item < share.end;) {
    const int32_t s = SequenceOf(memory.begins, item);
    const int32_t pages = NumPages(c.step.sequences[s].kv_len);
    const int32_t set = (item - memory.begins[s]) / pages;
    const int32_t page = (item - memory.begins[s]) % pages;
    const int32_t num_pages = min(share.end - item, pages - page);
    MergePages(c, s, set, page, num_pages, memory);
    item += num_pages;
  }
}

}  // namespace

cudaError_t LaunchMerge(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                        cudaStream_t stream) {
  const int32_t shared_bytes = MergeSharedBytes(launch.num_heads, launch.step.num_sequences);
  return Launch(MergeKernel, dim3(static_cast<unsigned>(2 * geometry.num_sms)), dim3(kThreads),
                static_cast<size_t>(shared_bytes), stream, launch);
}

}  // namespace tidal
