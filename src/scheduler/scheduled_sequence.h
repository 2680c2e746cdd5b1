// What the scheduler knows of a running sequence: its tokens, how far its cache goes, and which of
// its rows run full.
//
// Rows at positions before full_until are prefill: full, many to a step. Later ones are decoded
// one by one under the plan, and the K and V that a sparse row leaves are *dirty*: they are not
// those of a full run, and neither are those of any row after it. KV correction turns the dirty
// tail into prefill again (BeginReplay), so that it is chunked and scheduled like any other.
#ifndef TIDAL_SCHEDULER_SCHEDULED_SEQUENCE_H_
#define TIDAL_SCHEDULER_SCHEDULED_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "scheduler/step_batch.h"

namespace tidal {

// The engine owns it; the scheduler reads it. Not thread-safe.
struct ScheduledSequence {
  std::vector<int32_t> tokens;    // prompt, then generated
  int32_t kv_len = 0;             // leading tokens whose K and V are in the cache
  int32_t full_until = 0;         // rows at positions before it are prefill
  int32_t dense_len = 0;          // leading tokens whose K and V are those of a full run
  int32_t replay_end = 0;         // while kv_len is before it, rows repeat decoded ones
  bool wants_all_logits = false;  // else of the newest token, and of replayed rows
  bool wants_logits = true;       // false: fills the cache, nothing more
  // Of the newest token's logits only so many of the best are wanted; 0: all are.
  int32_t num_candidates = 0;
  bool wants_softmax = false;  // and the softmax over all of them, of candidates
  AttentionPlan plan;
  int32_t state = 0;        // the executor's selection state of the sequence
  bool forget_sets = true;  // what that state holds is of other tokens
  bool full_next = false;   // the quality guard wants the next row full
  // With a plan that keeps newlines: the positions of tokens with one, ascending; and those that
  // the row at hand keeps, newest first, which the scheduler fills in.
  std::vector<int32_t> newlines;
  std::vector<int32_t> keep;
  PageTable pages;

  bool is_decoding() const { return kv_len >= full_until; }
  bool is_replaying() const { return kv_len < replay_end; }
  // Of the cache's tokens, those that a sparse row left or that came after one.
  int32_t num_dirty() const { return kv_len - dense_len; }

  // Whether a row that is decoded next runs full: because its context is short, because the plan
  // is, or because the guard said so.
  bool NextRowRunsFull() const;
  // Whether so many dirty rows stand that the plan wants them corrected before the next row.
  bool CorrectionIsDue() const;

  // Prepares for a request whose prompt has `reused` tokens in common with the cache's clean ones:
  // they stay, all else goes. Tokens, plan, full_until and what logits are wanted are set by the
  // caller. REQUIRES: reused <= dense_len.
  void Restart(int32_t reused, PagePool* pool);
  // Makes prefill of the dirty tail. Its pages and tokens stay; K, V and indexes are computed
  // again, and kept sets are dropped.
  void BeginReplay();
  // The sequence's rows of a step have run.
  void Commit(const StepSequence& rows);
  // What a committed sparse row selected, for the guard; NaN where that is not known.
  void CheckGuard(float selected_mass);
};

}  // namespace tidal

#endif  // TIDAL_SCHEDULER_SCHEDULED_SEQUENCE_H_
