#include "cpu/step_attention.h"

#include <algorithm>

namespace tidal {

Result<CpuStepAttention> CpuStepAttention::Create(const CpuAttentionOptions& options,
                                                  int32_t max_sequences) {
  CpuStepAttention attention;
  TIDAL_ASSIGN_OR_RETURN(attention.full_, CpuAttention::Create(options));
  TIDAL_ASSIGN_OR_RETURN(attention.over_sets_, CpuAttention::Create(options));
  attention.attend_.reserve(static_cast<size_t>(max_sequences));
  attention.planned_.reserve(static_cast<size_t>(max_sequences));
  attention.sets_.reserve(static_cast<size_t>(max_sequences));
  return attention;
}

void CpuStepAttention::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  planned_.clear();
  sets_.assign(batch.sequences.size(), {});
}

Status CpuStepAttention::PlanFull(std::span<const int32_t> sequences) {
  if (std::equal(sequences.begin(), sequences.end(), planned_.begin(), planned_.end()))
    return OkStatus();
  attend_.clear();
  for (const int32_t s : sequences) {
    const StepSequence& sequence = batch_->sequences[static_cast<size_t>(s)];
    attend_.push_back({.row_begin = sequence.row_begin,
                       .q_len = sequence.q_len,
                       .kv_len = sequence.kv_len,
                       .page_table = sequence.page_table});
  }
  planned_.assign(sequences.begin(), sequences.end());
  return full_->Plan(attend_);
}

Status CpuStepAttention::PlanSets(int32_t layer, std::span<const int32_t> sequences) {
  attend_.clear();
  for (const int32_t s : sequences) {
    const StepSequence& sequence = batch_->sequences[static_cast<size_t>(s)];
    const auto& headmaps = sequence.plan->headmap;
    const auto l = static_cast<size_t>(layer);
    const bool is_mapped = l < headmaps.size() && !headmaps[l].empty();
    attend_.push_back({.row_begin = sequence.row_begin,
                       .q_len = sequence.q_len,
                       .kv_len = sequence.kv_len,
                       .page_table = sequence.page_table,
                       .sets = sets_[static_cast<size_t>(s)],
                       .headmap = is_mapped ? headmaps[l].data() : nullptr});
  }
  return over_sets_->Plan(attend_);
}

Status CpuStepAttention::Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences,
                                const std::byte* layer_base, const CpuActivations& activations) {
  TIDAL_RETURN_IF_ERROR(what == AttendTo::kEverything ? PlanFull(sequences)
                                                      : PlanSets(layer, sequences));
  Of(what).Run(layer_base, activations.q, activations.attended);
  return OkStatus();
}

double CpuStepAttention::TokensOf(int32_t sequence, AttendTo what) const {
  const auto s = static_cast<size_t>(sequence);
  if (what == AttendTo::kEverything) return batch_->sequences[s].kv_len;
  double tokens = 0;
  for (const SlotSet& set : sets_[s]) tokens += set.count;
  return tokens / static_cast<double>(sets_[s].size());
}

}  // namespace tidal
