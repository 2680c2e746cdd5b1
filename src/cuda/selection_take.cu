// What      The sets of a choice: always-kept tokens and the best of the others, as slots.
// Shapes    values and masses float32 [num_sets][max_tokens]; sets int32 [num_sets][capacity],
//           counts [num_sets]; reports [num_sequences].
// Layout    a set's units of choice (tokens, or pages of the plan) lie in equal slices over the
//           blocks of a cluster; a block keeps its values in shared memory where they fit, and one
//           bit per unit says what is chosen.
// Launch    grid (cluster, most sets of a sequence, sequences), 1024 threads, clusters of 1 to 8.
// Bytes     the values, once; the sets written.
// Numerics  exact: ties go to the smaller position. A set's tokens ascend. Selected mass in fixed
//           point. Nothing depends on the batch or on the size of clusters, bit by bit.
// Oracle    top_k_test.cc, selection_test.cc; bench/cuda_selection_bench.cc.
#include <algorithm>

#include "cuda/selection_device.cuh"
#include "cuda/top_k.cuh"

namespace tidal {
namespace {

constexpr int32_t kWarps = kTopKThreads / 32;
constexpr uint32_t kInfinityOrdered = 0xff800000u;  // of +infinity

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
struct TakeJob {
  const TakeArgs* args;
  const ChoiceParams* params;
  const int32_t* page_ids;
  int32_t sequence;
  int32_t set;  // or head
  int32_t kv_len;
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
  __device__ const float* masses() const {
    return params->masses + int64_t{set} * args->c.max_tokens;
  }
};

__device__ TakeJob MakeJob(const TakeArgs& args, uint32_t* shared) {
  const ChoiceLaunch& c = args.c;
  TakeJob job;
  job.args = &args;
  job.sequence = static_cast<int32_t>(blockIdx.z);
  job.set = static_cast<int32_t>(blockIdx.y);
  job.params = &c.params[job.sequence];
  const DeviceSequence& where = c.step.sequences[job.sequence];
  job.page_ids = c.step.page_ids + where.page_begin;
  job.kv_len = where.kv_len;
  job.page = job.params->page;
  job.num_units = (job.kv_len + job.page - 1) / job.page;
  const int32_t blocks = ClusterSize();
  const int32_t slice = ((job.num_units + blocks - 1) / blocks + 31) / 32 * 32;
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
// ---------------------------------------------------------------------------------------

// Units that are in every set. Where units are pages such pages compete, with the best of values.
__device__ __forceinline__ bool IsAlways(const TakeJob& job, int32_t unit) {
  if (job.page == 1) return unit < job.params->always_begin || unit >= job.params->always_end;
  const int32_t first = unit * job.page;
  const int32_t end = min(first + job.page, job.kv_len);
  return first < job.params->always_begin || end > job.params->always_end ||
         unit == job.num_units - 1;
}

// What the unit is ranked by, as an ordered integer.
__device__ uint32_t OrderedOf(const TakeJob& job, int32_t unit) {
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
__device__ void LoadTokens(const TakeJob& job, const float* values) {
  constexpr int32_t kAtOnce = 8;
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  for (auto first = static_cast<int32_t>(threadIdx.x / 32); first < job.num_words();
       first += kWarps * kAtOnce) {
    float loaded[kAtOnce];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t unit = job.begin + (first + i * kWarps) * 32 + lane;
      loaded[i] = unit < job.end ? values[unit] : 0.0f;
    }
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kWarps;
      if (word < job.num_words())
        KeepUnit(job, word, job.begin + word * 32 + lane, OrderedBits(loaded[i]));
    }
  }
}

// Fills ordered, and chosen with what is always kept.
__device__ void LoadUnits(const TakeJob& job) {
  const ChoiceParams& params = *job.params;
  const bool by_head = job.args->stage == TakeStage::kHeads;
  const bool is_plain = job.page == 1 && ScoresTokens(params.scorer) && (by_head || !job.by_rank);
  if (is_plain) {
    LoadTokens(job, params.values + int64_t{job.set} * job.args->c.max_tokens);
  } else {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    for (auto word = static_cast<int32_t>(threadIdx.x / 32); word < job.num_words();
         word += kWarps) {
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
  for (auto word = static_cast<int32_t>(threadIdx.x / 32); word < job.num_words(); word += kWarps)
    f(word, job.begin + word * 32 + lane);
}

// What competes, with its value; 0: nothing.
__device__ __forceinline__ uint32_t CandidateOf(const TakeJob& job, int32_t word, int32_t unit) {
  const bool is_kept = (job.chosen[word] >> (unit - job.begin) % 32 & 1) != 0;
  return unit < job.end && !is_kept ? job.ordered[unit - job.begin] : 0;
}

// The sum over the threads, added to *total (shared memory of any block) by each warp.
__device__ __forceinline__ void AddToTotal(Fixed mine, Fixed* total) {
  const Fixed warp = WarpSum(mine);
  if (threadIdx.x % 32 == 0 && warp != 0) atomicAdd(total, warp);
}

// --- Choosing
// -------------------------------------------------------------------------------------

__device__ TakeTarget TargetOf(const TakeJob& job) {
  const ChoiceParams& params = *job.params;
  TakeTarget target;
  target.by_mass = params.mass > 0 && job.page == 1 && !job.by_rank && ScoresTokens(params.scorer);
  target.wanted = static_cast<uint32_t>(params.wanted);
  if (!target.by_mass) return target;
  target.share = static_cast<Fixed>(params.mass * params.heads_per_set * kMassUnit);
  target.size =
      static_cast<uint32_t>(params.always_begin + job.kv_len - params.always_end + params.num_keep);
  target.floor = static_cast<uint32_t>(params.floor);
  target.ceil = static_cast<uint32_t>(params.ceil);
  return target;
}

__device__ void ClearMemory(TopKMemory* memory) {
  for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads) {
    memory->counts[i] = memory->total_counts[i] = 0;
    memory->sums[i] = memory->total_sums[i] = 0;
  }
  if (threadIdx.x == 0) {
    memory->above_count = 0;
    memory->above_sum = 0;
    memory->taken = 0;
    memory->equal = 0;
  }
}

__device__ TopKThreshold Threshold(const TakeJob& job, TopKMemory* memory) {
  const TakeTarget target = TargetOf(job);
  if (target.by_mass) {
    Fixed kept = 0;
    ForEachUnit(job, [&](int32_t word, int32_t unit) {
      if ((job.chosen[word] >> (unit - job.begin) % 32 & 1) != 0) kept += MassOf(job, unit);
    });
    AddToTotal(kept, &OfBlock(memory, 0)->above_sum);
    ClusterSync();
  }
  const bool has_counts = job.params->counts_bins != 0 && job.args->stage == TakeStage::kSets;
  uint32_t* counts = has_counts ? job.params->bins + int64_t{job.set} * kTopKBins : nullptr;
  const TopKThreshold threshold = FindThreshold(
      target, counts,
      [&](auto count) {
        ForEachUnit(job, [&](int32_t word, int32_t unit) {
          const uint32_t ordered = CandidateOf(job, word, unit);
          if (ordered != 0) count(ordered, [&] { return MassOf(job, unit); });
        });
      },
      memory);
  return threshold;
}

// Where the block's units go.
struct Place {
  uint32_t before = 0;  // units that blocks before it have chosen
  uint32_t ties = 0;    // of the block's, to be chosen
};

// Marks what is above the threshold as chosen and what equals it as ties; counts both.
__device__ void Mark(const TakeJob& job, const TopKThreshold& threshold, TopKMemory* memory) {
  ForEachUnit(job, [&](int32_t word, int32_t unit) {
    const uint32_t ordered = CandidateOf(job, word, unit);
    const uint32_t above = __ballot_sync(kAllLanes, ordered > threshold.last);
    const uint32_t equal = __ballot_sync(kAllLanes, ordered != 0 && ordered == threshold.last);
    __syncwarp();
    if (threadIdx.x % 32 != 0) return;
    const uint32_t chosen = job.chosen[word] | above;
    job.chosen[word] = chosen;
    job.ties[word] = threshold.ties != 0 ? equal : 0;
    if (chosen != 0) atomicAdd(&memory->taken, static_cast<uint32_t>(__popc(chosen)));
    if (equal != 0) atomicAdd(&memory->equal, static_cast<uint32_t>(__popc(equal)));
  });
}

__device__ Place PlaceOfBlock(uint32_t ties, TopKMemory* memory) {
  Place place;
  for (int32_t rank = 0; rank < ClusterRank(); ++rank) {
    const TopKMemory* other = OfBlock(memory, rank);
    const uint32_t theirs = min(other->equal, ties);
    place.before += other->taken + theirs;
    ties -= theirs;
  }
  place.ties = min(memory->equal, ties);
  return place;
}

// Chooses the first `wanted` ties, and leaves in job.ties how many units are chosen before each
// word, in the set.
__device__ void Arrange(const TakeJob& job, const Place& place, TopKMemory* memory) {
  const int32_t words = job.num_words();
  const int32_t each = (words + kTopKThreads - 1) / kTopKThreads;
  const int32_t first = min(static_cast<int32_t>(threadIdx.x) * each, words);
  const int32_t last = min(first + each, words);
  uint32_t count = 0;
  for (int32_t word = first; word < last; ++word)
    count += static_cast<uint32_t>(__popc(job.ties[word]));
  uint32_t before = SumBefore(count, memory->warp_counts);
  count = 0;
  for (int32_t word = first; word < last; ++word) {
    for (uint32_t ties = job.ties[word]; ties != 0 && before < place.ties; ++before) {
      job.chosen[word] |= ties & (0u - ties);
      ties &= ties - 1;
    }
    count += static_cast<uint32_t>(__popc(job.chosen[word]));
  }
  before = place.before + SumBefore(count, memory->warp_counts);
  for (int32_t word = first; word < last; ++word) {
    job.ties[word] = before;
    before += static_cast<uint32_t>(__popc(job.chosen[word]));
  }
  __syncthreads();
}

// --- Results
// --------------------------------------------------------------------------------------

__device__ __forceinline__ int32_t SlotOf(const TakeJob& job, int32_t pos) {
  return job.page_ids[pos / kTokensPerPage] * kTokensPerPage + pos % kTokensPerPage;
}

// Where a set's positions go: into slots, and to what is kept between steps.
struct Output {
  int32_t* slots = nullptr;
  int32_t* positions = nullptr;  // null: nothing is kept
  int32_t capacity = 0;
};
__device__ Output OutputOf(const TakeJob& job) {
  const ChoiceLaunch& c = job.args->c;
  if (job.args->stage == TakeStage::kHeads)
    return {nullptr, job.params->ranked + int64_t{job.set} * c.max_tokens, c.max_tokens};
  Output out;
  out.capacity = job.params->capacity;
  out.slots = job.params->slots + int64_t{job.set} * out.capacity;
  const KeptSets& kept = job.params->kept;
  if (kept.headers != nullptr) {
    out.positions =
        kept.positions + (int64_t{c.layer} * job.params->num_sets + job.set) * out.capacity;
  }
  return out;
}

__device__ __forceinline__ void Put(const TakeJob& job, const Output& out, int32_t at,
                                    int32_t pos) {
  if (at >= out.capacity) return;
  if (out.slots != nullptr) out.slots[at] = SlotOf(job, pos);
  if (out.positions != nullptr) out.positions[at] = pos;
}

// The chosen units' tokens to the output; returns the thread's part of their mass.
__device__ Fixed Emit(const TakeJob& job, bool wants_mass) {
  const Output out = OutputOf(job);
  const uint32_t lanes_before = (1u << threadIdx.x % 32) - 1;
  Fixed mass = 0;
  ForEachUnit(job, [&](int32_t word, int32_t unit) {
    const uint32_t chosen = job.chosen[word];
    if ((chosen >> threadIdx.x % 32 & 1) == 0) return;
    const auto at = static_cast<int32_t>(job.ties[word]) + __popc(chosen & lanes_before);
    for (int32_t i = 0; i < job.page && unit * job.page + i < job.kv_len; ++i)
      Put(job, out, at * job.page + i, unit * job.page + i);
    if (wants_mass) mass += MassOf(job, unit);
  });
  return mass;
}

// The tokens of the set, said by the block that has the last unit.
__device__ int32_t CountTokens(const TakeJob& job) {
  const int32_t word = job.num_words() - 1;
  const uint32_t chosen = job.chosen[word];
  const auto units = static_cast<int32_t>(job.ties[word]) + __popc(chosen);
  const int32_t last = job.num_units - 1 - job.begin;
  const bool has_last = (job.chosen[last / 32] >> last % 32 & 1) != 0;
  const int32_t beyond = has_last ? job.num_units * job.page - job.kv_len : 0;
  return min(units * job.page - beyond, OutputOf(job).capacity);
}

__device__ void KeepHeader(const TakeJob& job) {
  const ChoiceLaunch& c = job.args->c;
  const KeptSets& kept = job.params->kept;
  if (kept.headers == nullptr || job.set != 0 || ClusterRank() != 0) return;
  const int32_t count = c.num_heads * c.kv.head_dim;
  const float* q = QueryOf(c, job.sequence);
  for (int32_t i = threadIdx.x; i < count; i += kTopKThreads)
    kept.queries[int64_t{c.layer} * count + i] = q[i];
  if (threadIdx.x == 0) kept.headers[c.layer] = {job.kv_len, job.params->generation};
}

// The last of the sequence's blocks makes the report and leaves the totals as zeros. By thread 0.
__device__ void Report(const TakeJob& job, bool has_mass, bool fresh) {
  const ChoiceParams& params = *job.params;
  ChoiceTotals* totals = params.totals;
  __threadfence();
  const auto blocks = static_cast<unsigned>(params.num_sets * ClusterSize());
  if (atomicAdd(&totals->blocks_done, 1u) != blocks - 1) return;
  __threadfence();
  const Fixed mass = atomicExch(&totals->mass, 0ull);
  const Fixed tokens = atomicExch(&totals->tokens, 0ull);
  totals->blocks_done = 0;
  DeviceChoiceReport report;
  report.selected_mass =
      has_mass ? static_cast<float>(static_cast<double>(mass) / kMassUnit / job.args->c.num_heads)
               : __int_as_float(0x7fc00000);
  report.tokens = static_cast<float>(static_cast<double>(tokens) / params.num_sets);
  report.fresh = fresh ? 1 : 0;
  job.args->c.reports[job.sequence] = report;
}

// A block's part of a set is written: its mass and, by one block of the set, its size.
__device__ void Finish(const TakeJob& job, Fixed mass, int32_t num_tokens, bool says_tokens,
                       bool has_mass, bool fresh) {
  AddToTotal(mass, &job.params->totals->mass);
  if (threadIdx.x == 0 && says_tokens) {
    job.params->counts[job.set] = num_tokens;
    atomicAdd(&job.params->totals->tokens, static_cast<Fixed>(num_tokens));
    const KeptSets& kept = job.params->kept;
    if (fresh && kept.headers != nullptr)
      kept.counts[job.args->c.layer * job.params->num_sets + job.set] = num_tokens;
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) Report(job, has_mass, fresh);
}

// The set of an earlier step and every token since.
__device__ void ReuseSet(const TakeJob& job, bool has_mass) {
  const ChoiceLaunch& c = job.args->c;
  const KeptSets& kept = job.params->kept;
  const int64_t row = int64_t{c.layer} * job.params->num_sets + job.set;
  const int32_t* positions = kept.positions + row * job.params->capacity;
  const int32_t num_kept = kept.counts[row];
  const int32_t since = kept.headers[c.layer].kv_len;
  const int32_t count = min(num_kept + job.kv_len - since, job.params->capacity);
  Output out = OutputOf(job);
  out.positions = nullptr;
  Fixed mass = 0;
  for (auto i = static_cast<int32_t>(ClusterRank() * kTopKThreads + threadIdx.x); i < count;
       i += ClusterSize() * kTopKThreads) {
    const int32_t pos = i < num_kept ? positions[i] : since + i - num_kept;
    Put(job, out, i, pos);
    if (has_mass) mass += ToFixed(job.masses()[pos]);
  }
  Finish(job, mass, count, ClusterRank() == 0, has_mass, false);
}

__device__ void TakeSet(const TakeJob& job, bool has_mass, TopKMemory* memory) {
  ClearMemory(memory);
  LoadUnits(job);
  ClusterSync();
  const TopKThreshold threshold = Threshold(job, memory);
  Mark(job, threshold, memory);
  ClusterSync();
  Arrange(job, PlaceOfBlock(threshold.ties, memory), memory);
  const Fixed mass = Emit(job, has_mass);
  const bool has_last_unit = job.begin < job.num_units && job.end == job.num_units;
  const int32_t num_tokens = has_last_unit ? CountTokens(job) : 0;
  ClusterSync();  // nobody needs another block's memory any more
  if (job.args->stage == TakeStage::kHeads) {
    if (has_last_unit && threadIdx.x == 0) job.params->num_ranked[job.set] = num_tokens;
    return;
  }
  if (job.params->counts_bins != 0 && ClusterRank() == 0) {
    for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads)
      job.params->bins[int64_t{job.set} * kTopKBins + i] = 0;
  }
  KeepHeader(job);
  Finish(job, mass, num_tokens, has_last_unit, has_mass, true);
}

__global__ void __launch_bounds__(kTopKThreads) TakeKernel(const __grid_constant__ TakeArgs args) {
  extern __shared__ __align__(16) uint8_t shared[];
  auto* memory = reinterpret_cast<TopKMemory*>(shared);
  const ChoiceLaunch& c = args.c;
  WaitForInputs();
  AllowNext();
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  const ChoiceParams& params = c.params[sequence];
  const bool by_head = args.stage == TakeStage::kHeads;
  const int32_t num_sets = by_head ? c.num_heads : params.num_sets;
  if (!Chooses(c, sequence) || static_cast<int32_t>(blockIdx.y) >= num_sets) return;
  const bool fresh = IsFresh(c, sequence);
  TakeJob job = MakeJob(args, reinterpret_cast<uint32_t*>(memory + 1));
  if (by_head && (!fresh || !job.by_rank)) return;
  const bool has_mass = !by_head && GetsScores(c, sequence);
  if (fresh) {
    TakeSet(job, has_mass, memory);
  } else {
    ReuseSet(job, has_mass);
  }
}

cudaError_t LaunchTake(const TakeArgs& args, const TopKShape& shape, int32_t max_sets,
                       cudaStream_t stream) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = {static_cast<unsigned>(shape.cluster), static_cast<unsigned>(max_sets),
                    static_cast<unsigned>(args.c.step.num_sequences)};
  config.blockDim = dim3(kTopKThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = shape.cluster > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, TakeKernel, args);
}

}  // namespace

TopKShape ShapeOfTopK(const ChoiceGeometry& geometry, int32_t max_tokens, int32_t total_sets) {
  constexpr int32_t kMostBlocks = 8;  // what every device with clusters can do
  TopKShape shape;
  const auto divide = [&](int32_t blocks) {
    shape.cluster = blocks;
    shape.slice = ((max_tokens + blocks - 1) / blocks + 31) / 32 * 32;
    shape.shared_bytes = static_cast<int32_t>(sizeof(TopKMemory)) + shape.slice / 16 * 4;
  };
  divide(1);
  while (geometry.has_clusters && shape.cluster < kMostBlocks &&
         (2 * shape.cluster * total_sets <= geometry.num_sms ||
          shape.shared_bytes > geometry.max_shared_bytes))
    divide(2 * shape.cluster);
  if (shape.shared_bytes + shape.slice * 4 <= geometry.max_shared_bytes) {
    shape.shared_ordered = 1;
    shape.shared_bytes += shape.slice * 4;
  }
  return shape;
}

cudaError_t PrepareTopK(ChoiceGeometry* geometry) {
  cudaFuncAttributes attributes = {};
  cudaError_t error = cudaFuncGetAttributes(&attributes, TakeKernel);
  if (error != cudaSuccess) return error;
  // Code translated from older PTX does not know of clusters, whatever the device is.
  geometry->has_clusters = attributes.ptxVersion >= 90;
  return cudaFuncSetAttribute(TakeKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              geometry->max_shared_bytes);
}

cudaError_t LaunchSelect(const ChoiceLaunch& launch, const TopKShape& shape, int32_t max_sets,
                         cudaStream_t stream) {
  return LaunchTake({launch, shape.slice, shape.shared_ordered, TakeStage::kSets}, shape, max_sets,
                    stream);
}

cudaError_t LaunchHeads(const ChoiceLaunch& launch, const TopKShape& shape, cudaStream_t stream) {
  return LaunchTake({launch, shape.slice, shape.shared_ordered, TakeStage::kHeads}, shape,
                    launch.num_heads, stream);
}

}  // namespace tidal
