// Decides which rows the next step runs: decode rows first (somebody waits for each), then prefill
// chunks in the order of arrival, up to max_batch_tokens rows.
#ifndef TIDAL_SCHEDULER_SCHEDULER_H_
#define TIDAL_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/step_batch.h"

namespace tidal {

// What the scheduler knows of a running sequence. The engine owns it; the scheduler reads it and
// advances nothing.
struct ScheduledSequence {
  std::vector<int32_t> tokens;  // prompt, then generated
  int32_t kv_len = 0;           // leading tokens whose K and V are in the cache
  int32_t full_until = 0;  // rows at positions before it are prefill: full, many to a step; later
                           // ones are decoded with `plan`, one to a step
  bool wants_all_logits = false;  // else of the newest token only
  bool wants_logits = true;       // false: fills the cache, nothing more
  AttentionPlan plan;
  PageTable pages;
};

class Scheduler {
 public:
  explicit Scheduler(int32_t max_batch_tokens) : max_batch_tokens_(max_batch_tokens) {}

  // Fills *batch with rows of `running` (each has kv_len < tokens.size()) and reserves their pages.
  // Where the pool runs dry the sequences that still fit go on; kOutOfMemory where none does.
  Status NextBatch(std::span<ScheduledSequence* const> running, PagePool* pool,
                   StepBatch* batch) const;

 private:
  int32_t max_batch_tokens_;
};

}  // namespace tidal

#endif  // TIDAL_SCHEDULER_SCHEDULER_H_
