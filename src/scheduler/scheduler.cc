#include "scheduler/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace tidal {
namespace {

// The newest newlines that are neither sinks nor recent, at most as many as the plan keeps.
void FillKeep(const AttentionPlan& plan, int32_t row_kv_len, ScheduledSequence* sequence) {
  sequence->keep.clear();
  if (!plan.keep_newlines) return;
  const SetSizes sizes = plan.SizesAt(row_kv_len);
  const std::vector<int32_t>& newlines = sequence->newlines;
  auto next = std::lower_bound(newlines.begin(), newlines.end(), row_kv_len - sizes.recent);
  while (next != newlines.begin() && static_cast<int32_t>(sequence->keep.size()) < sizes.max_keep) {
    --next;
    if (*next < sizes.sinks) break;
    sequence->keep.push_back(*next);
  }
}

// The plan of a decoded row, null where it runs full, and what that plan needs.
void SetPlan(ScheduledSequence* sequence, StepSequence* entry) {
  entry->state = sequence->state;
  if (!sequence->is_decoding() || sequence->NextRowRunsFull()) return;
  entry->plan = &sequence->plan.At(entry->kv_len);
  entry->forget_sets = sequence->forget_sets;
  entry->wants_mass = sequence->wants_all_logits;
  FillKeep(*entry->plan, entry->kv_len, sequence);
  entry->keep = sequence->keep.data();
  entry->num_keep = static_cast<int32_t>(sequence->keep.size());
}

void AppendRows(ScheduledSequence* sequence, int32_t owner, int32_t q_len, StepBatch* batch) {
  const int32_t num_tokens = static_cast<int32_t>(sequence->tokens.size());
  StepSequence entry;
  entry.row_begin = batch->num_rows();
  entry.q_len = q_len;
  entry.owner = owner;
  entry.kv_len = sequence->kv_len + q_len;
  entry.page_table = sequence->pages.data();
  SetPlan(sequence, &entry);
  const bool wants_all = sequence->wants_all_logits || sequence->is_replaying();
  for (int32_t i = 0; i < q_len; ++i) {
    const int32_t pos = sequence->kv_len + i;
    const bool is_sampled = sequence->wants_logits && pos == num_tokens - 1;
    if (wants_all || (is_sampled && sequence->num_candidates == 0)) {
      batch->logit_rows.push_back(batch->num_rows());
    } else if (is_sampled) {
      batch->candidate_rows.push_back({.row = batch->num_rows(),
                                       .count = sequence->num_candidates,
                                       .wants_softmax = sequence->wants_softmax});
    }
    batch->tokens.push_back(sequence->tokens[static_cast<size_t>(pos)]);
    batch->positions.push_back(pos);
  }
  batch->sequences.push_back(entry);
}

}  // namespace

Status Scheduler::NextBatch(std::span<ScheduledSequence* const> running, PagePool* pool,
                            StepBatch* batch) const {
  batch->Clear();
  Status out_of_pages;
  for (const bool decode_pass : {true, false}) {
    for (size_t owner = 0; owner < running.size(); ++owner) {
      ScheduledSequence* sequence = running[owner];
      const int32_t room = max_batch_tokens_ - batch->num_rows();
      if (room <= 0) break;
      if (sequence->is_decoding() != decode_pass) continue;
      const int32_t pending = static_cast<int32_t>(sequence->tokens.size()) - sequence->kv_len;
      TIDAL_CHECK(pending > 0, "a running sequence has no row to run");
      const int32_t q_len =
          decode_pass ? 1 : std::min({pending, sequence->full_until - sequence->kv_len, room});
      if (Status status = sequence->pages.Reserve(sequence->kv_len + q_len, pool); !status.ok()) {
        out_of_pages = status;
        continue;
      }
      AppendRows(sequence, static_cast<int32_t>(owner), q_len, batch);
    }
  }
  return batch->sequences.empty() ? out_of_pages : OkStatus();
}

}  // namespace tidal
