// One block's part of the choice of one set: which units it has, and what they are ranked by.
#ifndef TIDAL_CUDA_SELECTION_TAKE_CUH_
#define TIDAL_CUDA_SELECTION_TAKE_CUH_

#include "cuda/selection_output.cuh"

namespace tidal {

inline constexpr int32_t kTakeWarps = kTopKThreads / 32;
inline constexpr uint32_t kInfinityOrdered = 0xff800000u;  // of +infinity

// What the launch chooses for.
enum class TakeStage : uint8_t {
  kSets,
  kHeads,  // each head's best by its own score, for merge=rank
};

struct TakeArgs {
  ChoiceLaunch c;
  int32_t slice = 0;  // of a block, at most
  int32_t shared_ordered = 0;
  TakeStage stage = TakeStage::kSets;
};

// One block's part of one set.
struct TakeJob : SetOfChoice {
  const TakeArgs* args;
  int32_t page;       // tokens of a unit
  int32_t num_units;  // of the set
  int32_t begin;      // of the block's slice
  int32_t end;
  uint32_t* ordered;  // [end - begin] values as ordered integers, 0: none
  uint32_t* chosen;   // [words] a bit per unit, in shared memory
  uint32_t* ties;     // [words] the same; then where a word's units go
  bool by_rank;
  bool values_are_masses;

  __device__ int32_t num_words() const { return (end - begin + 31) / 32; }
  __device__ const float* masses() const { return params->masses + int64_t{set} * c->max_tokens; }
};

// Units of a block.
__device__ __forceinline__ int32_t BlockSlice(int32_t num_units) {
  const int32_t blocks = ClusterSize();
  return ((num_units + blocks - 1) / blocks + 31) / 32 * 32;
}

__device__ inline TakeJob MakeJob(const TakeArgs& args, uint32_t* shared) {
  const ChoiceLaunch& c = args.c;
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  TakeJob job = {SetAt(c, &c.params[sequence], sequence, static_cast<int32_t>(blockIdx.y))};
  job.args = &args;
  job.page = job.params->page;
  job.num_units = (job.kv_len + job.page - 1) / job.page;
  const int32_t slice = BlockSlice(job.num_units);
  job.begin = min(ClusterRank() * slice, job.num_units);
  job.end = min(job.begin + slice, job.num_units);
  job.chosen = shared;
  job.ties = shared + args.slice / 32;
  job.ordered = args.shared_ordered != 0
                    ? shared + args.slice / 16
                    : job.params->ordered + int64_t{job.set} * c.max_tokens + job.begin;
  job.by_rank = job.params->merge == Merge::kRank && ScoresTokens(job.params->scorer);
  job.values_are_masses = job.params->values == job.params->masses && job.page == 1 &&
                          ScoresTokens(job.params->scorer) && args.stage == TakeStage::kSets;
  return job;
}

// --- Values

// Units that are in every set. Where units are pages such pages compete, with the best of values.
__device__ __forceinline__ bool IsAlways(const TakeJob& job, int32_t unit) {
  if (job.page == 1) return unit < job.params->always_begin || unit >= job.params->always_end;
  const int32_t first = unit * job.page;
  const int32_t end = min(first + job.page, job.kv_len);
  return first < job.params->always_begin || end > job.params->always_end ||
         unit == job.num_units - 1;
}

// What the unit is ranked by, as an ordered integer.
__device__ inline uint32_t OrderedOf(const TakeJob& job, int32_t unit) {
  const ChoiceParams& params = *job.params;
  const int64_t stride = job.args->c.max_tokens;
  if (params.scorer == Scorer::kNone) return 0;
  if (ScoresPages(params.scorer)) {
    const float* bounds = static_cast<const float*>(params.scores) +
                          int64_t{job.set} * params.heads_per_set * stride + unit;
    uint32_t most = 0;
    for (int32_t i = 0; i < params.heads_per_set; ++i)
      most = max(most, OrderedBits(bounds[i * stride]));
    return most;
  }
  if (job.by_rank && job.args->stage == TakeStage::kSets)
    return params.ordered[job.set * stride + unit];
  const float* values = params.values + job.set * stride;
  uint32_t most = 0;
  for (int32_t pos = unit * job.page; pos < min((unit + 1) * job.page, job.kv_len); ++pos)
    most = max(most, OrderedBits(values[pos]));
  return most;
}

// Notes a unit's value, and whether it is always kept. A head's own ranking is of the others.
__device__ __forceinline__ void KeepUnit(const TakeJob& job, int32_t word, int32_t unit,
                                         uint32_t ordered) {
  const bool in_range = unit < job.end;
  const bool always = in_range && IsAlways(job, unit);
  const bool by_head = job.args->stage == TakeStage::kHeads;
  const uint32_t kept = __ballot_sync(kAllLanes, always && job.page == 1 && !by_head);
  if (threadIdx.x % 32 == 0) {
    job.chosen[word] = kept;
    job.ties[word] = 0;
  }
  if (always && job.page > 1) ordered = kInfinityOrdered;
  if (always && by_head) ordered = 0;
  if (in_range) job.ordered[unit - job.begin] = ordered;
}

// Single tokens ranked by a row of floats: several loads at once.
__device__ inline void LoadTokens(const TakeJob& job, const float* values) {
  constexpr int32_t kAtOnce = 13;  // a round for 6,656 tokens of a block
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  for (auto first = static_cast<int32_t>(threadIdx.x / 32); first < job.num_words();
       first += kTakeWarps * kAtOnce) {
    float loaded[kAtOnce];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t unit = job.begin + (first + i * kTakeWarps) * 32 + lane;
      loaded[i] = unit < job.end ? values[unit] : 0.0f;
    }
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kTakeWarps;
      if (word < job.num_words())
        KeepUnit(job, word, job.begin + word * 32 + lane, OrderedBits(loaded[i]));
    }
  }
}

// Fills ordered, and chosen with what is always kept.
__device__ inline void LoadUnits(const TakeJob& job) {
  const ChoiceParams& params = *job.params;
  const bool by_head = job.args->stage == TakeStage::kHeads;
  const bool is_plain = job.page == 1 && ScoresTokens(params.scorer) && (by_head || !job.by_rank);
  if (is_plain) {
    LoadTokens(job, params.values + int64_t{job.set} * job.args->c.max_tokens);
  } else {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    for (auto word = static_cast<int32_t>(threadIdx.x / 32); word < job.num_words();
         word += kTakeWarps) {
      const int32_t unit = job.begin + word * 32 + lane;
      KeepUnit(job, word, unit, unit < job.end ? OrderedOf(job, unit) : 0);
    }
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < params.num_keep; i += kTopKThreads) {
    const int32_t unit = params.keep[i] / job.page;
    if (unit < job.begin || unit >= job.end) continue;
    if (job.page > 1 || by_head) {
      job.ordered[unit - job.begin] = by_head ? 0 : kInfinityOrdered;
    } else {
      atomicOr(&job.chosen[(unit - job.begin) / 32], 1u << (unit - job.begin) % 32);
    }
  }
  __syncthreads();
}

// A chosen unit's probability, of all heads of the set.
__device__ __forceinline__ Fixed MassOf(const TakeJob& job, int32_t unit) {
  if (job.values_are_masses) return ToFixed(ValueOfOrdered(job.ordered[unit - job.begin]));
  Fixed sum = 0;
  for (int32_t pos = unit * job.page; pos < min((unit + 1) * job.page, job.kv_len); ++pos)
    sum += ToFixed(job.masses()[pos]);
  return sum;
}

// Calls f(word, unit, bit) with the block's units, a warp at a time with 32 of a word.
template <typename F>
__device__ __forceinline__ void ForEachUnit(const TakeJob& job, F f) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  for (auto word = static_cast<int32_t>(threadIdx.x / 32); word < job.num_words();
       word += kTakeWarps)
    f(word, job.begin + word * 32 + lane);
}

// What competes, with its value; 0: nothing.
__device__ __forceinline__ uint32_t CandidateOf(const TakeJob& job, int32_t word, int32_t unit) {
  const bool is_kept = (job.chosen[word] >> (unit - job.begin) % 32 & 1) != 0;
  return unit < job.end && !is_kept ? job.ordered[unit - job.begin] : 0;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_TAKE_CUH_
