#include "scheduler/scheduled_sequence.h"

#include "base/check.h"

namespace tidal {

bool ScheduledSequence::NextRowRunsFull() const {
  const int32_t row_kv_len = kv_len + 1;
  return full_next || plan.At(row_kv_len).RunsFull(row_kv_len);
}

bool ScheduledSequence::CorrectionIsDue() const {
  return plan.correct.when == Correction::When::kRows && is_decoding() &&
         num_dirty() >= plan.correct.rows && num_dirty() > 0;
}

void ScheduledSequence::Restart(int32_t reused, PagePool* pool) {
  TIDAL_CHECK(reused >= 0 && reused <= dense_len, "{} tokens to reuse, {} are clean", reused,
              dense_len);
  pages.Truncate(reused, pool);
  kv_len = reused;
  dense_len = reused;
  replay_end = 0;
  forget_sets = true;
  full_next = false;
  newlines.clear();
}

void ScheduledSequence::BeginReplay() {
  full_until = kv_len;
  replay_end = kv_len;
  kv_len = dense_len;
  forget_sets = true;
  full_next = false;
}

void ScheduledSequence::Commit(const StepSequence& rows) {
  TIDAL_CHECK(rows.kv_len == kv_len + rows.q_len, "{} rows up to {} after {}", rows.q_len,
              rows.kv_len, kv_len);
  const bool was_decoding = is_decoding();
  if (rows.plan == nullptr) {
    if (kv_len == dense_len) dense_len = rows.kv_len;
    if (was_decoding) full_next = false;
  } else {
    forget_sets = false;
  }
  kv_len = rows.kv_len;
}

void ScheduledSequence::CheckGuard(float selected_mass) {
  // NaN compares false, so that nothing is forced where nothing is known.
  full_next = plan.guard > 0 && static_cast<double>(selected_mass) < plan.guard;
}

}  // namespace tidal
