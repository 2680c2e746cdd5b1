// One engine step as plain data: which rows (tokens) of which sequences go through the model
// together.
#ifndef TIDAL_SCHEDULER_STEP_BATCH_H_
#define TIDAL_SCHEDULER_STEP_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "kv/page_pool.h"
#include "sampler/candidates.h"

namespace tidal {

// Tokens that some heads attend: [count] slots (page_id * kPageSize + offset), distinct, in no
// particular order; count >= 1.
struct SlotSet {
  const int32_t* slots = nullptr;
  int32_t count = 0;
};

// What a step tells as it runs, for --trace. Called on the thread that runs the step; a device
// waits for its work first, so this is not for the fast path.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  // Selection layer `layer` has the sets for batch.sequences[sequence]: chosen in this step, or
  // (`fresh` false) those of an earlier step and every token since. selected_mass is NaN where the
  // scorer gives none.
  virtual void OnChosen(int32_t layer, int32_t sequence, bool fresh, float selected_mass,
                        std::span<const SlotSet> sets) = 0;
};

// A run of rows of one sequence at consecutive positions. With plan == nullptr every layer of these
// rows reads everything: prefill chunks, the verification of drafts and KV correction are all this
// one operation, "full rows at known positions".
struct StepSequence {
  int32_t row_begin = 0;  // first row in the batch
  int32_t q_len = 0;      // rows, >= 1
  int32_t kv_len =
      0;  // tokens readable by the last row, itself included; row i sees kv_len - q_len + i + 1
  const PageId* page_table =
      nullptr;        // at least ceil(kv_len / kPageSize) entries, alive until the step ends
  int32_t owner = 0;  // index of the sequence among those that the scheduler was given
  // Of a sparse row (q_len 1), else null; the variant for its kv_len; alive until the step ends.
  const AttentionPlan* plan = nullptr;
  // Which of the executor's selection states (0 .. max_sequences - 1) belongs to the sequence: what
  // outlives a step there are the sets and queries of plans that refresh by cosine.
  int32_t state = 0;
  // That state is of other tokens (a new request, a correction): drop it before this row.
  bool forget_sets = false;
  // Measure the selected mass of sets that are used again, too: a scan that only looks.
  bool wants_mass = false;
  // Always-kept positions beside sinks and recent tokens (keep=newline), newest first, distinct.
  const int32_t* keep = nullptr;
  int32_t num_keep = 0;
};

// A row of which nothing but its best logits is wanted.
struct CandidateRow {
  int32_t row = 0;
  int32_t count = 1;  // 1 to kMaxCandidates
  bool wants_softmax = false;
};

// Ragged: decode rows and prefill chunks mixed, in any order. Kept between steps, so that building
// the next one does not allocate.
struct StepBatch {
  std::vector<int32_t> tokens;               // [num_rows] ids
  std::vector<int32_t> positions;            // [num_rows]
  std::vector<StepSequence> sequences;       // their rows in order, gapless
  std::vector<int32_t> logit_rows;           // the rows whose logits are wanted, ascending
  std::vector<CandidateRow> candidate_rows;  // others, by ascending row
  StepObserver* observer = nullptr;          // may be null; Clear leaves it

  // Room for the largest step.
  void Reserve(int32_t max_rows, int32_t max_sequences) {
    for (std::vector<int32_t>* rows : {&tokens, &positions, &logit_rows})
      rows->reserve(static_cast<size_t>(max_rows));
    candidate_rows.reserve(static_cast<size_t>(max_rows));
    sequences.reserve(static_cast<size_t>(max_sequences));
  }
  int32_t num_rows() const { return static_cast<int32_t>(tokens.size()); }
  void Clear() {
    tokens.clear();
    positions.clear();
    sequences.clear();
    logit_rows.clear();
    candidate_rows.clear();
  }
};

}  // namespace tidal

#endif  // TIDAL_SCHEDULER_STEP_BATCH_H_
