// What      The sets of a choice by number whose values merging has counted in bins: always-kept
//           tokens and the best of the others, as slots.
// Shapes    values and masses float32 [num_sets][max_tokens]; bins [num_sets][kTopKBins]; marks
//           [num_sets][max_tokens / 32]; sets int32 [num_sets][capacity], counts [num_sets];
//           reports [num_sequences].
// Layout    a set's tokens lie in equal slices over blocks. Each finds from the bins in which of
//           them the last token taken lies, and says of its own which are above it and which in it.
//           The block that is done last compares those few one by one, counts and writes the set.
// Launch    grid (blocks of a set, most sets of a sequence, sequences), 512 threads: as many blocks
//           as the device has multiprocessors, spread over the sets. 40 registers a thread, so that
//           a block is there before merging's has left the multiprocessor.
// Bytes     the values, once; per block 8 KB of bins; two bits per token written and read.
// Numerics  exact: ties go to the smaller position. A set's tokens ascend. Selected mass in fixed
//           point. Nothing depends on the batch or on the number of blocks, bit by bit.
// Oracle    top_k_test.cc, selection_test.cc; bench/cuda_selection_bench.cu.
#include <algorithm>

#include "cuda/selection_output.cuh"

namespace tidal {
namespace {

constexpr int32_t kWarps = kTopKThreads / 32;
// Tokens of a block at least, where a set has more.
constexpr int32_t kLeastSlice = kTopKThreads;
// Values that a thread has under way.
constexpr int32_t kAtOnce = 4;
// Tokens of the last bin that are compared one by one: the histograms' memory holds them twice.
constexpr int32_t kMostListed = 1024;
static_assert(kMostListed <= kTopKBins);

// What a block has in shared memory.
struct CountedMemory {
  TopKMemory top_k;
  ChoiceParams params;  // of the sequence
  bool is_last;
};
// Behind it the last block has of the set
struct SetWords {
  uint32_t* chosen;   // [max_tokens / 32] a bit per token
  uint32_t* open;     // [max_tokens / 32]
  int32_t* page_ids;  // [max_tokens / kTokensPerPage]
};
__device__ __forceinline__ SetWords WordsOf(CountedMemory* memory, int32_t max_tokens) {
  auto* words = reinterpret_cast<uint32_t*>(memory + 1);
  return {words, words + max_tokens / 32, reinterpret_cast<int32_t*>(words + max_tokens / 16)};
}

// A block's part of a set.
struct Slice {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t num_blocks = 0;  // that have a part
};
__device__ __forceinline__ Slice SliceOfBlock(int32_t kv_len) {
  const auto blocks = static_cast<int32_t>(gridDim.x);
  const int32_t tokens = max(((kv_len + blocks - 1) / blocks + 31) / 32 * 32, kLeastSlice);
  Slice slice;
  slice.begin = min(static_cast<int32_t>(blockIdx.x) * tokens, kv_len);
  slice.end = min(slice.begin + tokens, kv_len);
  slice.num_blocks = (kv_len + tokens - 1) / tokens;
  return slice;
}

// The rows of a set.
struct CountedSet : SetOfChoice {
  const float* values;
  const float* masses;
  uint32_t* bins;
  TokenMarks* marks;
  CountedTotals* totals;
};
__device__ __forceinline__ CountedSet CountedSetAt(const ChoiceLaunch& c,
                                                   const ChoiceParams& params, int32_t sequence,
                                                   int32_t set) {
  CountedSet job = {SetAt(c, &params, sequence, set)};
  const int64_t row = int64_t{set} * c.max_tokens;
  job.values = params.values + row;
  job.masses = params.masses + row;
  job.bins = params.bins + int64_t{set} * kTopKBins;
  job.marks = params.marks + row / 32;
  job.totals = params.counted + set;
  return job;
}

// Tokens first, first + kTopKThreads, ... of this thread's lane, as many as lie in the slice.
struct Loaded {
  float of[kAtOnce];
};
__device__ __forceinline__ Loaded LoadValues(const CountedSet& job, const Slice& slice,
                                             int32_t first) {
  Loaded values;
#pragma unroll
  for (int32_t i = 0; i < kAtOnce; ++i) {
    const int32_t pos = first + i * kTopKThreads;
    values.of[i] = pos < slice.end ? job.values[pos] : 0.0f;
  }
  return values;
}

// Everything in bins above the result is taken; what is in its bin is open.
__device__ __forceinline__ int32_t LastBin(const PassResult& result) {
  if (result.kind == PassResult::kBin) return static_cast<int32_t>(result.bin);
  return result.kind == PassResult::kTakeAll ? -1 : kTopKBins;
}

// Says of the slice's tokens what the bins tell; returns the thread's part of the chosen mass.
// values: of the thread's first tokens.
__device__ Fixed MarkSlice(const CountedSet& job, const Slice& slice, int32_t last_bin,
                           Loaded values) {
  const int32_t always_begin = job.params->always_begin;
  const int32_t always_end = job.params->always_end;
  const bool values_are_masses = job.values == job.masses;
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t own_first = slice.begin + static_cast<int32_t>(threadIdx.x);
  Fixed mass = 0;
  for (int32_t first = own_first; first - lane < slice.end; first += kAtOnce * kTopKThreads) {
    if (first != own_first) values = LoadValues(job, slice, first);
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t pos = first + i * kTopKThreads;
      if (pos - lane >= slice.end) break;
      const bool is_token = pos < slice.end;
      const bool always = is_token && (pos < always_begin || pos >= always_end);
      const uint32_t ordered = is_token && !always ? OrderedBits(values.of[i]) : 0;
      const int32_t bin = ordered != 0 ? ProbabilityBin(ordered) : -1;
      const bool is_chosen = always || (ordered != 0 && bin > last_bin);
      const uint32_t chosen = __ballot_sync(kAllLanes, is_chosen);
      const uint32_t open = __ballot_sync(kAllLanes, ordered != 0 && bin == last_bin);
      if (lane == 0) job.marks[pos / 32] = {chosen, open};
      if (is_chosen) mass += ToFixed(values_are_masses ? values.of[i] : job.masses[pos]);
    }
  }
  return mass;
}

// A value and its token in one number: larger values are larger, then smaller positions.
__device__ __forceinline__ Fixed Listed(uint32_t ordered, int32_t pos) {
  return Fixed{ordered} << 32 | (0xffffffffu - static_cast<uint32_t>(pos));
}
__device__ __forceinline__ int32_t PositionOf(Fixed listed) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(listed));
}

// Takes the `wanted` best of the few open tokens; returns the thread's part of their mass.
__device__ Fixed TakeListed(const CountedSet& job, uint32_t wanted, uint32_t* chosen,
                            const uint32_t* open, int32_t words, TopKMemory* memory) {
  auto* positions = reinterpret_cast<int32_t*>(memory->total_sums);
  for (auto word = static_cast<int32_t>(threadIdx.x); word < words; word += kTopKThreads) {
    uint32_t bits = open[word];
    if (bits == 0) continue;
    uint32_t at = atomicAdd(&memory->equal, static_cast<uint32_t>(__popc(bits)));
    for (; bits != 0; bits &= bits - 1)
      positions[at++] = word * 32 + __ffs(static_cast<int32_t>(bits)) - 1;
  }
  __syncthreads();
  const uint32_t count = memory->equal;
  for (uint32_t i = threadIdx.x; i < count; i += kTopKThreads) {
    const int32_t pos = positions[i];
    memory->sums[i] = Listed(OrderedBits(job.values[pos]), pos);
  }
  __syncthreads();
  Fixed mass = 0;
  for (uint32_t i = threadIdx.x; i < count; i += kTopKThreads) {
    const Fixed mine = memory->sums[i];
    uint32_t before = 0;
#pragma unroll 8
    for (uint32_t j = 0; j < count; ++j) before += memory->sums[j] > mine ? 1 : 0;
    if (before >= wanted) continue;
    const int32_t pos = PositionOf(mine);
    atomicOr(&chosen[pos / 32], 1u << pos % 32);
    mass += ToFixed(job.masses[pos]);
  }
  __syncthreads();
  return mass;
}

// Calls f(word, ordered) with the open tokens, a warp with 32 of a word; 0: not open.
template <typename F>
__device__ __forceinline__ void ForEachOpen(const CountedSet& job, const uint32_t* open,
                                            int32_t words, F f) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  for (auto first = static_cast<int32_t>(threadIdx.x / 32); first < words;
       first += kWarps * kAtOnce) {
    float values[kAtOnce];
    bool is_open[kAtOnce];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kWarps;
      is_open[i] = word < words && (open[word] >> lane & 1) != 0;
      values[i] = is_open[i] ? job.values[word * 32 + lane] : 0.0f;
    }
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kWarps;
      if (word < words) f(word, is_open[i] ? OrderedBits(values[i]) : 0);
    }
  }
}

// The same where they are many: takes what is above a threshold, leaves in `open` what equals it,
// and how many of that are to be taken in *ties.
__device__ Fixed TakeAboveThreshold(const CountedSet& job, uint32_t wanted, uint32_t* chosen,
                                    uint32_t* open, int32_t words, uint32_t* ties,
                                    TopKMemory* memory) {
  if (threadIdx.x == 0) memory->above_count = 0;
  TakeTarget target;
  target.wanted = wanted;
  const TopKThreshold threshold = FindThreshold(
      target,
      [&](auto count) {
        ForEachOpen(job, open, words, [&](int32_t, uint32_t ordered) {
          if (ordered != 0) count(ordered, [] { return Fixed{0}; });
        });
      },
      memory);
  *ties = threshold.ties;
  Fixed mass = 0;
  // Each word is read and written by one warp.
  ForEachOpen(job, open, words, [&](int32_t word, uint32_t ordered) {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    const uint32_t above = __ballot_sync(kAllLanes, ordered > threshold.last);
    const uint32_t equal = __ballot_sync(kAllLanes, ordered != 0 && ordered == threshold.last);
    if (ordered > threshold.last) mass += ToFixed(job.masses[word * 32 + lane]);
    __syncwarp();  // all lanes have read the word
    if (lane != 0) return;
    chosen[word] |= above;
    open[word] = equal;
  });
  __syncthreads();
  // The ties are taken in the order of their positions: each thread has consecutive words.
  const int32_t each = (words + kTopKThreads - 1) / kTopKThreads;
  const int32_t begin = min(static_cast<int32_t>(threadIdx.x) * each, words);
  const int32_t end = min(begin + each, words);
  uint32_t before = 0;
  for (int32_t word = begin; word < end; ++word)
    before += static_cast<uint32_t>(__popc(open[word]));
  before = SumBefore(before, memory->warp_counts);
  for (int32_t word = begin; word < end; ++word) {
    for (uint32_t bits = open[word]; bits != 0 && before < threshold.ties;
         bits &= bits - 1, ++before)
      mass += ToFixed(job.masses[word * 32 + __ffs(static_cast<int32_t>(bits)) - 1]);
  }
  return mass;
}

// The set's marks to shared memory: several loads under way together.
__device__ void LoadMarks(const CountedSet& job, int32_t words, const SetWords& set) {
  constexpr int32_t kPairs = 4;
  const auto* pairs = reinterpret_cast<const uint4*>(job.marks);
  const int32_t num_pairs = (words + 1) / 2;
  for (auto first = static_cast<int32_t>(threadIdx.x); first < num_pairs;
       first += kPairs * kTopKThreads) {
    uint4 marks[kPairs];
#pragma unroll
    for (int32_t i = 0; i < kPairs; ++i) {
      if (first + i * kTopKThreads < num_pairs) marks[i] = __ldcg(&pairs[first + i * kTopKThreads]);
    }
#pragma unroll
    for (int32_t i = 0; i < kPairs; ++i) {
      const int32_t pair = first + i * kTopKThreads;
      if (pair >= num_pairs) break;
      reinterpret_cast<uint2*>(set.chosen)[pair] = {marks[i].x, marks[i].z};
      reinterpret_cast<uint2*>(set.open)[pair] = {marks[i].y, marks[i].w};
    }
  }
}

// Writes the tokens of the words of `chosen`; befores: how many are chosen before each word.
__device__ void WriteWords(const CountedSet& job, const SetWords& set, const uint32_t* befores,
                           int32_t words) {
  const Output out = OutputOfSet(job);
  for (auto word = static_cast<int32_t>(threadIdx.x); word < words; word += kTopKThreads) {
    const int32_t page_id = set.page_ids[word / 2];
    auto at = static_cast<int32_t>(befores[word]);
    for (uint32_t bits = set.chosen[word]; bits != 0; bits &= bits - 1, ++at)
      PutInPage(out, at, word * 32 + __ffs(static_cast<int32_t>(bits)) - 1, page_id);
  }
}

// By the last block: the open tokens, and the set.
__device__ void FinishCounted(const CountedSet& job, const PassResult& result,
                              CountedMemory* memory) {
  TopKMemory* top_k = &memory->top_k;
  const int32_t words = (job.kv_len + 31) / 32;
  const SetWords set = WordsOf(memory, job.c->max_tokens);
  LoadMarks(job, words, set);
  // All blocks have read them.
  for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads) job.bins[i] = 0;
  __syncthreads();
  Fixed mass = 0;
  uint32_t ties = 0;
  if (result.kind == PassResult::kBin) {
    const uint32_t wanted = static_cast<uint32_t>(job.params->wanted) - top_k->above_count;
    if (top_k->bin_count <= kMostListed) {
      mass = TakeListed(job, wanted, set.chosen, set.open, words, top_k);
    } else {
      __syncthreads();  // all have read above_count
      mass = TakeAboveThreshold(job, wanted, set.chosen, set.open, words, &ties, top_k);
    }
  }
  AddToTotal(mass, &top_k->mass);
  ArrangeWords(set.chosen, set.open, words, 0, ties, top_k);
  WriteWords(job, set, set.open, words);
  KeepHeader(job);
  if (threadIdx.x != 0) return;
  const uint32_t count = set.open[words - 1] + static_cast<uint32_t>(__popc(set.chosen[words - 1]));
  const Fixed total = top_k->mass + __ldcg(&job.totals->mass);
  *job.totals = CountedTotals();
  FinishSet(job, total, min(count, static_cast<uint32_t>(job.params->capacity)), true, true);
}

__global__ void __launch_bounds__(kTopKThreads, 3)
    CountedKernel(const __grid_constant__ ChoiceLaunch c) {
  extern __shared__ __align__(16) uint8_t shared[];
  auto* memory = reinterpret_cast<CountedMemory*>(shared);
  TopKMemory* top_k = &memory->top_k;
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  const auto set = static_cast<int32_t>(blockIdx.y);
  const ChoiceParams& params = memory->params;
  CopyParams(c, sequence, &memory->params);
  __syncthreads();
  const bool is_active = Chooses(c, sequence) && params.counts_bins != 0 && set < params.num_sets;
  const CountedSet job = CountedSetAt(c, params, sequence, set);
  const Slice slice = SliceOfBlock(job.kv_len);
  if (threadIdx.x == 0) {
    top_k->above_count = 0;
    top_k->above_sum = 0;
    top_k->equal = 0;
    top_k->mass = 0;
  }
  TakeTarget target;
  target.wanted = static_cast<uint32_t>(params.wanted);
  const bool has_slice = is_active && slice.begin < slice.end;
  if (has_slice) {  // any block may be the last
    int32_t* page_ids = WordsOf(memory, c.max_tokens).page_ids;
    for (auto i = static_cast<int32_t>(threadIdx.x); i < NumPages(job.kv_len); i += kTopKThreads)
      page_ids[i] = job.page_ids[i];
  }
  __syncthreads();
  WaitForInputs();
  AllowNext();
  if (!has_slice || !IsFresh(c, sequence)) return;
  const Loaded values = LoadValues(job, slice, slice.begin + static_cast<int32_t>(threadIdx.x));
  FindBin(job.bins, nullptr, target, 0, top_k);
  const PassResult result = top_k->results[0];
  AddToTotal(MarkSlice(job, slice, LastBin(result), values), &top_k->mass);
  __syncthreads();
  if (slice.num_blocks > 1) {
    if (threadIdx.x == 0) {
      atomicAdd(&job.totals->mass, top_k->mass);
      top_k->mass = 0;
      __threadfence();  // what the whole block has written, after the barrier
      const unsigned done = atomicAdd(&job.totals->blocks_done, 1u);
      memory->is_last = done == static_cast<unsigned>(slice.num_blocks) - 1;
      __threadfence();
    }
    __syncthreads();
    if (!memory->is_last) return;
  }
  FinishCounted(job, result, memory);
}

}  // namespace

int32_t CountedSharedBytes(int32_t max_tokens) {
  return static_cast<int32_t>(sizeof(CountedMemory)) +
         (max_tokens / 16 + max_tokens / kTokensPerPage) * 4;
}

cudaError_t LaunchCounted(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                          int32_t max_sets, int32_t total_sets, cudaStream_t stream) {
  const int32_t shared_bytes = CountedSharedBytes(launch.max_tokens);
  if (const cudaError_t error = PreferSharedMemory(CountedKernel); error != cudaSuccess)
    return error;
  if (const cudaError_t error = cudaFuncSetAttribute(
          CountedKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
      error != cudaSuccess) {
    return error;
  }
  const int32_t blocks = std::max(geometry.num_sms / std::max(total_sets, 1), 1);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(max_sets),
                  static_cast<unsigned>(launch.step.num_sequences));
  return Launch(CountedKernel, grid, dim3(kTopKThreads), static_cast<size_t>(shared_bytes), stream,
                launch);
}

}  // namespace tidal
