#include "transformer/transformer.h"

#include <algorithm>

#include "base/check.h"

namespace tidal {

Transformer::Transformer(Executor* executor, int32_t num_layers, int32_t vocab_size,
                         int32_t max_sequences)
    : executor_(executor),
      num_layers_(num_layers),
      vocab_size_(vocab_size),
      logits_(static_cast<size_t>(executor->max_logit_rows()) * static_cast<size_t>(vocab_size)) {
  full_sequences_.reserve(static_cast<size_t>(max_sequences));
}

Status Transformer::Forward(const StepBatch& batch, const LogitsFn& on_logits) {
  TIDAL_RETURN_IF_ERROR(executor_->BeginStep(batch));
  executor_->Embed();
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    executor_->AttentionInputs(layer);
    Attend(layer, batch);
    executor_->AttentionOutput(layer);
    executor_->FeedForward(layer);
  }
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
  return executor_->EndStep();
}

void Transformer::Attend(int32_t layer, const StepBatch& batch) {
  full_sequences_.clear();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const AttentionPlan* plan = batch.sequences[i].plan;
    const LayerRole role = plan == nullptr ? LayerRole::kFull : plan->role(layer);
    TIDAL_CHECK(role == LayerRole::kFull, "layer {} has a role that this step does not know",
                layer);
    full_sequences_.push_back(static_cast<int32_t>(i));
  }
  executor_->Attend(layer, AttendTo::kEverything, full_sequences_);
}

}  // namespace tidal
