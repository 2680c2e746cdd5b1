// One engine step as plain data: which rows (tokens) of which sequences go through the model
// together.
#ifndef TIDAL_SCHEDULER_STEP_BATCH_H_
#define TIDAL_SCHEDULER_STEP_BATCH_H_

#include <cstdint>
#include <vector>

#include "attention/attention_plan.h"
#include "kv/page_pool.h"

namespace tidal {

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
  const AttentionPlan* plan = nullptr;  // of a decoded row (q_len 1); alive until the step ends
};

// Ragged: decode rows and prefill chunks mixed, in any order. Kept between steps, so that building
// the next one does not allocate.
struct StepBatch {
  std::vector<int32_t> tokens;          // [num_rows] ids
  std::vector<int32_t> positions;       // [num_rows]
  std::vector<StepSequence> sequences;  // their rows in order, gapless
  std::vector<int32_t> logit_rows;      // the rows whose logits are wanted, ascending

  int32_t num_rows() const { return static_cast<int32_t>(tokens.size()); }
  void Clear() {
    tokens.clear();
    positions.clear();
    sequences.clear();
    logit_rows.clear();
  }
};

}  // namespace tidal

#endif  // TIDAL_SCHEDULER_STEP_BATCH_H_
