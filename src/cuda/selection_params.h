// What the kernels of a choice are told, and what they share. Host code (selection.cc) fills,
// device code reads.
//
// One choice of a layer, for all sequences of the batch that choose, is a chain of launches:
//   decide   whether sets kept from an earlier step are used again (refresh by cosine)
//   scan     every key's score for every head, as e^(score - page maximum); statistics
//   bounds   the same for plans that score whole pages
//   merge    the heads' probabilities into one value a set and token
//   rank     for merge=rank: the heads' orders
//   counted  the sets of plans whose values merge has counted in bins
//   select   all other sets
// Common plans take three: scan, merge, counted.
#ifndef TIDAL_CUDA_SELECTION_PARAMS_H_
#define TIDAL_CUDA_SELECTION_PARAMS_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "attention/plan_enums.h"
#include "cuda/device_types.h"
#include "cuda/key_index.h"

namespace tidal {

// Pages whose statistics are summed up together by the scan, and warps of its blocks.
inline constexpr int32_t kUnitPages = 8;
// Of the histograms of a top-k.
inline constexpr int32_t kTopKBins = 2048;

// How the scan leaves a token's score.
enum class KeptScores : uint8_t {
  kHalfProbs,   // e^(score - page maximum) in f16, [pages][num_heads][64]
  kFloatProbs,  // in float32, the same
  kScores,      // the score in float32, [num_heads][max_tokens]
};

// What tells of a choice between its blocks: zeros between choices.
struct ChoiceTotals {
  unsigned long long mass = 0;  // fixed point, kMassUnit to 1
  unsigned long long tokens = 0;
  unsigned int sets_done = 0;
};
inline constexpr float kMassUnit = 0x1p40f;

// What a state keeps of one layer between steps.
struct KeptHeader {
  int32_t kv_len = 0;  // at the choice; 0: none
  int32_t generation = 0;
};
struct KeptSets {
  KeptHeader* headers = nullptr;  // [num_layers]; null: the plan keeps none
  float* queries = nullptr;       // [num_layers][num_heads * head_dim]
  int32_t* counts = nullptr;      // [num_layers][num_sets]
  int32_t* positions = nullptr;   // [num_layers][num_sets][capacity]
};

// One sequence's choice. Rows of tokens are max_tokens apart.
struct ChoiceParams {
  // Memory of the sequence's state.
  void* scores = nullptr;         // by kept_scores; page bounds as kScores
  float* page_max = nullptr;      // [pages][num_heads], times log2(e), as in unit_stats
  float2* unit_stats = nullptr;   // [num_heads][max_units]: maximum and sum of kUnitPages pages
  float* masses = nullptr;        // [num_sets][max_tokens]: the heads' probabilities, summed
  float* values = nullptr;        // [num_sets][max_tokens]: what tokens are ranked by
  uint32_t* ordered = nullptr;    // [num_sets or num_heads][max_tokens]: values as ordered integers
  uint32_t* bins = nullptr;       // [num_sets][kTopKBins], zeros between choices
  int32_t* ranked = nullptr;      // [num_heads][max_tokens]: each head's best, by position
  int32_t* num_ranked = nullptr;  // [num_heads]
  ChoiceTotals* totals = nullptr;
  int32_t* slots = nullptr;   // [num_sets][capacity]
  int32_t* counts = nullptr;  // [num_sets]
  int32_t capacity = 0;
  KeptSets kept;
  const int32_t* keep = nullptr;  // [num_keep] positions, always kept, between the ends
  // The plan at the step's kv_len.
  double refresh_cosine = 2;
  double mass = 0;
  int32_t num_sets = 1;
  int32_t heads_per_set = 1;
  int32_t always_begin = 0;  // tokens below it and from always_end on are always kept
  int32_t always_end = 0;
  int32_t num_keep = 0;
  int32_t wanted = 0;  // further tokens, or pages in all where page > 1
  int32_t floor = 1;
  int32_t ceil = 0;
  int32_t page = 1;
  int32_t generation = 0;  // of the state: kept sets of another are void
  Scorer scorer = Scorer::kExact;
  Merge merge = Merge::kMass;
  KeptScores kept_scores = KeptScores::kHalfProbs;
  uint8_t measures = 0;     // also score where an earlier set is used again
  uint8_t counts_bins = 0;  // merging fills `bins`, and they choose
};

// What all kernels of a choice get.
struct ChoiceLaunch {
  DeviceStep step;
  DeviceKv kv;
  DeviceIndex index;
  const float* q = nullptr;              // [rows][num_heads][head_dim]
  const ChoiceParams* params = nullptr;  // [num_sequences]
  int32_t* fresh = nullptr;  // [num_sequences], by `decide`; null: every choice is a new one
  DeviceChoiceReport* reports = nullptr;  // of the layer, [num_sequences]
  int32_t layer = 0;
  int32_t num_heads = 0;
  int32_t gqa_ratio = 1;
  int32_t max_tokens = 0;
  float attn_scale = 0;
};

// The launch geometry that a device and a model give; no step changes it.
struct ChoiceGeometry {
  int32_t num_sms = 1;
  int32_t max_shared_bytes = 48 << 10;  // of a block
  bool has_clusters = false;            // the code that runs here knows thread block clusters
  Precision precision = Precision::kFast;
};

cudaError_t LaunchDecide(const ChoiceLaunch& launch, cudaStream_t stream);
cudaError_t LaunchScan(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                       cudaStream_t stream);
cudaError_t LaunchBounds(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                         cudaStream_t stream);
// only_half: all sequences that get scores keep them as kHalfProbs.
cudaError_t LaunchMerge(const ChoiceLaunch& launch, const ChoiceGeometry& geometry, bool only_half,
                        cudaStream_t stream);

// What a top-k works in: blocks that share a set, and whether their part of it fits their memory.
struct TopKShape {
  int32_t cluster = 1;         // blocks per set
  int32_t slice = 0;           // units of choice that a block has at most, a multiple of 32
  int32_t shared_ordered = 0;  // values of it in shared memory: all or none
  int32_t shared_bytes = 0;
};
// For sequences with `total_sets` sets in all.
TopKShape ShapeOfTopK(const ChoiceGeometry& geometry, int32_t max_tokens, int32_t total_sets);
// Once per process and device before the first launch: whether the code has clusters, and its
// shared memory.
cudaError_t PrepareTopK(ChoiceGeometry* geometry);
// Shared memory of a block of LaunchCounted, in bytes, with sets of `total_sets` in all.
int32_t CountedSharedBytes(const ChoiceGeometry& geometry, int32_t max_tokens, int32_t total_sets);

// The sets of sequences with counts_bins; max_sets and total_sets: of any of the step's sequences,
// and of all.
cudaError_t LaunchCounted(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                          int32_t max_sets, int32_t total_sets, cudaStream_t stream);
// The other sets. max_sets: of any of the step's sequences.
cudaError_t LaunchSelect(const ChoiceLaunch& launch, const TopKShape& shape, int32_t max_sets,
                         cudaStream_t stream);
// Leaves each head's best tokens, for LaunchRank, which calls it. `shape` for num_heads sets a
// sequence.
cudaError_t LaunchHeads(const ChoiceLaunch& launch, const TopKShape& shape, cudaStream_t stream);
// merge=rank: leaves `ordered` for LaunchSelect.
cudaError_t LaunchRank(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                       const TopKShape& shape, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_PARAMS_H_
