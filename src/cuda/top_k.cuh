// The largest of many values, exactly, by the blocks of a cluster: which value is the last to be
// taken, and how many of those that equal it.
//
// How       three passes over the bits of the values as ordered integers, 11, 11 and 10 of them: a
//           histogram each of what the passes before left open, of numbers and, where a share of
//           probability decides, of that as well. Blocks count their own part, the first one sums
//           up and finds the bin in which the last value taken lies.
// Numerics  comparisons of integers; probability in fixed point, so that no order of additions
//           shows.
#ifndef TIDAL_CUDA_TOP_K_CUH_
#define TIDAL_CUDA_TOP_K_CUH_

#include "cuda/cluster.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {

inline constexpr int32_t kTopKThreads = 512;
inline constexpr int32_t kTopKPasses = 3;
inline constexpr int32_t kBinsPerThread = kTopKBins / kTopKThreads;
// Blocks of a cluster at most: what every device with clusters can do.
inline constexpr int32_t kMostBlocks = 8;

using Fixed = unsigned long long;
__device__ __forceinline__ Fixed ToFixed(float mass) { return __float2ull_rn(mass * kMassUnit); }

// When enough is taken.
struct TakeTarget {
  bool by_mass = false;
  uint32_t wanted = 0;  // by number
  Fixed share = 0;      // by mass: what the sum must reach,
  uint32_t size = 0;    // what is taken already, counted in these two:
  uint32_t floor = 0;
  uint32_t ceil = 0;  // 0: none

  // `sum` includes what is taken already.
  __device__ bool IsReached(uint32_t count, Fixed sum) const {
    if (!by_mass) return count >= wanted;
    return (sum >= share && size + count >= floor) || (ceil != 0 && size + count >= ceil);
  }
  // How many of `equal` values that weigh `equal_sum` together are taken as well, at least one.
  __device__ uint32_t TiesToTake(uint32_t count, Fixed sum, uint32_t equal, Fixed equal_sum) const {
    if (!by_mass) return wanted - count;
    // Equal values weigh the same, or their mean where others than they rank them.
    const double weight = static_cast<double>(equal_sum) / equal;
    uint32_t ties = 1;
    for (uint32_t most = equal; ties < most;) {
      const uint32_t middle = ties + (most - ties) / 2;
      const bool is_enough = IsReached(count + middle, sum + static_cast<Fixed>(weight * middle));
      if (is_enough) most = middle;
      if (!is_enough) ties = middle + 1;
    }
    return ties;
  }
};

// What a pass found.
struct PassResult {
  enum Kind : uint32_t { kBin, kTakeAll, kTakeNone };
  Kind kind = kBin;
  uint32_t bin = 0;
  uint32_t ties = 0;  // of the last pass
};

// Everything with more than `last` is taken, and the first `ties` that equal it.
struct TopKThreshold {
  uint32_t last = 0;
  uint32_t ties = 0;
};

// In shared memory.
struct TopKMemory {
  // Histograms, zeros between passes: the block's, and of the first block the sums over blocks.
  Fixed sums[kTopKBins];
  Fixed total_sums[kTopKBins];
  uint32_t counts[kTopKBins];
  uint32_t total_counts[kTopKBins];
  PassResult results[kTopKPasses];
  uint32_t above_count;  // taken above the bins of the pass at hand
  Fixed above_sum;
  uint32_t bin_count;  // values in the bin that FindBin found
  uint32_t warp_counts[kTopKThreads / 32];
  Fixed warp_sums[kTopKThreads / 32];
  uint32_t taken;  // units of the block that are chosen
  uint32_t equal;  // and that are tied
  // Of the first block: the whole set's.
  Fixed mass;
  uint32_t tokens;
};

// The sum of the values of the threads before this one. `warps` is shared, [kTopKThreads / 32], and
// free again after the next barrier.
template <typename T>
__device__ T SumBefore(T value, T* warps) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const auto warp = static_cast<int32_t>(threadIdx.x / 32);
  T sum = value;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const T other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(d));
    if (lane >= d) sum += other;
  }
  __syncthreads();
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  const T before = WarpSum(lane < warp ? warps[lane] : T{0});
  return before + sum - value;
}

__device__ __forceinline__ int32_t PassShift(int pass) {
  return pass == 0 ? 21 : pass == 1 ? 10 : 0;
}
__device__ __forceinline__ uint32_t PassMask(int pass) { return pass == 2 ? 1023u : 2047u; }

// The bin of a pass in which the target is reached, from the top. All threads of a block; sums are
// looked at only where mass decides.
__device__ inline void FindBin(const uint32_t* counts, const Fixed* sums, const TakeTarget& target,
                               int pass, TopKMemory* memory) {
  const auto high = static_cast<int32_t>(kTopKBins - 1 - kBinsPerThread * threadIdx.x);
  uint32_t own[kBinsPerThread];
  Fixed own_sums[kBinsPerThread] = {};
  uint32_t own_count = 0;
  Fixed own_sum = 0;
#pragma unroll
  for (int32_t i = 0; i < kBinsPerThread; ++i) {
    own_count += own[i] = counts[high - i];
    if (target.by_mass) own_sum += own_sums[i] = sums[high - i];
  }
  uint32_t count = memory->above_count + SumBefore(own_count, memory->warp_counts);
  Fixed sum = memory->above_sum;
  if (target.by_mass) sum += SumBefore(own_sum, memory->warp_sums);
  PassResult* result = &memory->results[pass];
  if (threadIdx.x == 0) {
    *result = {target.IsReached(count, sum) ? PassResult::kTakeNone : PassResult::kTakeAll, 0, 0};
  }
  __syncthreads();
  const bool takes_none = result->kind == PassResult::kTakeNone;
  __syncthreads();  // everybody has read it: one thread writes it again
  if (takes_none) return;
#pragma unroll
  for (int32_t i = 0; i < kBinsPerThread; ++i) {
    const uint32_t count_after = count + own[i];
    const Fixed sum_after = sum + own_sums[i];
    if (!target.IsReached(count, sum) && target.IsReached(count_after, sum_after)) {
      const uint32_t ties =
          pass == kTopKPasses - 1 ? target.TiesToTake(count, sum, own[i], own_sums[i]) : 0;
      *result = {PassResult::kBin, static_cast<uint32_t>(high - i), ties};
      memory->above_count = count;
      memory->above_sum = sum;
      memory->bin_count = own[i];
    }
    count = count_after;
    sum = sum_after;
  }
  __syncthreads();
}

// Candidates are visited by visit(f), which calls f(ordered, mass_of) for those of the block, where
// mass_of() gives a candidate's Fixed. Called by all blocks of the cluster, all threads; on entry
// memory->above_* of the first block are what is taken already, visible to all.
template <typename Visit>
__device__ TopKThreshold FindThreshold(const TakeTarget& target, Visit visit, TopKMemory* memory) {
  for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads) {
    memory->counts[i] = memory->total_counts[i] = 0;
    memory->sums[i] = memory->total_sums[i] = 0;
  }
  ClusterSync();
  uint32_t prefix = 0;
  for (int pass = 0; pass < kTopKPasses; ++pass) {
    const int32_t shift = PassShift(pass);
    const uint32_t mask = PassMask(pass);
    const int32_t above = shift + (pass == 2 ? 10 : 11);
    visit([&](uint32_t ordered, auto mass_of) {
      if (pass > 0 && ordered >> above != prefix) return;
      const uint32_t bin = ordered >> shift & mask;
      atomicAdd(&memory->counts[bin], 1u);
      if (target.by_mass) atomicAdd(&memory->sums[bin], mass_of());
    });
    __syncthreads();
    TopKMemory* first = OfBlock(memory, 0);
    for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads) {
      if (memory->counts[i] == 0) continue;
      atomicAdd(&first->total_counts[i], memory->counts[i]);
      if (target.by_mass) atomicAdd(&first->total_sums[i], memory->sums[i]);
      memory->counts[i] = 0;
      memory->sums[i] = 0;
    }
    ClusterSync();
    if (ClusterRank() == 0) {
      FindBin(memory->total_counts, memory->total_sums, target, pass, memory);
      for (int32_t i = threadIdx.x; i < kTopKBins; i += kTopKThreads) {
        memory->total_counts[i] = 0;
        memory->total_sums[i] = 0;
      }
    }
    ClusterSync();
    const PassResult result = first->results[pass];
    if (result.kind == PassResult::kTakeAll) return {0, 0};
    if (result.kind == PassResult::kTakeNone) return {0xffffffffu, 0};
    prefix = prefix << (pass == 2 ? 10 : 11) | result.bin;
    if (pass == kTopKPasses - 1) return {prefix, result.ties};
  }
  return {0, 0};
}

}  // namespace tidal

#endif  // TIDAL_CUDA_TOP_K_CUH_
