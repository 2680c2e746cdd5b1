// What      The heads of a set merged: for each token the sum of their probabilities, and where a
//           plan ranks by it their maximum; a histogram of the values for the top-k.
// Shapes    scores as the scan left them (KeptScores); masses and values float32
//           [num_sets][max_tokens]; bins [num_sets][kTopKBins].
// Launch    a block of 16 warps per multiprocessor, each with an equal run of (set, page); a warp
//           per page, a lane for two tokens. Short of work at any context: what counts is that few
//           loads wait for others. So the statistics of 131,072 tokens are under way together, to
//           shared memory (64 KB), and a warp's first page with them; and 88 registers a thread
//           leave room for the next kernel's blocks.
// Bytes     2 or 4 per token and head read, 4 per token and set written; per block 8 per unit of 8
//           pages and head.
// Speed     7.8 us for 102,400 tokens of 32 heads on an H200, of which reading is 1.5: latency.
// Numerics  float32, heads in order; no result depends on the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cu.
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/mma.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();
constexpr int32_t kThreads = 512;
constexpr int32_t kWarps = kThreads / 32;
// Pairs of units that a thread has under way, and those that it sums up at once: registers are
// taken by the page that is under way with them.
constexpr int32_t kPairsAhead = 8;
constexpr int32_t kPairsAtOnce = 2;
static_assert(kPairsAhead % kPairsAtOnce == 0);
constexpr int32_t kStatBytes = kPairsAhead * kThreads * static_cast<int32_t>(sizeof(float4));

// What a block has of the set at hand.
struct MergeMemory {
  float4* stats;         // [kPairsAhead][kThreads] pairs of units under way
  ChoiceParams* params;  // of the sequence at hand
  float* maximum;        // [heads_per_set] of all scores of a head
  float* inverse;        // [heads_per_set] 1 / sum of e^(score - maximum)
  uint32_t* bins;        // [kTopKBins]
  int32_t* begins;       // [num_sequences + 1]
};

__device__ __forceinline__ MergeMemory SplitMemory(uint8_t* memory, int32_t num_heads) {
  auto* params = reinterpret_cast<ChoiceParams*>(memory + kStatBytes);
  auto* bins = reinterpret_cast<uint32_t*>(params + 1);
  auto* floats = reinterpret_cast<float*>(bins + kTopKBins);
  return {reinterpret_cast<float4*>(memory),
          params,
          floats,
          floats + num_heads,
          bins,
          reinterpret_cast<int32_t*>(floats + 2 * num_heads)};
}
int32_t MergeSharedBytes(int32_t num_heads, int32_t num_sequences) {
  return kStatBytes + static_cast<int32_t>(sizeof(ChoiceParams)) +
         4 * (kTopKBins + 2 * num_heads + num_sequences + 1);
}

// Lanes that share a head's units: all heads at once where they fit the block.
__device__ __forceinline__ int32_t LanesPerHead(int32_t num_heads) {
  int32_t lanes = 32;
  while (lanes > 4 && lanes * num_heads > kThreads) lanes /= 2;
  return lanes;
}

// The units of a set's heads, as many of them as the block sums up at once.
struct UnitSums {
  const float4* pairs;  // of the thread's head
  float4* stats;        // of the thread: [kPairsAhead], kThreads apart
  int32_t num_units;
  int32_t num_pairs;  // 0: the thread has no head
  int32_t lanes;      // that share a head
  int32_t lane;
  int32_t head;  // of the set

  // first: of these heads, in the set.
  __device__ __forceinline__ UnitSums(const ChoiceLaunch& c, const MergeMemory& memory,
                                      int32_t units, int32_t first_head, int32_t first)
      : stats(memory.stats + threadIdx.x), num_units(units) {
    const ChoiceParams& params = *memory.params;
    lanes = LanesPerHead(params.heads_per_set);
    lane = static_cast<int32_t>(threadIdx.x) % lanes;
    head = first + static_cast<int32_t>(threadIdx.x) / lanes;
    num_pairs = head < params.heads_per_set ? (num_units + 1) / 2 : 0;
    pairs = reinterpret_cast<const float4*>(params.unit_stats +
                                            int64_t{first_head + head} * MaxUnits(c.max_tokens));
  }
  // Starts the thread's pairs `first` and kPairsAhead - 1 further ones.
  __device__ __forceinline__ void Fetch(int32_t first) const {
#pragma unroll
    for (int32_t i = 0; i < kPairsAhead; ++i) {
      const int32_t at = first + i * lanes;
      if (at < num_pairs) {
        CopyAsync16(&stats[i * kThreads], &pairs[at], true);
      } else {
        stats[i * kThreads] = {kMinusInfinity, 0, kMinusInfinity, 0};
      }
    }
    CommitCopies();
  }
  // Maximum and sum of the head, of all its lanes; the thread's first pairs are under way.
  __device__ __forceinline__ void Sum(const MergeMemory& memory) const {
    float most = kMinusInfinity;
    float sum = 0;
    for (int32_t first = lane; first < num_pairs; first += kPairsAhead * lanes) {
      if (first != lane) Fetch(first);
      WaitForCopies<0>();
#pragma unroll
      for (int32_t begin = 0; begin < kPairsAhead; begin += kPairsAtOnce) {
        float4 stat[kPairsAtOnce];
        float higher = most;
#pragma unroll
        for (int32_t i = 0; i < kPairsAtOnce; ++i) {
          stat[i] = stats[(begin + i) * kThreads];
          if (2 * (first + (begin + i) * lanes) + 1 >= num_units) stat[i].z = kMinusInfinity;
          higher = fmaxf(higher, fmaxf(stat[i].x, stat[i].z));
        }
        if (!(higher > kMinusInfinity)) continue;
        sum *= FastExp2(most - higher);
#pragma unroll
        for (int32_t i = 0; i < kPairsAtOnce; ++i) {
          if (stat[i].x > kMinusInfinity) sum = fmaf(stat[i].y, FastExp2(stat[i].x - higher), sum);
          if (stat[i].z > kMinusInfinity) sum = fmaf(stat[i].w, FastExp2(stat[i].z - higher), sum);
        }
        most = higher;
      }
    }
    float maximum = most;
    for (int32_t d = lanes / 2; d > 0; d /= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, d));
    sum = most > kMinusInfinity ? sum * FastExp2(most - maximum) : 0.0f;
    for (int32_t d = lanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
    if (num_pairs == 0 || lane != 0) return;
    memory.maximum[head] = maximum;
    memory.inverse[head] = 1.0f / sum;
  }
};

struct Merged {
  float2 sum = {0, 0};
  float2 most = {0, 0};

  __device__ __forceinline__ void Add(float2 prob) {
    sum = {sum.x + prob.x, sum.y + prob.y};
    most = {fmaxf(most.x, prob.x), fmaxf(most.y, prob.y)};
  }
};

// A lane's two tokens of a page as the scan left them, of several heads of a set.
template <KeptScores kKept>
struct PageHeads {
  static constexpr bool kIsHalf = kKept == KeptScores::kHalfProbs;
  static constexpr int32_t kAtOnce = kIsHalf ? 32 : 8;
  using Stored = std::conditional_t<kIsHalf, __half2, float2>;

  Stored stored[kAtOnce];
  float page_max;  // of the lane's head
  int32_t first;   // of these heads, in the set
  int32_t count;

  __device__ __forceinline__ void Load(const ChoiceLaunch& c, const ChoiceParams& params,
                                       int32_t first_head, int32_t page, int32_t first_of_set) {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    first = first_of_set;
    count = min(params.heads_per_set - first, kAtOnce);
    const int64_t head = int64_t{first_head} + first;
    const int64_t begin = BeginOfPage(kKept, page, head, c.num_heads, c.max_tokens) / 2;
    const int64_t stride = kKept == KeptScores::kScores ? c.max_tokens / 2 : kTokensPerPage / 2;
    const Stored* at = static_cast<const Stored*>(params.scores) + begin + lane;
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) stored[i] = i < count ? at[i * stride] : Stored();
    page_max = lane < count ? params.page_max[int64_t{page} * c.num_heads + head + lane] : 0.0f;
  }

  __device__ __forceinline__ void AddTo(Merged* merged, const MergeMemory& memory) const {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    float factor = 0;  // of the lane's head: from a page's share to a probability
    if (kKept != KeptScores::kScores && lane < count)
      factor = FastExp2(page_max - memory.maximum[first + lane]) * memory.inverse[first + lane];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      if constexpr (kKept == KeptScores::kScores) {
        if (i >= count) break;
        const float most = memory.maximum[first + i];
        const float scale = memory.inverse[first + i];
        merged->Add({FastExp2(fmaf(stored[i].x, kLog2E, -most)) * scale,
                     FastExp2(fmaf(stored[i].y, kLog2E, -most)) * scale});
      } else {
        float2 prob;
        if constexpr (kIsHalf) {
          prob = __half22float2(stored[i]);
        } else {
          prob = stored[i];
        }
        const float scale = __shfl_sync(kAllLanes, factor, i);
        merged->Add({prob.x * scale, prob.y * scale});
      }
    }
  }
};

__device__ __forceinline__ void CountValue(const ChoiceParams& params, int32_t pos, float value,
                                           uint32_t* bins) {
  if (pos < params.always_begin || pos >= params.always_end) return;
  const uint32_t ordered = OrderedBits(value);
  if (ordered != 0) atomicAdd(&bins[ProbabilityBin(ordered)], 1u);
}

// Pages page .. page + num_pages - 1 of one set.
template <KeptScores kKept>
__device__ void MergePages(const ChoiceLaunch& c, int32_t sequence, int32_t set, int32_t page,
                           int32_t num_pages, const MergeMemory& memory) {
  const ChoiceParams& params = *memory.params;
  const int32_t first_head = set * params.heads_per_set;
  const bool counts = params.counts_bins != 0 && IsFresh(c, sequence);
  const bool ranks_by_most = params.values != params.masses && params.merge == Merge::kMax;
  int32_t p = page + static_cast<int32_t>(threadIdx.x / 32);
  const int32_t end = page + num_pages;
  // The first heads' statistics and the warp's first page are on their way together.
  const int32_t num_units = NumUnits(c.step.sequences[sequence].kv_len);
  const UnitSums first_sums(c, memory, num_units, first_head, 0);
  first_sums.Fetch(first_sums.lane);
  PageHeads<kKept> heads;
  if (p < end) heads.Load(c, params, first_head, p, 0);
  __syncthreads();  // what the last set left in the block's memory has been used
  if (counts) {
    for (int32_t i = threadIdx.x; i < kTopKBins; i += kThreads) memory.bins[i] = 0;
  }
  first_sums.Sum(memory);
  const int32_t heads_at_once = kThreads / first_sums.lanes;
  for (int32_t first = heads_at_once; first < params.heads_per_set; first += heads_at_once) {
    const UnitSums sums(c, memory, num_units, first_head, first);
    sums.Fetch(sums.lane);
    sums.Sum(memory);
  }
  __syncthreads();
  for (; p < end; p += kWarps) {
    Merged merged;
    heads.AddTo(&merged, memory);
    for (int32_t first = heads.kAtOnce; first < params.heads_per_set; first += heads.kAtOnce) {
      heads.Load(c, params, first_head, p, first);
      heads.AddTo(&merged, memory);
    }
    if (p + kWarps < end) heads.Load(c, params, first_head, p + kWarps, 0);
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

template <bool kOnlyHalf>
__device__ __forceinline__ void MergePages(const ChoiceLaunch& c, int32_t sequence, int32_t set,
                                           int32_t page, int32_t num_pages,
                                           const MergeMemory& memory) {
  const KeptScores kept = kOnlyHalf ? KeptScores::kHalfProbs : memory.params->kept_scores;
  switch (kept) {
    case KeptScores::kHalfProbs:
      return MergePages<KeptScores::kHalfProbs>(c, sequence, set, page, num_pages, memory);
    case KeptScores::kFloatProbs:
      return MergePages<KeptScores::kFloatProbs>(c, sequence, set, page, num_pages, memory);
    default:
      return MergePages<KeptScores::kScores>(c, sequence, set, page, num_pages, memory);
  }
}

// kOnlyHalf: all scores that are merged are kHalfProbs; the other kinds take more registers.
template <bool kOnlyHalf>
__global__ void __launch_bounds__(kThreads) MergeKernel(const __grid_constant__ ChoiceLaunch c) {
  extern __shared__ __align__(16) uint8_t shared[];
  const MergeMemory memory = SplitMemory(shared, c.num_heads);
  if (c.fresh != nullptr) WaitForInputs();
  const auto pages_of = [&](int32_t s) {
    const int32_t pages = c.params[s].num_sets * NumPages(c.step.sequences[s].kv_len);
    return GetsScores(c, s) ? pages : 0;
  };
  // On its way with what begins are made of: most often it is the block's.
  CopyParams(c, 0, memory.params);
  int32_t copied = 0;  // the sequence in memory.params
  BeginsOfSequences(c.step.num_sequences, pages_of, memory.begins);
  const BlockShare share = ShareOfBlock(memory.begins[c.step.num_sequences]);
  const auto copy = [&](int32_t sequence) {
    __syncthreads();  // what the last sequence left has been used
    CopyParams(c, sequence, memory.params);
    copied = sequence;
    __syncthreads();
  };
  if (share.begin < share.end) {
    const int32_t first = SequenceOf(memory.begins, share.begin);
    if (first != copied) copy(first);
  }
  WaitForInputs();
  AllowNext();
  for (int32_t item = share.begin; item < share.end;) {
    const int32_t s = SequenceOf(memory.begins, item);
    if (s != copied) copy(s);
    const int32_t pages = NumPages(c.step.sequences[s].kv_len);
    const int32_t set = (item - memory.begins[s]) / pages;
    const int32_t page = (item - memory.begins[s]) % pages;
    const int32_t num_pages = min(share.end - item, pages - page);
    MergePages<kOnlyHalf>(c, s, set, page, num_pages, memory);
    item += num_pages;
  }
}

}  // namespace

cudaError_t LaunchMerge(const ChoiceLaunch& launch, const ChoiceGeometry& geometry, bool only_half,
                        cudaStream_t stream) {
  const auto kernel = only_half ? MergeKernel<true> : MergeKernel<false>;
  const int32_t shared_bytes = MergeSharedBytes(launch.num_heads, launch.step.num_sequences);
  if (const cudaError_t error = PreferSharedMemory(kernel); error != cudaSuccess) return error;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
      error != cudaSuccess) {
    return error;
  }
  return Launch(kernel, dim3(static_cast<unsigned>(geometry.num_sms)), dim3(kThreads),
                static_cast<size_t>(shared_bytes), stream, launch);
}

}  // namespace tidal
