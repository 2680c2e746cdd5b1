// Decides which rows the next step runs: decode rows first (somebody waits for each), then prefill
// chunks in the order of arrival, up to max_batch_tokens rows.
#ifndef TIDAL_SCHEDULER_SCHEDULER_H_
#define TIDAL_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <span>

#include "scheduler/scheduled_sequence.h"
#include "scheduler/step_batch.h"

namespace tidal {

class Scheduler {
 public:
  explicit Scheduler(int32_t max_batch_tokens) : max_batch_tokens_(max_batch_tokens) {}

  // Fills *batch with rows of `running` (each has kv_len < tokens.size()), reserves their pages and
  // fills in what they keep; advances nothing.
  // Where the pool runs dry the sequences that still fit go on; kOutOfMemory where none does.
  Status NextBatch(std::span<ScheduledSequence* const> running, PagePool* pool,
                   StepBatch* batch) const;

 private:
  int32_t max_batch_tokens_;
};

}  // namespace tidal

#endif  // TIDAL_SCHEDULER_SCHEDULER_H_
