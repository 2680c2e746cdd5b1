#include "transformer/transformer.h"

#include <algorithm>

namespace tidal {

Transformer::Transformer(Executor* executor, int32_t num_layers, int32_t vocab_size,
                         int32_t max_sequences)
    : executor_(executor),
      num_layers_(num_layers),
      vocab_size_(vocab_size),
      logits_(static_cast<size_t>(executor->max_logit_rows()) * static_cast<size_t>(vocab_size)),
      lists_(static_cast<size_t>(executor->max_logit_rows())) {
  for (std::vector<int32_t>* group : {&choosing_, &reading_all_, &reading_sets_})
    group->reserve(static_cast<size_t>(max_sequences));
}

Status Transformer::Forward(const StepBatch& batch, const LogitsFn& on_logits,
                            const CandidatesFn& on_candidates) {
  TIDAL_RETURN_IF_ERROR(executor_->BeginStep(batch));
  executor_->Embed();
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    executor_->AttentionInputs(layer);
    Attend(layer, batch);
    executor_->AttentionOutput(layer);
    executor_->FeedForward(layer);
  }
  TIDAL_RETURN_IF_ERROR(HandOutLogits(batch, on_logits));
  TIDAL_RETURN_IF_ERROR(HandOutCandidates(batch, on_candidates));
  return executor_->EndStep();
}

Status Transformer::HandOutLogits(const StepBatch& batch, const LogitsFn& on_logits) {
  const std::span<const int32_t> rows = batch.logit_rows;
  const auto group_size = static_cast<size_t>(executor_->max_logit_rows());
  for (size_t begin = 0; begin < rows.size(); begin += group_size) {
    const auto group = rows.subspan(begin, std::min(group_size, rows.size() - begin));
    TIDAL_RETURN_IF_ERROR(executor_->Logits(group, logits_.data()));
    for (size_t i = 0; i < group.size(); ++i) {
      on_logits(begin + i, std::span(logits_).subspan(i * static_cast<size_t>(vocab_size_),
                                                      static_cast<size_t>(vocab_size_)));
    }
  }
  return OkStatus();
}

Status Transformer::HandOutCandidates(const StepBatch& batch, const CandidatesFn& on_candidates) {
  const std::span<const CandidateRow> rows = batch.candidate_rows;
  for (size_t begin = 0; begin < rows.size(); begin += lists_.size()) {
    const auto group = rows.subspan(begin, std::min(lists_.size(), rows.size() - begin));
    TIDAL_RETURN_IF_ERROR(executor_->BestCandidates(group, logits_.data(), lists_.data()));
    for (size_t i = 0; i < group.size(); ++i) on_candidates(begin + i, lists_[i]);
  }
  return OkStatus();
}

void Transformer::Attend(int32_t layer, const StepBatch& batch) {
  choosing_.clear();
  reading_all_.clear();
  reading_sets_.clear();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const AttentionPlan* plan = batch.sequences[i].plan;
    const auto sequence = static_cast<int32_t>(i);
    if (plan != nullptr && plan->Selects(layer)) choosing_.push_back(sequence);
    const bool reads_all = plan == nullptr || plan->Role(layer) == LayerRole::kFull;
    (reads_all ? reading_all_ : reading_sets_).push_back(sequence);
  }
  if (!choosing_.empty()) executor_->Choose(layer, choosing_);
  if (!reading_all_.empty()) executor_->Attend(layer, AttendTo::kEverything, reading_all_);
  if (!reading_sets_.empty()) executor_->Attend(layer, AttendTo::kSets, reading_sets_);
}

}  // namespace tidal
