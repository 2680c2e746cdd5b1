// What      the largest logits of each row, sorted, and the row's softmax sum (candidates.h).
// Shapes    logits [num_rows][cols] f32; cols in groups of 64, four groups to a part.
// Launch    GroupKernel: a warp per part leaves the largest logit of each group, and the part's sum
//           of e^x where that is wanted. PickKernel: a block of 512 threads per row.
// How       The n best logits lie in the n groups with the largest maxima (with more than that
//           nothing is lost), so the second kernel reads some n + 64 groups again instead of the
//           row. A threshold that leaves a number of maxima between n and that many is found by
//           halving an interval of keys: a key is a value as ordered integer and, among equals,
//           its index, so that no two are equal and halving ends. What reaches the threshold is
//           listed, and a listed key's rank is the number of larger ones.
// Bytes     the row once, in L2 since the product that made it, and cols / 16 + 256 (n + 64) more:
//           0.6 MB of a 152k vocabulary. Bound by latency, not by bytes: every load of a kernel is
//           under way at once.
// Speed     on an H200, one row of 128,256 logits: the best takes 3.0 us, 40 take 4.9 and 128 take
//           6.9; the softmax sum takes 1.1 more.
// Numerics  the list is exact; e^x to two units in the last place of float32, of float32
//           differences, added up in double in an order that depends on cols alone.
// Oracle    candidates_test.cc.
#include "cuda/candidates.h"
#include "cuda/launch.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kGroupCols = 64;
constexpr int32_t kPartGroups = 4;
constexpr int32_t kPartCols = kPartGroups * kGroupCols;
constexpr int32_t kColsPerLane = kPartCols / 32;
constexpr int32_t kGroupThreads = 256;
constexpr int32_t kPickThreads = 512;
constexpr int32_t kPickWarps = kPickThreads / 32;
// Groups beyond the wanted number that may be read again.
constexpr int32_t kSlackGroups = 64;
constexpr int32_t kMaxReadGroups = kMaxCandidates + kSlackGroups;
constexpr int32_t kReadsPerWarp = kMaxReadGroups / kPickWarps;
constexpr int32_t kValuesPerLane = kReadsPerWarp * kGroupCols / 32;
static_assert(kMaxReadGroups % kPickWarps == 0 && kPickThreads >= 2 * kMaxCandidates);
constexpr uint32_t kMaxListed = 2 * kMaxCandidates;
constexpr uint32_t kRankSharers = 4;  // threads that find a key's rank together,
constexpr uint32_t kRankPiece = 32;   // by so many others at a time
static_assert(kMaxListed % kRankPiece == 0);

// OrderedBits of the lowest finite number; what has less is no candidate: NaN and minus infinity.
constexpr uint32_t kLeastOrdered = 0x00800000u;

// The largest of each group of a part: OrderedBits.
using PartMaxima = uint4;

struct RowScratch {
  PartMaxima* maxima;  // [parts]
  double* sums;        // [parts], of e^(logit - the part's largest)
};
__host__ __device__ constexpr int32_t NumParts(int32_t cols) {
  return (cols + kPartCols - 1) / kPartCols;
}
__host__ __device__ constexpr int64_t RowScratchBytes(int32_t cols) {
  const int64_t bytes = int64_t{NumParts(cols)} * (sizeof(PartMaxima) + sizeof(double));
  return (bytes + 15) / 16 * 16;
}
__device__ RowScratch ScratchOf(const CandidateCall& c, uint32_t row) {
  char* begin = static_cast<char*>(c.scratch) + row * RowScratchBytes(c.cols);
  auto* maxima = reinterpret_cast<PartMaxima*>(begin);
  return {maxima, reinterpret_cast<double*>(maxima + NumParts(c.cols))};
}

__device__ __forceinline__ uint32_t Largest(const PartMaxima& m) {
  return max(max(m.x, m.y), max(m.z, m.w));
}
__device__ __forceinline__ float FiniteOf(float logit) { return fminf(logit, 3.402823466e38f); }
// Ascending with the value and, among equals, with a lesser index.
__device__ __forceinline__ uint64_t KeyOf(uint32_t ordered, uint32_t index) {
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - index);
}
__device__ __forceinline__ uint32_t LaneOfThread() { return threadIdx.x % 32; }

// Block (x, y): some parts of row y.
__global__ void __launch_bounds__(kGroupThreads) GroupKernel(CandidateCall c) {
  const auto part = static_cast<int32_t>(blockIdx.x * (kGroupThreads / 32) + threadIdx.x / 32);
  const uint32_t lane = LaneOfThread();
  const float* logits = c.logits + blockIdx.y * c.stride;
  const int32_t begin = part * kPartCols + static_cast<int32_t>(lane);
  const bool wants_softmax = c.rows[blockIdx.y].wants_softmax != 0;
  WaitForInputs();
  AllowNext();
  if (part >= NumParts(c.cols)) return;
  float values[kColsPerLane];
#pragma unroll
  for (int i = 0; i < kColsPerLane; ++i) {
    const int32_t col = begin + 32 * i;
    values[i] = col < c.cols ? __ldcg(logits + col) : -INFINITY;
  }
  uint32_t largest[kPartGroups];
#pragma unroll
  for (int g = 0; g < kPartGroups; ++g) {
    const uint32_t mine = max(OrderedBits(values[2 * g]), OrderedBits(values[2 * g + 1]));
    largest[g] = __reduce_max_sync(kAllLanes, mine);
  }
  static_assert(kColsPerLane == 2 * kPartGroups && kPartGroups == 4);
  const PartMaxima maxima = make_uint4(largest[0], largest[1], largest[2], largest[3]);
  const RowScratch scratch = ScratchOf(c, blockIdx.y);
  if (lane == 0) scratch.maxima[part] = maxima;
  if (!wants_softmax) return;
  const float most = FiniteOf(ValueOfOrdered(Largest(maxima)));
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kColsPerLane; ++i) {
    // Not NaN either.
    if (values[i] > -INFINITY) sum += static_cast<double>(expf(FiniteOf(values[i]) - most));
  }
  sum = WarpSum(sum);
  if (lane == 0) scratch.sums[part] = sum;
}

struct PickMemory {
  uint64_t listed[kMaxListed];  // keys
  uint32_t read_groups[kMaxReadGroups];
  uint32_t num_listed;
  uint32_t num_read;
  uint32_t largest[kPickWarps];   // of a warp's threads' largest maxima: the largest,
  uint32_t smallest[kPickWarps];  // and the smallest
  uint32_t counts[2][kPickWarps];
  double sums[kPickWarps];
};

__device__ void ClearLists(PickMemory* memory) {
  if (threadIdx.x < kMaxListed) memory->listed[threadIdx.x] = 0;
  if (threadIdx.x == 0) memory->num_read = memory->num_listed = 0;
}

// Sums over the block, to every thread; each takes one barrier.
class BlockCounter {
 public:
  __device__ explicit BlockCounter(PickMemory* memory) : memory_(memory) {}
  __device__ uint32_t Sum(uint32_t value) {
    const uint32_t lane = LaneOfThread();
    // The one before is still being read by others.
    uint32_t* counts = memory_->counts[turn_];
    turn_ ^= 1;
    const uint32_t of_warp = __reduce_add_sync(kAllLanes, value);
    if (lane == 0) counts[threadIdx.x / 32] = of_warp;
    __syncthreads();
    return __reduce_add_sync(kAllLanes, lane < kPickWarps ? counts[lane] : 0);
  }

 private:
  PickMemory* memory_;
  uint32_t turn_ = 0;
};

// A key such that `wanted` to `most` of the block's keys are no less, or `low` where no more than
// `most` are not less than that. count(key) is how many of the thread's are no less. REQUIRES: no
// two keys are equal, fewer than `wanted` reach `high`.
template <typename Count>
__device__ uint64_t FindThreshold(uint64_t low, uint64_t high, uint32_t wanted, uint32_t most,
                                  BlockCounter* counter, Count count) {
  if (counter->Sum(count(low)) <= most) return low;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    const uint32_t reached = counter->Sum(count(middle));
    if (reached >= wanted && reached <= most) return middle;
    (reached > most ? low : high) = middle;
  }
  return low;  // not reached, since counts of unequal keys step by one
}

// A number that at least `wanted` of all maxima reach: 32 threads each have a maximum that is no
// less than the smallest of their largest ones.
__device__ uint32_t LowerBound(const PickMemory& memory, uint32_t wanted) {
  const uint32_t lane = LaneOfThread();
  uint32_t smallest = lane < kPickWarps ? memory.smallest[lane] : 0;
  uint32_t bound = __reduce_max_sync(kAllLanes, smallest);
  for (uint32_t warps = 1; warps * 32 < wanted; ++warps) {
    const uint32_t holders = __ballot_sync(kAllLanes, smallest == bound);
    if (lane == static_cast<uint32_t>(__ffs(static_cast<int>(holders)) - 1)) smallest = 0;
    bound = __reduce_max_sync(kAllLanes, smallest);
  }
  return max(bound, kLeastOrdered);
}

// The groups whose maxima reach the threshold, to memory->read_groups.
__device__ void ListGroups(const PartMaxima* maxima, int32_t num_parts, uint64_t threshold,
                           PickMemory* memory) {
  for (auto part = threadIdx.x; part < static_cast<uint32_t>(num_parts); part += kPickThreads) {
    const PartMaxima own = maxima[part];
    const uint32_t values[kPartGroups] = {own.x, own.y, own.z, own.w};
#pragma unroll
    for (uint32_t g = 0; g < kPartGroups; ++g) {
      const uint32_t group = part * kPartGroups + g;
      if (KeyOf(values[g], group) >= threshold)
        memory->read_groups[atomicAdd(&memory->num_read, 1u)] = group;
    }
  }
}

// *from, or NaN where it must not be read. Predicated: the compiler makes a branch of a condition,
// which waits for what it has loaded before the next load starts.
__device__ __forceinline__ float LoadIf(bool condition, const float* from) {
  float value;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %2, 0;\n"
      "mov.b32 %0, 0x7fffffff;\n"
      "@p ld.global.cg.f32 %0, [%1];\n"
      "}"
      : "=f"(value)
      : "l"(from), "r"(static_cast<uint32_t>(condition)));
  return value;
}

// The logits of the groups that are read again: a warp has each kPickWarps-th group, a lane two
// logits of it. Loops end where the block's groups do.
struct ReadValues {
  uint32_t num_groups;
  uint32_t ordered[kValuesPerLane];
  uint32_t cols[kValuesPerLane];

  __device__ bool Has(int i) const {
    return static_cast<uint32_t>(i / 2 * kPickWarps) < num_groups;
  }
  __device__ uint64_t Key(int i) const { return KeyOf(ordered[i], cols[i]); }

  __device__ void Load(const float* logits, int32_t num_cols, const PickMemory& memory) {
    num_groups = memory.num_read;
    float loaded[kValuesPerLane];
#pragma unroll
    for (int i = 0; i < kValuesPerLane; ++i) {
      if (!Has(i)) break;
      const uint32_t slot = static_cast<uint32_t>(i / 2 * kPickWarps) + threadIdx.x / 32;
      cols[i] = memory.read_groups[slot] * kGroupCols + 32 * (i % 2) + LaneOfThread();
      loaded[i] =
          LoadIf(slot < num_groups && cols[i] < static_cast<uint32_t>(num_cols), logits + cols[i]);
    }
#pragma unroll
    for (int i = 0; i < kValuesPerLane; ++i) {
      if (!Has(i)) break;
      ordered[i] = OrderedBits(loaded[i]);
    }
  }
  __device__ uint32_t CountFrom(uint64_t threshold) const {
    uint32_t count = 0;
#pragma unroll
    for (int i = 0; i < kValuesPerLane; ++i) {
      if (!Has(i)) break;
      count += Key(i) >= threshold;
    }
    return count;
  }
  // Those that reach the threshold; memory->num_listed counts on where there is no more room.
  __device__ void List(uint64_t threshold, PickMemory* memory) const {
#pragma unroll
    for (int i = 0; i < kValuesPerLane; ++i) {
      if (!Has(i)) break;
      if (Key(i) < threshold) continue;
      const uint32_t place = atomicAdd(&memory->num_listed, 1u);
      if (place < kMaxListed) memory->listed[place] = Key(i);
    }
  }
};

// Writes the listed keys with fewer than `wanted` larger ones to their places. What is not listed
// is zero.
__device__ void WriteSorted(const PickMemory& memory, uint32_t size, uint32_t wanted,
                            DeviceCandidates* out) {
  constexpr uint32_t kKeysAtOnce = kPickThreads / kRankSharers;
  const uint32_t sharer = threadIdx.x % kRankSharers;
  for (uint32_t first = 0; first < size; first += kKeysAtOnce) {
    const uint32_t i = first + threadIdx.x / kRankSharers;
    const uint64_t key = i < size ? memory.listed[i] : 0;
    uint32_t rank = 0;
    for (uint32_t others = sharer; others < size; others += kRankPiece) {
#pragma unroll
      for (uint32_t j = 0; j < kRankPiece; j += kRankSharers)
        rank += memory.listed[others + j] > key;
    }
#pragma unroll
    for (uint32_t d = 1; d < kRankSharers; d *= 2) rank += __shfl_xor_sync(kAllLanes, rank, d);
    if (sharer != 0 || i >= size || rank >= wanted) continue;
    out->candidates[rank] = {.logit = ValueOfOrdered(static_cast<uint32_t>(key >> 32)),
                             .id = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key))};
  }
}

// The parts' sums as multiples of e^best, to the first thread.
__device__ double SumOfParts(const PartMaxima* maxima, const double* sums, int32_t num_parts,
                             uint32_t best, PickMemory* memory) {
  const float most = FiniteOf(ValueOfOrdered(best));
  double sum = 0;
  for (int32_t part = static_cast<int32_t>(threadIdx.x); part < num_parts; part += kPickThreads) {
    const uint32_t largest = Largest(maxima[part]);
    if (largest < kLeastOrdered) continue;  // its sum is empty
    const float below = FiniteOf(ValueOfOrdered(largest)) - most;
    sum += __ldcg(sums + part) * static_cast<double>(expf(below));
  }
  sum = WarpSum(sum);
  if (LaneOfThread() == 0) memory->sums[threadIdx.x / 32] = sum;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (const double of_warp : memory->sums) total += of_warp;
  }
  return total;
}

// Copies the maxima of a row to shared memory; returns the largest. Ends with a barrier.
__device__ uint32_t LoadMaxima(const PartMaxima* from, int32_t num_parts, PartMaxima* maxima,
                               PickMemory* memory) {
  uint32_t own_largest = 0;
#pragma unroll 2
  for (auto part = threadIdx.x; part < static_cast<uint32_t>(num_parts); part += kPickThreads) {
    const PartMaxima loaded = __ldcg(from + part);
    maxima[part] = loaded;
    own_largest = max(own_largest, Largest(loaded));
  }
  const uint32_t largest = __reduce_max_sync(kAllLanes, own_largest);
  const uint32_t smallest = __reduce_min_sync(kAllLanes, own_largest);
  const uint32_t lane = LaneOfThread();
  if (lane == 0) {
    memory->largest[threadIdx.x / 32] = largest;
    memory->smallest[threadIdx.x / 32] = smallest;
  }
  __syncthreads();
  return __reduce_max_sync(kAllLanes, lane < kPickWarps ? memory->largest[lane] : 0);
}

// Of the thread's groups, those whose maxima reach the threshold.
__device__ uint32_t CountGroups(const PartMaxima* maxima, int32_t num_parts, uint64_t threshold) {
  uint32_t count = 0;
  for (auto part = threadIdx.x; part < static_cast<uint32_t>(num_parts); part += kPickThreads) {
    const PartMaxima m = maxima[part];
    count += KeyOf(m.x, part * kPartGroups) >= threshold;
    count += KeyOf(m.y, part * kPartGroups + 1) >= threshold;
    count += KeyOf(m.z, part * kPartGroups + 2) >= threshold;
    count += KeyOf(m.w, part * kPartGroups + 3) >= threshold;
  }
  return count;
}

// Lists the row's `wanted` best keys, and perhaps more; `best` is the largest value. Ends with a
// barrier.
__device__ void ListBestKeys(const float* logits, int32_t cols, const PartMaxima* maxima,
                             uint32_t best, uint32_t wanted, PickMemory* memory) {
  BlockCounter counter(memory);
  const int32_t num_parts = NumParts(cols);
  const uint64_t high = static_cast<uint64_t>(best + 1) << 32;
  const uint32_t bound = wanted == 1 ? best : LowerBound(*memory, wanted);
  const uint64_t of_groups = FindThreshold(
      static_cast<uint64_t>(bound) << 32, high, wanted, wanted + kSlackGroups, &counter,
      [&](uint64_t threshold) { return CountGroups(maxima, num_parts, threshold); });
  ListGroups(maxima, num_parts, of_groups, memory);
  __syncthreads();
  ReadValues values;
  values.Load(logits, cols, *memory);
  // A logit's index is another than its group's: the threshold of all that equal its value.
  const uint64_t of_values = of_groups >> 32 << 32;
  values.List(of_values, memory);
  __syncthreads();
  if (memory->num_listed <= kMaxListed) return;
  const uint64_t fewer =
      FindThreshold(of_values, high, wanted, kMaxListed, &counter,
                    [&](uint64_t threshold) { return values.CountFrom(threshold); });
  ClearLists(memory);
  __syncthreads();
  values.List(fewer, memory);
  __syncthreads();
}

// Block x: row x. Dynamic shared memory: the maxima of the row's parts.
__global__ void __launch_bounds__(kPickThreads) PickKernel(CandidateCall c) {
  extern __shared__ PartMaxima maxima[];
  __shared__ PickMemory memory;
  const DeviceCandidateRow row = c.rows[blockIdx.x];
  const RowScratch scratch = ScratchOf(c, blockIdx.x);
  const int32_t num_parts = NumParts(c.cols);
  ClearLists(&memory);
  WaitForInputs();
  AllowNext();
  const uint32_t best = LoadMaxima(scratch.maxima, num_parts, maxima, &memory);
  DeviceCandidates* out = c.out + blockIdx.x;
  if (best < kLeastOrdered) {  // no logit is a number
    if (threadIdx.x == 0) {
      out->size = 0;
      out->exp_sum = 0;
    }
    return;
  }
  const auto wanted = static_cast<uint32_t>(row.count);
  ListBestKeys(c.logits + blockIdx.x * c.stride, c.cols, maxima, best, wanted, &memory);
  WriteSorted(memory, memory.num_listed, wanted, out);
  double exp_sum = 0;
  if (row.wants_softmax != 0) exp_sum = SumOfParts(maxima, scratch.sums, num_parts, best, &memory);
  if (threadIdx.x == 0) {
    out->size = min(memory.num_listed, wanted);
    out->exp_sum = exp_sum;
  }
}

}  // namespace

int64_t CandidateScratchBytes(int64_t num_rows, int32_t cols) {
  return num_rows * RowScratchBytes(cols);
}

cudaError_t SelectCandidates(const CandidateCall& call, cudaStream_t stream) {
  if (call.cols > kMaxCandidateCols) return cudaErrorInvalidValue;
  if (const cudaError_t error = PreferSharedMemory(GroupKernel); error != cudaSuccess) return error;
  if (const cudaError_t error = PreferSharedMemory(PickKernel); error != cudaSuccess) return error;
  const int32_t num_parts = NumParts(call.cols);
  constexpr int32_t kPartsPerBlock = kGroupThreads / 32;
  const dim3 grid(static_cast<unsigned>((num_parts + kPartsPerBlock - 1) / kPartsPerBlock),
                  static_cast<unsigned>(call.num_rows));
  if (const cudaError_t error = Launch(GroupKernel, grid, kGroupThreads, 0, stream, call);
      error != cudaSuccess)
    return error;
  return Launch(PickKernel, static_cast<unsigned>(call.num_rows), kPickThreads,
                static_cast<size_t>(num_parts) * sizeof(PartMaxima), stream, call);
}

}  // namespace tidal
