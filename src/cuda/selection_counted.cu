// What      The sets of a choice by number whose values merging has counted in bins: always-kept
//           tokens and the best of the others, as slots.
// Shapes    values and masses float32 [num_sets][max_tokens]; bins [num_sets][kTopKBins];
//           sets int32 [num_sets][capacity], counts [num_sets]; reports [num_sequences].
// Layout    a set's tokens lie in equal slices over the blocks of a cluster. Each finds from the
//           bins in which of them the last token taken lies, and says of its own which are above it
//           and which in it. Those few are shown to all blocks; each compares them one by one and
//           writes its part of the set.
// Launch    grid (cluster, most sets of a sequence, sequences), 512 threads, clusters of 1 to 8: a
//           barrier of the cluster instead of a counter in device memory, behind which a last
//           block would read again what the others had written. 40 registers a thread, so that a
//           block is there before merging's has left the multiprocessor.
// Bytes     the values, once, of which a block has 48 KB under way; per block 8 KB of bins.
// Speed     11 us for 102,400 tokens on an H200: a chain of barriers.
// Numerics  exact: ties go to the smaller position. A set's tokens ascend. Selected mass in fixed
//           point. Nothing depends on the batch or on the size of clusters, bit by bit.
// Oracle    top_k_test.cc, selection_test.cc; bench/cuda_selection_bench.cu.
#include <algorithm>
#include <cstddef>

#include "cuda/mma.cuh"
#include "cuda/selection_output.cuh"

namespace tidal {
namespace {

constexpr int32_t kWarps = kTopKThreads / 32;
// Tokens that a warp fetches at once, four a lane, and how often ahead.
constexpr int32_t kPiece = 128;
constexpr int32_t kAhead = 6;
// Words of 32 tokens whose values a warp has under way where values are read again.
constexpr int32_t kAtOnce = 8;
// Tokens of the last bin that are compared one by one.
constexpr int32_t kMostListed = 1024;
static_assert(kMostListed <= kTopKBins);

// What a block has in shared memory.
struct alignas(16) CountedMemory {
  TopKMemory top_k;  // its histograms' place has the values under way first: Pieces
  Fixed list[kMostListed];
  ChoiceParams params;   // of the sequence
  uint32_t num_chosen;   // of the slice: tokens that are taken whatever the last bin's are
  uint32_t num_open;     // and those in the last bin
  uint32_t open_before;  // tokens of the last bin that are taken in slices before the block's
  Fixed set_mass;        // of the first block: the set's
};
// Behind it.
struct SliceWords {
  uint32_t* chosen;   // [slice / 32] a bit per token
  uint32_t* open;     // [slice / 32]
  int32_t* page_ids;  // [slice / kTokensPerPage]
};

// A block's tokens of so many, at most.
__host__ __device__ __forceinline__ int32_t SliceTokens(int32_t tokens, int32_t blocks) {
  return (tokens + blocks * kPiece - 1) / (blocks * kPiece) * kPiece;
}
int32_t SharedBytes(int32_t slice_tokens) {
  return static_cast<int32_t>(sizeof(CountedMemory)) +
         4 * (slice_tokens / 16 + slice_tokens / kTokensPerPage);
}
__device__ __forceinline__ SliceWords WordsOf(CountedMemory* memory, int32_t max_tokens) {
  const int32_t words = SliceTokens(max_tokens, ClusterSize()) / 32;
  auto* chosen = reinterpret_cast<uint32_t*>(memory + 1);
  return {chosen, chosen + words, reinterpret_cast<int32_t*>(chosen + 2 * words)};
}

// A block's part of a set.
struct CountedSlice : SetOfChoice {
  const float* values;  // of the set
  const float* masses;
  uint32_t* bins;
  int32_t begin;
  int32_t end;
  SliceWords words;

  __device__ __forceinline__ int32_t num_words() const { return (end - begin + 31) / 32; }
};
__device__ __forceinline__ CountedSlice SliceAt(const ChoiceLaunch& c, CountedMemory* memory) {
  const auto set = static_cast<int32_t>(blockIdx.y);
  const ChoiceParams& params = memory->params;
  CountedSlice slice = {SetAt(c, &params, static_cast<int32_t>(blockIdx.z), set)};
  const int64_t row = int64_t{set} * c.max_tokens;
  slice.values = params.values + row;
  slice.masses = params.masses + row;
  slice.bins = params.bins + int64_t{set} * kTopKBins;
  const int32_t tokens = SliceTokens(slice.kv_len, ClusterSize());
  slice.begin = min(ClusterRank() * tokens, slice.kv_len);
  slice.end = min(slice.begin + tokens, slice.kv_len);
  slice.words = WordsOf(memory, c.max_tokens);
  return slice;
}

// --- Marking

// Values from `chosen` on are taken, those from `open` on may be.
struct Bounds {
  float chosen;
  float open;
};
__device__ __forceinline__ Bounds BoundsOf(const PassResult& result) {
  switch (result.kind) {
    case PassResult::kBin: {
      const auto bin = static_cast<int32_t>(result.bin);
      return {BeginOfBin(bin + 1), BeginOfBin(bin)};
    }
    case PassResult::kTakeAll:
      return {BeginOfBin(0), BeginOfBin(0)};
    default:
      return {BeginOfBin(kTopKBins), BeginOfBin(kTopKBins)};
  }
}

// A value and its token in one number: larger values are larger, then smaller positions.
__device__ __forceinline__ Fixed Listed(uint32_t ordered, int32_t pos) {
  return Fixed{ordered} << 32 | (0xffffffffu - static_cast<uint32_t>(pos));
}
__device__ __forceinline__ int32_t PositionOf(Fixed listed) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(listed));
}

// The warp's pieces of a slice, each kWarps behind the one before.
struct Pieces {
  const float* values;  // from the slice's begin on
  float* ring;          // [kAhead][kPiece]
  int32_t tokens;       // of the slice
  int32_t lane;
  int32_t warp;

  __device__ __forceinline__ Pieces(const CountedSlice& slice, TopKMemory* memory)
      : values(slice.values + slice.begin),
        tokens(slice.end - slice.begin),
        lane(static_cast<int32_t>(threadIdx.x % 32)),
        warp(static_cast<int32_t>(threadIdx.x / 32)) {
    static_assert(kWarps * kAhead * kPiece * 4 <= offsetof(TopKMemory, results));
    ring = reinterpret_cast<float*>(memory) + warp * kAhead * kPiece;
  }
  __device__ __forceinline__ int32_t Begin(int32_t i) const { return (i * kWarps + warp) * kPiece; }
  // A group of copies whether there is such a piece or not. What lies behind the slice's last four
  // tokens stays as it was.
  __device__ __forceinline__ void Fetch(int32_t i) const {
    const int32_t token = Begin(i) + lane * 4;
    if (token < tokens) CopyAsync16(ring + i % kAhead * kPiece + lane * 4, values + token, true);
    CommitCopies();
  }
};

// Says of the slice's tokens what the bins tell, and lists those in the last bin where there are
// few. Returns the thread's part of the chosen mass, where values are masses.
__device__ Fixed MarkSlice(const CountedSlice& slice, const Pieces& pieces, const Bounds& bounds,
                           bool lists, CountedMemory* memory) {
  const int32_t always_begin = slice.params->always_begin;
  const int32_t open_end = min(slice.params->always_end, slice.end);
  const uint32_t lanes_before = (1u << pieces.lane) - 1;
  Fixed mass = 0;
  uint32_t num_chosen = 0;
  for (int32_t i = 0; pieces.Begin(i) < pieces.tokens; ++i) {
    WaitForCopies<kAhead - 1>();
    __syncwarp();
    float values[4];
#pragma unroll
    for (int32_t w = 0; w < 4; ++w)
      values[w] = pieces.ring[i % kAhead * kPiece + w * 32 + pieces.lane];
    __syncwarp();  // all lanes have read the piece
    pieces.Fetch(i + kAhead);
    const int32_t first = slice.begin + pieces.Begin(i);
    uint4 chosen;
    uint4 open;
    const auto mark = [&](int32_t w, uint32_t* chosen_word, uint32_t* open_word) {
      const int32_t pos = first + w * 32 + pieces.lane;
      const bool competes = pos >= always_begin && pos < open_end;
      const bool is_chosen = competes ? values[w] >= bounds.chosen : pos < slice.end;
      const bool is_open = competes && !is_chosen && values[w] >= bounds.open;
      *chosen_word = __ballot_sync(kAllLanes, is_chosen);
      *open_word = __ballot_sync(kAllLanes, is_open);
      num_chosen += static_cast<uint32_t>(__popc(*chosen_word));
      if (is_chosen) mass += ToFixed(values[w]);
      if (*open_word == 0) return;
      uint32_t at = 0;
      if (pieces.lane == 0)
        at = atomicAdd(&memory->num_open, static_cast<uint32_t>(__popc(*open_word)));
      at = __shfl_sync(kAllLanes, at, 0) + static_cast<uint32_t>(__popc(*open_word & lanes_before));
      if (lists && is_open) memory->list[at] = Listed(OrderedBits(values[w]), pos);
    };
    mark(0, &chosen.x, &open.x);
    mark(1, &chosen.y, &open.y);
    mark(2, &chosen.z, &open.z);
    mark(3, &chosen.w, &open.w);
    if (pieces.lane != 0) continue;
    reinterpret_cast<uint4*>(slice.words.chosen)[pieces.Begin(i) / kPiece] = chosen;
    reinterpret_cast<uint4*>(slice.words.open)[pieces.Begin(i) / kPiece] = open;
  }
  if (pieces.lane == 0 && num_chosen != 0) atomicAdd(&memory->num_chosen, num_chosen);
  return mass;
}

// --- The tokens of the last bin

// A number of each block of a cluster, by lanes; 0 in the others.
__device__ __forceinline__ uint32_t OfBlocks(uint32_t* number) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  return lane < ClusterSize() ? *OfBlock(number, lane) : 0;
}
__device__ __forceinline__ uint32_t SumOfBlocksBefore(uint32_t of_lane, int32_t rank) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  return __reduce_add_sync(kAllLanes, lane < rank ? of_lane : 0);
}

// Takes the `wanted` best of the few open tokens: those of the block's slice, and says how many
// slices before it have. Returns the thread's part of the mass of the former.
__device__ Fixed TakeListed(const CountedSlice& slice, uint32_t wanted, CountedMemory* memory) {
  constexpr uint32_t kThreadsPerToken = 4;
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const auto warp = static_cast<int32_t>(threadIdx.x / 32);
  Fixed* all = memory->top_k.sums;
  const uint32_t counts = OfBlocks(&memory->num_open);
  const uint32_t count = SumOfBlocksBefore(counts, ClusterSize());
  for (int32_t rank = warp; rank < ClusterSize(); rank += kWarps) {
    const uint32_t before = SumOfBlocksBefore(counts, rank);
    const uint32_t theirs = __shfl_sync(kAllLanes, counts, rank);
    const Fixed* list = OfBlock(memory, rank)->list;
    for (auto i = static_cast<uint32_t>(lane); i < theirs; i += 32) all[before + i] = list[i];
  }
  __syncthreads();
  Fixed mass = 0;
  uint32_t num_before = 0;
  const uint32_t share = threadIdx.x % kThreadsPerToken;
  for (uint32_t first = 0; first < count; first += kTopKThreads / kThreadsPerToken) {
    const uint32_t i = first + threadIdx.x / kThreadsPerToken;
    const Fixed mine = i < count ? all[i] : 0;
    uint32_t better = 0;
#pragma unroll 4
    for (uint32_t j = share; j < count; j += kThreadsPerToken) better += all[j] > mine ? 1 : 0;
#pragma unroll
    for (uint32_t d = 1; d < kThreadsPerToken; d *= 2)
      better += __shfl_xor_sync(kAllLanes, better, static_cast<int>(d));
    if (i >= count || share != 0 || better >= wanted) continue;
    const int32_t pos = PositionOf(mine);
    if (pos < slice.begin) ++num_before;
    if (pos < slice.begin || pos >= slice.end) continue;
    const int32_t at = pos - slice.begin;
    atomicOr(&slice.words.chosen[at / 32], 1u << at % 32);
    mass += ToFixed(ValueOfOrdered(static_cast<uint32_t>(mine >> 32)));
  }
  if (num_before != 0) atomicAdd(&memory->open_before, num_before);
  __syncthreads();
  return mass;
}

// Calls f(word, value) with the tokens of `bits`, a warp with 32 of a word; NaN: not one of them.
template <typename F>
__device__ __forceinline__ void ForEachToken(const CountedSlice& slice, const uint32_t* bits,
                                             const float* row, F f) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t num_words = slice.num_words();
  for (auto first = static_cast<int32_t>(threadIdx.x / 32); first < num_words;
       first += kWarps * kAtOnce) {
    float values[kAtOnce];
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kWarps;
      const bool is_one = word < num_words && (bits[word] >> lane & 1) != 0;
      values[i] = is_one ? row[slice.begin + word * 32 + lane] : __int_as_float(0x7fc00000);
    }
#pragma unroll
    for (int32_t i = 0; i < kAtOnce; ++i) {
      const int32_t word = first + i * kWarps;
      if (word < num_words) f(word, values[i]);
    }
  }
}

// Where the block's tokens go.
struct Place {
  uint32_t before = 0;  // tokens that slices before it have
  uint32_t ties = 0;    // of the slice's open tokens, the first of which are taken
};

// The same where the open tokens are many: takes what is above a threshold and leaves in `open`
// what equals it. Moves *place by what that adds.
__device__ void TakeAboveThreshold(const CountedSlice& slice, uint32_t wanted, Place* place,
                                   TopKMemory* memory) {
  if (threadIdx.x == 0) {
    memory->above_count = 0;
    memory->taken = 0;
    memory->equal = 0;
  }
  TakeTarget target;
  target.wanted = wanted;
  const TopKThreshold threshold = FindThreshold(
      target,
      [&](auto count) {
        ForEachToken(slice, slice.words.open, slice.values, [&](int32_t, float value) {
          const uint32_t ordered = OrderedBits(value);
          if (ordered != 0) count(ordered, [] { return Fixed{0}; });
        });
      },
      memory);
  // Each word is read and written by one warp.
  ForEachToken(slice, slice.words.open, slice.values, [&](int32_t word, float value) {
    const uint32_t ordered = OrderedBits(value);
    const uint32_t above = __ballot_sync(kAllLanes, ordered > threshold.last);
    const uint32_t equal = __ballot_sync(kAllLanes, ordered != 0 && ordered == threshold.last);
    __syncwarp();  // all lanes have read the word
    if (threadIdx.x % 32 != 0) return;
    slice.words.chosen[word] |= above;
    slice.words.open[word] = equal;
    if (above != 0) atomicAdd(&memory->taken, static_cast<uint32_t>(__popc(above)));
    if (equal != 0) atomicAdd(&memory->equal, static_cast<uint32_t>(__popc(equal)));
  });
  ClusterSync();
  uint32_t ties = threshold.ties;
  for (int32_t rank = 0; rank < ClusterRank(); ++rank) {
    const TopKMemory* other = OfBlock(memory, rank);
    const uint32_t theirs = min(other->equal, ties);
    place->before += other->taken + theirs;
    ties -= theirs;
  }
  place->ties = min(memory->equal, ties);
}

// --- The set

// Of what is chosen, the thread's part.
__device__ Fixed MassOfChosen(const CountedSlice& slice) {
  Fixed mass = 0;
  ForEachToken(slice, slice.words.chosen, slice.masses, [&](int32_t, float value) {
    if (value == value) mass += ToFixed(value);
  });
  return mass;
}

// Writes the tokens of the words of `chosen`; befores: how many are chosen before each word.
__device__ void WriteWords(const CountedSlice& slice, const uint32_t* befores) {
  const Output out = OutputOfSet(slice);
  for (auto word = static_cast<int32_t>(threadIdx.x); word < slice.num_words();
       word += kTopKThreads) {
    const int32_t page_id = slice.words.page_ids[word / 2];
    auto at = static_cast<int32_t>(befores[word]);
    for (uint32_t bits = slice.words.chosen[word]; bits != 0; bits &= bits - 1, ++at) {
      const int32_t bit = __ffs(static_cast<int32_t>(bits)) - 1;
      PutInPage(out, at, slice.begin + word * 32 + bit, page_id);
    }
  }
}

// When all blocks have marked their slices: the open tokens, and the set.
__device__ void FinishCounted(const CountedSlice& slice, const PassResult& result, Fixed mass,
                              CountedMemory* memory) {
  TopKMemory* top_k = &memory->top_k;
  const bool has_open = result.kind == PassResult::kBin;
  const bool lists = top_k->bin_count <= kMostListed;
  const uint32_t wanted =
      has_open ? static_cast<uint32_t>(slice.params->wanted) - top_k->above_count : 0;
  const uint32_t chosen = OfBlocks(&memory->num_chosen);
  const uint32_t count = SumOfBlocksBefore(chosen, ClusterSize()) + wanted;
  Place place;
  place.before = SumOfBlocksBefore(chosen, ClusterRank());
  bool has_mass = slice.values == slice.masses;
  if (has_open && lists) {
    mass += TakeListed(slice, wanted, memory);
    place.before += memory->open_before;
  } else if (has_open) {
    __syncthreads();  // all have read above_count
    TakeAboveThreshold(slice, wanted, &place, top_k);
    has_mass = false;
  }
  ArrangeWords(slice.words.chosen, slice.words.open, slice.num_words(), place.before, place.ties,
               top_k);
  AddToTotal(has_mass ? mass : MassOfChosen(slice), &top_k->mass);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&OfBlock(memory, 0)->set_mass, top_k->mass);
  // Before what the barrier would wait for.
  ClusterArrive();
  WriteWords(slice, slice.words.open);
  for (auto i = static_cast<int32_t>(ClusterRank() * kTopKThreads + threadIdx.x); i < kTopKBins;
       i += ClusterSize() * kTopKThreads)
    slice.bins[i] = 0;
  ClusterWait();  // also: nobody reads this block's memory any more
  if (ClusterRank() != 0 || threadIdx.x != 0) return;
  FinishSet(slice, memory->set_mass, min(count, static_cast<uint32_t>(slice.params->capacity)),
            true, true);
}

__global__ void __launch_bounds__(kTopKThreads, 3)
    CountedKernel(const __grid_constant__ ChoiceLaunch c) {
  extern __shared__ __align__(16) uint8_t shared[];
  auto* memory = reinterpret_cast<CountedMemory*>(shared);
  TopKMemory* top_k = &memory->top_k;
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  const ChoiceParams& params = memory->params;
  CopyParams(c, sequence, &memory->params);
  __syncthreads();
  // Of all blocks of a cluster or of none.
  const bool is_active = Chooses(c, sequence) && params.counts_bins != 0 &&
                         static_cast<int32_t>(blockIdx.y) < params.num_sets;
  const CountedSlice slice = SliceAt(c, memory);
  if (threadIdx.x == 0) {
    top_k->above_count = 0;
    top_k->above_sum = 0;
    top_k->bin_count = 0;
    top_k->mass = 0;
    memory->num_chosen = 0;
    memory->num_open = 0;
    memory->open_before = 0;
    memory->set_mass = 0;
  }
  if (is_active) {
    const int32_t pages = (slice.end - slice.begin + kTokensPerPage - 1) / kTokensPerPage;
    for (auto i = static_cast<int32_t>(threadIdx.x); i < pages; i += kTopKThreads)
      slice.words.page_ids[i] = slice.page_ids[slice.begin / kTokensPerPage + i];
  }
  __syncthreads();
  WaitForInputs();
  AllowNext();
  if (!is_active || !IsFresh(c, sequence)) return;
  const Pieces pieces(slice, top_k);
#pragma unroll
  for (int32_t i = 0; i < kAhead; ++i) pieces.Fetch(i);
  TakeTarget target;
  target.wanted = static_cast<uint32_t>(params.wanted);
  FindBin(slice.bins, nullptr, target, 0, top_k);
  const PassResult result = top_k->results[0];
  const Fixed mass =
      MarkSlice(slice, pieces, BoundsOf(result), top_k->bin_count <= kMostListed, memory);
  if (ClusterRank() == 0) KeepHeader(slice);
  ClusterSync();
  FinishCounted(slice, result, mass, memory);
}

// Blocks of a set: as many as the device has places for, and memory for their slices.
int32_t BlocksOfSet(const ChoiceGeometry& geometry, int32_t max_tokens, int32_t total_sets) {
  int32_t blocks = 1;
  const auto is_enough = [&] {
    return 2 * blocks * total_sets > geometry.num_sms &&
           SharedBytes(SliceTokens(max_tokens, blocks)) <= geometry.max_shared_bytes;
  };
  while (geometry.has_clusters && blocks < kMostBlocks && !is_enough()) blocks *= 2;
  return blocks;
}

}  // namespace

int32_t CountedSharedBytes(const ChoiceGeometry& geometry, int32_t max_tokens, int32_t total_sets) {
  return SharedBytes(SliceTokens(max_tokens, BlocksOfSet(geometry, max_tokens, total_sets)));
}

cudaError_t LaunchCounted(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                          int32_t max_sets, int32_t total_sets, cudaStream_t stream) {
  const int32_t blocks = BlocksOfSet(geometry, launch.max_tokens, std::max(total_sets, 1));
  const int32_t shared_bytes = SharedBytes(SliceTokens(launch.max_tokens, blocks));
  if (const cudaError_t error = PreferSharedMemory(CountedKernel); error != cudaSuccess)
    return error;
  if (const cudaError_t error = cudaFuncSetAttribute(
          CountedKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
      error != cudaSuccess) {
    return error;
  }
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(max_sets),
                  static_cast<unsigned>(launch.step.num_sequences));
  const dim3 threads(kTopKThreads);
  const auto bytes = static_cast<size_t>(shared_bytes);
  if (blocks == 1) return Launch(CountedKernel, grid, threads, bytes, stream, launch);
  return LaunchClusters(CountedKernel, grid, dim3(static_cast<unsigned>(blocks)), threads, bytes,
                        stream, launch);
}

}  // namespace tidal
