// What      The sets of a choice: always-kept tokens and the best of the others, as slots; but for
//           those that selection_counted.cu chooses.
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

__device__ Place TakeByThreshold(const TakeJob& job, const TakeTarget& target, TopKMemory* memory) {
  const TopKThreshold threshold = Threshold(job, target, memory);
  Mark(job, threshold, memory);
  ClusterSync();
  return PlaceOfBlock(threshold.ties, memory);
}

// --- Results

__device__ Output OutputOf(const TakeJob& job) {
  if (job.args->stage == TakeStage::kHeads)
    return {nullptr, job.params->ranked + int64_t{job.set} * job.c->max_tokens, job.c->max_tokens};
  return OutputOfSet(job);
}

__device__ __forceinline__ void Put(const TakeJob& job, const Output& out, int32_t at,
                                    int32_t pos) {
  PutInPage(out, at, pos, job.page_ids[pos / kTokensPerPage]);
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
  const TakeTarget target = TargetOf(job);
  LoadUnits(job);
  const Place place = TakeByThreshold(job, target, memory);
  ArrangeWords(job.chosen, job.ties, job.num_words(), place.before, place.ties, memory);
  AddToTotal(Emit(job, has_mass), &OfBlock(memory, 0)->mass);
  if (job.begin < job.num_units && job.end == job.num_units && threadIdx.x == 0)
    OfBlock(memory, 0)->tokens = static_cast<uint32_t>(CountTokens(job));
  ClusterSync();
  if (ClusterRank() != 0) return;
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
  if (fresh && params.counts_bins != 0) return;  // selection_counted.cu has done it
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
  if (error = PreferSharedMemory(TakeKernel); error != cudaSuccess) return error;
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
