// Choosing the tokens that a decoded row attends, on CPU threads: the selection layers of an
// attention plan.
//
// What      for one sequence and layer: score all visible keys (by the keys, by the key index, by
//           page bounds), merge the heads of each set's scope, take the best beside those that are
//           always kept, and leave the sets as slots.
// Shapes    q: float32 [num_heads][head_dim], the row's queries after RoPE.
// Layout    scores [pages][num_heads][kPageSize]: a page's scores are made, and turned into
//           e^(score - page maximum), while they are in the nearest cache; one factor per page and
//           head makes probabilities of them when the heads are merged, so that no score is read
//           a third time.
// Bytes     the index (KeyIndexLayout::read_bytes per page and KV head) or the keys, once; then
//           4 * num_heads * kv_len bytes of scores written and read in cache.
// Numerics  float32; with the fast precision an index is scanned with 8-bit queries
//           (selection_kernels.h). A sequence's sets do not depend on the number of threads or on
//           other sequences.
// Oracle    tests/plan_reference.cc; unit tests in selection_test.cc.
// Source    TidalDecode (arXiv 2410.05076) section 3, and the methods that
//           docs/attention_plans.md names beside the presets.
#ifndef TIDAL_CPU_SELECTION_H_
#define TIDAL_CPU_SELECTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/attention.h"
#include "cpu/kernels.h"
#include "cpu/key_index.h"
#include "cpu/kv_layout.h"
#include "cpu/top_k.h"
#include "executor/executor.h"
#include "executor/options.h"
#include "scheduler/step_batch.h"

namespace tidal {

struct CpuSelectionOptions {
  const KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  KvLayout layout;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  float attn_scale = 0;
  Precision precision = Precision::kFast;
  int32_t max_sequences = 1;  // selection states
  int32_t max_tokens = 0;     // of a sequence
};

// What a layer's keys are scored by.
struct LayerKeys {
  int32_t layer = 0;
  const std::byte* kv_base = nullptr;  // page p at p * KvLayout::page_bytes
  std::byte* index_base = nullptr;     // the layer's key index; null: it has none
  const KeyIndexLayout* index = nullptr;
};

struct Choice {
  std::span<const SlotSet> sets;  // valid until the state's next choice
  float selected_mass = 1;        // NaN where the scorer gives none or nothing was scored
  bool fresh = true;              // false: an earlier choice and every token since
};

class CpuSelection {
 public:
  // Kernels and pool must outlive the object.
  explicit CpuSelection(const CpuSelectionOptions& options);

  // Room for a plan on a state. kUnsupported where a KV head has more than kMaxDecodeRows heads;
  // kOutOfMemory with the bytes needed.
  Status Prepare(int32_t state, const AttentionPlan& plan);
  // Drops what a state keeps between steps.
  void Forget(int32_t state);

  // REQUIRES: Prepare of the sequence's plan on its state, which selects in this layer.
  Choice Choose(const LayerKeys& keys, const StepSequence& sequence, const float* q,
                ExecutorProfile* profile);

  // Bytes of all arenas.
  int64_t bytes() const;

 private:
  // Of one sequence: the sets of the step at hand, and what outlives it.
  struct Kept {
    int32_t kv_len = 0;  // at the choice; 0: none
    AlignedBuffer query;
    AlignedBuffer positions;      // [num_sets][capacity]
    std::vector<int32_t> counts;  // [num_sets]
  };
  struct State {
    int64_t capacity = 0;  // slots of a set
    AlignedBuffer slots;   // [num_sets][capacity]: positions, in the end slots
    std::vector<SlotSet> sets;
    std::vector<Kept> kept;  // [num_layers], only with a refresh by cosine
  };
  // One choice being made.
  struct Job {
    const LayerKeys* keys;
    const StepSequence* sequence;
    const AttentionPlan* plan;
    const float* q;
    State* state;
    SetSizes sizes;
    int32_t kv_len;
    int32_t num_pages;
    int32_t num_sets;
    int32_t heads_per_set;
    int32_t num_units;  // of choice: tokens, or pages of plan->page tokens
    bool keeps_scores;  // scores stay as they are; else they become probabilities
    bool counts_bins;   // merging counts values for the top-k
    // Always kept: tokens below always_begin, those from always_end on, and keep [num_keep], which
    // lie between; num_always in all.
    int32_t always_begin;
    int32_t always_end;
    const int32_t* keep;
    int32_t num_keep;
    int32_t num_always;
  };

  Status Allocate(int32_t state, const AttentionPlan& plan);
  Status AllocateShared(const AttentionPlan& plan, int32_t num_sets);
  Job MakeJob(const LayerKeys& keys, const StepSequence& sequence, const float* q);
  // Kept sets (selection.cc).
  bool CanReuse(const Job& job) const;
  void ReuseKept(const Job& job);
  void Keep(const Job& job);
  // Values for the units of choice (selection_scan.cc).
  bool UsesIndex(const Job& job) const;
  int64_t KeyBytes() const;  // of a token's key of one KV head
  void PackQueries(const Job& job);
  void ScoreTokens(const Job& job, ExecutorProfile* profile);
  void ScanPages(const Job& job, int32_t kv_head, int32_t page_begin, int32_t page_end, int thread);
  void ScanPage(const Job& job, int32_t kv_head, int32_t page, float* scores);
  void MergeHeads(const Job& job);
  void MergePage(const Job& job, int32_t row, int32_t page);
  void ScorePageBounds(const Job& job, ExecutorProfile* profile);
  void ScoreUnit(const Job& job, int32_t kv_head, int32_t unit, int thread);
  // Choices from values (selection_take.cc).
  void TakeSets(const Job& job);
  int32_t TakeTokens(const Job& job, int32_t set, int thread);
  int32_t TakeByMass(const Job& job, int32_t set, int thread, int32_t* positions);
  int32_t TakePages(const Job& job, int32_t set, int thread);
  void TakeByRank(const Job& job);
  int32_t WalkRanks(const Job& job, int32_t set, int32_t wanted);
  int32_t AddAlways(const Job& job, const int32_t* chosen, int32_t num_chosen, int32_t* positions);
  double MassOf(const Job& job, int32_t set, int32_t pos) const;
  float SelectedMass(const Job& job) const;
  void ResolveSlots(const Job& job);

  int32_t* PositionsOf(const Job& job, int32_t set) const {
    return reinterpret_cast<int32_t*>(job.state->slots.data()) + set * job.state->capacity;
  }
  float* ScoresOf(int32_t page, int32_t head) const {
    return scores_ + (int64_t{page} * num_heads_ + head) * kPageSize;
  }
  float* ValuesOf(int64_t row) const { return values_ + row * max_tokens_; }
  // Of a set's units of choice where these are whole pages.
  float* UnitValuesOf(const Job& job, int32_t set) const { return ValuesOf(job.num_sets + set); }

  const KernelTable& kernels_;
  ThreadPool* const pool_;
  const KvLayout layout_;
  const int32_t num_layers_;
  const int32_t num_heads_;
  const int32_t gqa_ratio_;
  const int32_t head_dim_;
  const int64_t padded_head_dim_;
  const float attn_scale_;
  const Precision precision_;
  const int32_t max_tokens_;

  std::vector<State> states_;
  AlignedBuffer query_memory_;
  float* rows_ = nullptr;    // [num_heads][padded head_dim], scaled
  float* packed_ = nullptr;  // the same as score_rows reads it
  AlignedBuffer score_memory_;
  float* scores_ = nullptr;    // [pages][num_heads][kPageSize]
  float* page_max_ = nullptr;  // [pages][num_heads]
  float* page_sum_ = nullptr;
  float* factors_ = nullptr;
  float* head_max_ = nullptr;  // [num_heads]
  float* head_sum_ = nullptr;
  AlignedBuffer value_memory_;
  float* values_ = nullptr;    // [rows][max_tokens]: a row per set (by rank per head), then per set
                               // of its units of choice
  AlignedBuffer rank_memory_;  // by rank only: [num_heads][max_tokens] positions
  // What a thread works with.
  struct Scratch {
    TopKScratch top_k;
    std::vector<int32_t> chosen;    // [max_tokens + 1]
    std::vector<float> saved;       // [max_tokens]: values that are hidden for a while
    std::vector<float> probs;       // [kMaxDecodeRows * kPageSize], where scores are kept
    std::vector<float> bounds;      // [4][padded head_dim]
    std::vector<uint8_t> is_taken;  // [max_tokens], zeros between uses
  };
  std::vector<Scratch> scratch_;  // [threads]
};

}  // namespace tidal

#endif  // TIDAL_CPU_SELECTION_H_
