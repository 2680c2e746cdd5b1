// What      The heads of a set merged: for each token the sum of their probabilities, and where a
//           plan ranks by it their maximum; a histogram of the values for the top-k.
// Shapes    scores [num_heads][max_tokens] as the scan left them; masses and values float32
//           [num_sets][max_tokens]; bins [num_sets][kTopKBins].
// Launch    a block of 16 warps per multiprocessor, each with an equal run of (set, page); a warp
//           per page, a lane for two tokens. Short of work at any context: what counts is that few
//           loads wait for others.
// Bytes     2 or 4 per token and head read, 4 per token and set written; per block 8 per unit of 8
//           pages and head.
// Numerics  float32, heads in order; no result depends on the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cu.
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kThreads = 512;
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

// Lanes that share a head's units: all heads at once where they fit the block.
__device__ __forceinline__ int32_t LanesPerHead(int32_t num_heads) {
  int32_t lanes = 32;
  while (lanes > 4 && lanes * num_heads > kThreads) lanes /= 2;
  return lanes;
}

// The softmax's maximum and sum of each of a set's heads, from the units'.
__device__ void SumUnits(const ChoiceLaunch& c, const ChoiceParams& params, int32_t num_units,
                         int32_t first_head, const MergeMemory& memory) {
  constexpr int32_t kAtOnce = 4;
  constexpr float kMinusInfinity = -__builtin_inff();
  const int32_t lanes = LanesPerHead(params.heads_per_set);
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % lanes;
  const int32_t heads_at_once = kThreads / lanes;
  // All lanes of a warp stay to the end: they shuffle.
  for (int32_t first = 0; first < params.heads_per_set; first += heads_at_once) {
    const int32_t head = first + static_cast<int32_t>(threadIdx.x) / lanes;
    const bool is_head = head < params.heads_per_set;
    const float2* stats = params.unit_stats + int64_t{first_head + head} * MaxUnits(c.max_tokens);
    float most = kMinusInfinity;
    float sum = 0;
    for (int32_t unit = lane; is_head && unit < num_units; unit += kAtOnce * lanes) {
      float2 stat[kAtOnce];
#pragma unroll
      for (int32_t i = 0; i < kAtOnce; ++i) {
        const bool is_unit = unit + i * lanes < num_units;
        stat[i] = is_unit ? stats[unit + i * lanes] : float2{kMinusInfinity, 0};
      }
#pragma unroll
      for (int32_t i = 0; i < kAtOnce; ++i) {
        if (!(stat[i].x > kMinusInfinity)) continue;
        const float higher = fmaxf(most, stat[i].x);
        sum = sum * FastExp2(most - higher) + stat[i].y * FastExp2(stat[i].x - higher);
        most = higher;
      }
    }
    float maximum = most;
    for (int32_t d = lanes / 2; d > 0; d /= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, d));
    sum = most > kMinusInfinity ? sum * FastExp2(most - maximum) : 0.0f;
    for (int32_t d = lanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
    if (!is_head || lane != 0) continue;
    memory.maximum[head] = maximum;
    memory.inverse[head] = 1.0f / sum;
  }
}

struct Merged {
  float2 sum = {0, 0};
  float2 most = {0, 0};

  __device__ __forceinline__ void Add(float2 prob) {
    sum = {sum.x + prob.x, sum.y + prob.y};
    most = {fmaxf(most.x, prob.x), fmaxf(most.y, prob.y)};
  }
};

// Two tokens of a page, of all heads of a set.
template <KeptScores kKept>
__device__ __forceinline__ Merged MergePage(const ChoiceLaunch& c, const ChoiceParams& params,
                                            int32_t first_head, int32_t page,
                                            const MergeMemory& memory) {
  using Stored = std::conditional_t<kKept == KeptScores::kHalfProbs, __half2, float2>;
  constexpr int32_t kAtOnce = kKept == KeptScores::kHalfProbs ? 16 : 8;
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const float* page_max = params.page_max + int64_t{page} * c.num_heads + first_head;
  const int64_t stride = c.max_tokens / 2;
  const Stored* row = static_cast<const Stored*>(params.scores) + first_head * stride +
                      page * (kTokensPerPage / 2) + lane;
  Merged merged;
  for (int32_t first = 0; first < params.heads_per_set; first += kAtOnce) {
    const int32_t count = min(params.heads_per_set - first, kAtOnce);
    Stored stored[kAtOnce];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      if (i < count) stored[i] = row[(first + i) * stride];
    }
    float factor = 0;  // of the lane's head: from a page's share to a probability
    if (kKept != KeptScores::kScores && lane < count) {
      factor = FastExp2(page_max[first + lane] - memory.maximum[first + lane]) *
               memory.inverse[first + lane];
    }
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      if (i >= count) break;
      if constexpr (kKept == KeptScores::kScores) {
        const float most = memory.maximum[first + i];
        const float scale = memory.inverse[first + i];
        merged.Add({FastExp2(fmaf(stored[i].x, kLog2E, -most)) * scale,
                    FastExp2(fmaf(stored[i].y, kLog2E, -most)) * scale});
      } else {
        float2 prob;
        if constexpr (kKept == KeptScores::kHalfProbs) {
          prob = __half22float2(stored[i]);
        } else {
          prob = stored[i];
        }
        const float scale = __shfl_sync(kAllLanes, factor, i);
        merged.Add({prob.x * scale, prob.y * scale});
      }
    }
  }
  return merged;
}

__device__ __forceinline__ Merged MergePage(const ChoiceLaunch& c, const ChoiceParams& params,
                                            int32_t first_head, int32_t page,
                                            const MergeMemory& memory) {
  switch (params.kept_scores) {
    case KeptScores::kHalfProbs:
      return MergePage<KeptScores::kHalfProbs>(c, params, first_head, page, memory);
    case KeptScores::kFloatProbs:
      return MergePage<KeptScores::kFloatProbs>(c, params, first_head, page, memory);
    default:
      return MergePage<KeptScores::kScores>(c, params, first_head, page, memory);
  }
}

__device__ __forceinline__ void CountValue(const ChoiceParams& params, int32_t pos, float value,
                                           uint32_t* bins) {
  if (pos < params.always_begin || pos >= params.always_end) return;
  const uint32_t ordered = OrderedBits(value);
  if (ordered != 0) atomicAdd(&bins[ProbabilityBin(ordered)], 1u);
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

__global__ void __launch_bounds__(kThreads, 2) MergeKernel(const __grid_constant__ ChoiceLaunch c) {
  extern __shared__ uint32_t shared[];
  const MergeMemory memory = SplitMemory(shared, c.num_heads);
  if (c.fresh != nullptr) WaitForInputs();
  const auto pages_of = [&](int32_t s) {
    return GetsScores(c, s) ? c.params[s].num_sets * NumPages(c.step.sequences[s].kv_len) : 0;
  };
  BeginsOfSequences(c.step.num_sequences, pages_of, memory.begins);
  WaitForInputs();
  AllowNext();
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
  return Launch(MergeKernel, dim3(static_cast<unsigned>(geometry.num_sms)), dim3(kThreads),
                static_cast<size_t>(shared_bytes), stream, launch);
}

}  // namespace tidal
