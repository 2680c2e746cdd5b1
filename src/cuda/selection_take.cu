// What      The sets of a choice: always-kept tokens and the best of the others, as slots.
// Shapes    values and masses float32 [num_sets][max_tokens]; sets int32 [num_sets][capacity],
//           counts [num_sets]; reports [num_sequences].
// Layout    a set's units of choice (tokens, or pages of the plan) lie in equal slices over the
//           blocks of a cluster; a block keeps its values in shared memory where they fit, and one
//           bit per unit says what is chosen.
// Launch    grid (cluster, most sets of a sequence, sequences), 512 threads, clusters of 1 to 8.
// Bytes     the values, once; the sets written.
// Numerics  exact: ties go to the smaller position. A set's tokens ascend. Selected mass in fixed
//           point. Nothing depends on the batch or on the size of clusters, bit by bit.
// Oracle    top_k_test.cc, selection_test.cc; bench/cuda_selection_bench.cu.
#include "cuda/selection_take.cuh"

namespace tidal {
namespace {

// --- Choosing

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
  if (threadIdx.x < kMostBlocks) memory->listed_taken[threadIdx.x] = 0;
  if (threadIdx.x != 0) return;
  memory->above_count = 0;
  memory->above_sum = 0;
  memory->taken = 0;
  memory->equal = 0;
  memory->mass = 0;
  memory->tokens = 0;
}

__device__ TopKThreshold Threshold(const TakeJob& job, const TakeTarget& target,
                                   TopKMemory* memory) {
  if (target.by_mass) {
    Fixed kept = 0;
    ForEachUnit(job, [&](int32_t word, int32_t unit) {
      if ((job.chosen[word] >> (unit - job.begin) % 32 & 1) != 0) kept += MassOf(job, unit);
    });
    ClusterSync();  // the first block's memory is cleared
    AddToTotal(kept, &OfBlock(memory, 0)->above_sum);
  }
  return FindThreshold(
      target,
      [&](auto count) {
        ForEachUnit(job, [&](int32_t word, int32_t unit) {
          const uint32_t ordered = CandidateOf(job, word, unit);
          if (ordered != 0) count(ordered, [&] { return MassOf(job, unit); });
        });
      },
      memory);
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

// Where the merge has counted all values: chooses what is above the last bin, and compares what is
// in it. False, with nothing done, where that is too much.
__device__ bool TakeListed(const TakeJob& job, const TakeTarget& target, Place* place,
                           TopKMemory* memory) {
  FindBin(job.params->bins + int64_t{job.set} * kTopKBins, nullptr, target, 0, memory);
  const PassResult result = memory->results[0];
  if (result.kind != PassResult::kBin || memory->bin_count > kMostListed) {
    __syncthreads();
    if (threadIdx.x == 0) memory->above_count = 0;
    return false;
  }
  const auto last = static_cast<int32_t>(result.bin);
  ForEachUnit(job, [&](int32_t word, int32_t unit) {
    const uint32_t ordered = CandidateOf(job, word, unit);
    const int32_t bin = ordered != 0 ? ProbabilityBin(ordered) : -1;
    const uint32_t above = __ballot_sync(kAllLanes, bin > last);
    if (bin == last) memory->sums[atomicAdd(&memory->equal, 1u)] = Listed(ordered, unit);
    if (threadIdx.x % 32 != 0) return;
    const uint32_t chosen = job.chosen[word] | above;
    job.chosen[word] = chosen;
    if (chosen != 0) atomicAdd(&memory->taken, static_cast<uint32_t>(__popc(chosen)));
  });
  ClusterSync();
  // All that is listed, block by block.
  const int32_t blocks = ClusterSize();
  uint32_t total = 0;
  for (int32_t rank = 0; rank < blocks; ++rank) {
    const TopKMemory* other = OfBlock(memory, rank);
    const uint32_t theirs = other->equal;
    for (uint32_t i = threadIdx.x; i < theirs; i += kTopKThreads)
      memory->total_sums[total + i] = other->sums[i];
    total += theirs;
  }
  __syncthreads();
  const uint32_t wanted = target.wanted - memory->above_count;
  const int32_t slice = BlockSlice(job.num_units);
  for (uint32_t i = threadIdx.x; i < total; i += kTopKThreads) {
    const Fixed mine = memory->total_sums[i];
    uint32_t before = 0;
#pragma unroll 4
    for (uint32_t j = 0; j < total; ++j) before += memory->total_sums[j] > mine ? 1 : 0;
    if (before >= wanted) continue;
    const int32_t unit = UnitOfListed(mine);
    atomicAdd(&memory->listed_taken[unit / slice], 1u);
    if (unit >= job.begin && unit < job.end)
      atomicOr(&job.chosen[(unit - job.begin) / 32], 1u << (unit - job.begin) % 32);
  }
  __syncthreads();
  for (int32_t rank = 0; rank < ClusterRank(); ++rank)
    place->before += OfBlock(memory, rank)->taken + memory->listed_taken[rank];
  return true;
}

__device__ Place TakeByThreshold(const TakeJob& job, const TakeTarget& target, TopKMemory* memory) {
  const TopKThreshold threshold = Threshold(job, target, memory);
  Mark(job, threshold, memory);
  ClusterSync();
  return PlaceOfBlock(threshold.ties, memory);
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
  if (kept.headers == nullptr || job.set != 0) return;
  const int32_t count = c.num_heads * c.kv.head_dim;
  const float* q = QueryOf(c, job.sequence);
  for (int32_t i = threadIdx.x; i < count; i += kTopKThreads)
    kept.queries[int64_t{c.layer} * count + i] = q[i];
  if (threadIdx.x == 0) kept.headers[c.layer] = {job.kv_len, job.params->generation};
}

__device__ void Report(const TakeJob& job, Fixed mass, Fixed tokens, bool has_mass, bool fresh) {
  DeviceChoiceReport report;
  report.selected_mass =
      has_mass ? static_cast<float>(static_cast<double>(mass) / kMassUnit / job.args->c.num_heads)
               : __int_as_float(0x7fc00000);
  report.tokens = static_cast<float>(static_cast<double>(tokens) / job.params->num_sets);
  report.fresh = fresh ? 1 : 0;
  job.args->c.reports[job.sequence] = report;
}

// A set is written: the last of the sequence's sets makes the report and leaves the totals as
// zeros. By one thread of the set.
__device__ void FinishSet(const TakeJob& job, Fixed mass, uint32_t tokens, bool has_mass,
                          bool fresh) {
  const ChoiceParams& params = *job.params;
  params.counts[job.set] = static_cast<int32_t>(tokens);
  if (fresh && params.kept.headers != nullptr) {
    params.kept.counts[job.args->c.layer * params.num_sets + job.set] =
        static_cast<int32_t>(tokens);
  }
  if (params.num_sets == 1) {
    Report(job, mass, tokens, has_mass, fresh);
    return;
  }
  ChoiceTotals* totals = params.totals;
  atomicAdd(&totals->mass, mass);
  atomicAdd(&totals->tokens, Fixed{tokens});
  __threadfence();
  if (atomicAdd(&totals->sets_done, 1u) != static_cast<unsigned>(params.num_sets) - 1) return;
  __threadfence();
  const Fixed all_mass = atomicExch(&totals->mass, 0ull);
  const Fixed all_tokens = atomicExch(&totals->tokens, 0ull);
  totals->sets_done = 0;
  Report(job, all_mass, all_tokens, has_mass, fresh);
}

// The set of an earlier step and every token since.
__device__ void ReuseSet(const TakeJob& job, bool has_mass, TopKMemory* memory) {
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
  ClusterSync();  // the first block's memory is cleared
  AddToTotal(mass, &OfBlock(memory, 0)->mass);
  ClusterSync();
  if (ClusterRank() == 0 && threadIdx.x == 0)
    FinishSet(job, memory->mass, static_cast<uint32_t>(count), has_mass, false);
}

__device__ void TakeSet(const TakeJob& job, bool has_mass, TopKMemory* memory) {
  const bool by_head = job.args->stage == TakeStage::kHeads;
  const bool has_counts = job.params->counts_bins != 0 && !by_head;
  const TakeTarget target = TargetOf(job);
  LoadUnits(job);
  Place place;
  if (!has_counts || !TakeListed(job, target, &place, memory))
    place = TakeByThreshold(job, target, memory);
  Arrange(job, place, memory);
  AddToTotal(Emit(job, has_mass), &OfBlock(memory, 0)->mass);
  if (job.begin < job.num_units && job.end == job.num_units && threadIdx.x == 0)
    OfBlock(memory, 0)->tokens = static_cast<uint32_t>(CountTokens(job));
  ClusterSync();
  if (ClusterRank() != 0) return;
  if (has_counts) {
    for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads)
      job.params->bins[int64_t{job.set} * kTopKBins + i] = 0;
  }
  if (!by_head) KeepHeader(job);
  if (threadIdx.x != 0) return;
  if (by_head) {
    job.params->num_ranked[job.set] = static_cast<int32_t>(memory->tokens);
  } else {
    FinishSet(job, memory->mass, memory->tokens, has_mass, true);
  }
}

__global__ void __launch_bounds__(kTopKThreads, 2)
    TakeKernel(const __grid_constant__ TakeArgs args) {
  extern __shared__ __align__(16) uint8_t shared[];
  auto* memory = reinterpret_cast<TopKMemory*>(shared);
  const ChoiceLaunch& c = args.c;
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  const ChoiceParams& params = c.params[sequence];
  const bool by_head = args.stage == TakeStage::kHeads;
  const int32_t num_sets = by_head ? c.num_heads : params.num_sets;
  const bool is_active = Chooses(c, sequence) && static_cast<int32_t>(blockIdx.y) < num_sets;
  const TakeJob job = MakeJob(args, reinterpret_cast<uint32_t*>(memory + 1));
  ClearMemory(memory);
  WaitForInputs();
  AllowNext();
  if (!is_active) return;
  const bool fresh = IsFresh(c, sequence);
  if (by_head && (!fresh || !job.by_rank)) return;
  const bool has_mass = !by_head && GetsScores(c, sequence);
  if (fresh) {
    TakeSet(job, has_mass, memory);
  } else {
    ReuseSet(job, has_mass, memory);
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
