// Where the result of a choice goes: slots, kept positions, the report.
#ifndef TIDAL_CUDA_SELECTION_OUTPUT_CUH_
#define TIDAL_CUDA_SELECTION_OUTPUT_CUH_

#include "cuda/selection_device.cuh"
#include "cuda/top_k.cuh"

namespace tidal {

// One set of a sequence.
struct SetOfChoice {
  const ChoiceLaunch* c;
  const ChoiceParams* params;  // of the sequence
  const int32_t* page_ids;
  int32_t sequence;
  int32_t set;  // or head
  int32_t kv_len;
};

// params: the sequence's.
__device__ __forceinline__ SetOfChoice SetAt(const ChoiceLaunch& c, const ChoiceParams* params,
                                             int32_t sequence, int32_t set) {
  const DeviceSequence& where = c.step.sequences[sequence];
  return {&c, params, c.step.page_ids + where.page_begin, sequence, set, where.kv_len};
}

// Where a set's positions go: into slots, and to what is kept between steps.
struct Output {
  int32_t* slots = nullptr;
  int32_t* positions = nullptr;  // null: nothing is kept
  int32_t capacity = 0;
};
__device__ __forceinline__ Output OutputOfSet(const SetOfChoice& set) {
  Output out;
  out.capacity = set.params->capacity;
  out.slots = set.params->slots + int64_t{set.set} * out.capacity;
  const KeptSets& kept = set.params->kept;
  if (kept.headers != nullptr) {
    out.positions =
        kept.positions + (int64_t{set.c->layer} * set.params->num_sets + set.set) * out.capacity;
  }
  return out;
}

// page_id: of the page that has `pos`.
__device__ __forceinline__ void PutInPage(const Output& out, int32_t at, int32_t pos,
                                          int32_t page_id) {
  if (at >= out.capacity) return;
  if (out.slots != nullptr) out.slots[at] = page_id * kTokensPerPage + pos % kTokensPerPage;
  if (out.positions != nullptr) out.positions[at] = pos;
}

// The query and the length that a kept set was chosen with. By a block of kTopKThreads.
__device__ inline void KeepHeader(const SetOfChoice& set) {
  const ChoiceLaunch& c = *set.c;
  const KeptSets& kept = set.params->kept;
  if (kept.headers == nullptr || set.set != 0) return;
  const int32_t count = c.num_heads * c.kv.head_dim;
  const float* q = QueryOf(c, set.sequence);
  for (int32_t i = threadIdx.x; i < count; i += kTopKThreads)
    kept.queries[int64_t{c.layer} * count + i] = q[i];
  if (threadIdx.x == 0) kept.headers[c.layer] = {set.kv_len, set.params->generation};
}

__device__ inline void Report(const SetOfChoice& set, Fixed mass, Fixed tokens, bool has_mass,
                              bool fresh) {
  DeviceChoiceReport report;
  report.selected_mass =
      has_mass ? static_cast<float>(static_cast<double>(mass) / kMassUnit / set.c->num_heads)
               : __int_as_float(0x7fc00000);
  report.tokens = static_cast<float>(static_cast<double>(tokens) / set.params->num_sets);
  report.fresh = fresh ? 1 : 0;
  set.c->reports[set.sequence] = report;
}

// A set is written: the last of the sequence's sets makes the report and leaves the totals as
// zeros. By one thread of the set.
__device__ inline void FinishSet(const SetOfChoice& set, Fixed mass, uint32_t tokens, bool has_mass,
                                 bool fresh) {
  const ChoiceParams& params = *set.params;
  params.counts[set.set] = static_cast<int32_t>(tokens);
  if (fresh && params.kept.headers != nullptr) {
    params.kept.counts[set.c->layer * params.num_sets + set.set] = static_cast<int32_t>(tokens);
  }
  if (params.num_sets == 1) {
    Report(set, mass, tokens, has_mass, fresh);
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
  Report(set, all_mass, all_tokens, has_mass, fresh);
}

// The sum over the threads, added to *total (shared memory of any block) by each warp.
__device__ __forceinline__ void AddToTotal(Fixed mine, Fixed* total) {
  const Fixed warp = WarpSum(mine);
  if (threadIdx.x % 32 == 0 && warp != 0) atomicAdd(total, warp);
}

// Chooses the first `num_ties` ties of a block, and leaves in `ties` how many units are chosen
// before each word, `before` being those of the blocks before it. chosen, ties: a bit per unit,
// [words] in shared memory.
__device__ inline void ArrangeWords(uint32_t* chosen, uint32_t* ties, int32_t words,
                                    uint32_t before, uint32_t num_ties, TopKMemory* memory) {
  const int32_t each = (words + kTopKThreads - 1) / kTopKThreads;
  const int32_t first = min(static_cast<int32_t>(threadIdx.x) * each, words);
  const int32_t last = min(first + each, words);
  uint32_t count = 0;
  if (num_ties != 0) {
    for (int32_t word = first; word < last; ++word)
      count += static_cast<uint32_t>(__popc(ties[word]));
    count = SumBefore(count, memory->warp_counts);
  }
  uint32_t ties_before = count;
  count = 0;
  for (int32_t word = first; word < last; ++word) {
    for (uint32_t open = ties[word]; open != 0 && ties_before < num_ties; ++ties_before) {
      chosen[word] |= open & (0u - open);
      open &= open - 1;
    }
    count += static_cast<uint32_t>(__popc(chosen[word]));
  }
  before += SumBefore(count, memory->warp_counts);
  for (int32_t word = first; word < last; ++word) {
    ties[word] = before;
    before += static_cast<uint32_t>(__popc(chosen[word]));
  }
  __syncthreads();
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_OUTPUT_CUH_
