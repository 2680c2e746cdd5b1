// One step of a Llama-family transformer over a ragged batch, as a sequence of executor operations.
// Knows no backend.
#ifndef TIDAL_TRANSFORMER_TRANSFORMER_H_
#define TIDAL_TRANSFORMER_TRANSFORMER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "executor/executor.h"

namespace tidal {

class Transformer {
 public:
  // `executor` outlives this. max_sequences bounds the sequences of a step.
  Transformer(Executor* executor, int32_t num_layers, int32_t vocab_size, int32_t max_sequences);

  // Receives the logits [vocab_size] of one of batch.logit_rows; `i` counts these. The memory is
  // reused afterwards.
  using LogitsFn = std::function<void(size_t i, std::span<const float> logits)>;
  // Receives the best of one of batch.candidate_rows; `i` counts these. The list is reused
  // afterwards.
  using CandidatesFn = std::function<void(size_t i, const CandidateList& list)>;

  // Runs all layers, then hands out the wanted logits in the order of batch.logit_rows, and then
  // the candidates in that of batch.candidate_rows (without such rows there may be no function).
  // Blocking. Errors: the device's.
  Status Forward(const StepBatch& batch, const LogitsFn& on_logits,
                 const CandidatesFn& on_candidates = nullptr);

 private:
  // Lets the sequences whose plans choose in this layer choose, then attends everybody's rows.
  void Attend(int32_t layer, const StepBatch& batch);
  Status HandOutLogits(const StepBatch& batch, const LogitsFn& on_logits);
  Status HandOutCandidates(const StepBatch& batch, const CandidatesFn& on_candidates);

  Executor* executor_;
  int32_t num_layers_;
  int32_t vocab_size_;
  // Of the layer at hand, as indexes into the batch's sequences.
  std::vector<int32_t> choosing_;
  std::vector<int32_t> reading_all_;
  std::vector<int32_t> reading_sets_;
  std::vector<float> logits_;         // [executor's max_logit_rows, vocab_size]
  std::vector<CandidateList> lists_;  // [executor's max_logit_rows]
};

}  // namespace tidal

#endif  // TIDAL_TRANSFORMER_TRANSFORMER_H_
