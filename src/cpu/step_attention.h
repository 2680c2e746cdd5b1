// Attention of a CPU executor's steps: over everything, cut into work items once for all layers of
// a step, or over the sets that the sequences chose last, cut anew in each layer.
//
// Use: BeginStep; UseSets behind each choice; Attend in each layer. A step allocates only where
// CpuAttention::Plan says so.
#ifndef TIDAL_CPU_STEP_ATTENTION_H_
#define TIDAL_CPU_STEP_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "cpu/attention.h"
#include "cpu/cpu_activations.h"
#include "executor/executor.h"
#include "scheduler/step_batch.h"

namespace tidal {

// Sequences are indexes into batch.sequences. Threads: one, which shares work out to the pool's.
class CpuStepAttention {
 public:
  // For steps of up to max_sequences sequences. As CpuAttention::Create.
  static Result<CpuStepAttention> Create(const CpuAttentionOptions& options, int32_t max_sequences);

  // Forgets the last step's sets. The batch is alive and unchanged until the step's last Attend.
  void BeginStep(const StepBatch& batch);
  // The sets that a sequence attends from now on, borrowed until the next of it or the step's end.
  void UseSets(int32_t sequence, std::span<const SlotSet> sets) {
    sets_[static_cast<size_t>(sequence)] = sets;
  }

  // Attention of the rows of these sequences over the pages at layer_base: reads activations.q,
  // writes activations.attended. As CpuAttention::Plan. REQUIRES: for kSets, sets of each.
  Status Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences,
                const std::byte* layer_base, const CpuActivations& activations);

  // Bytes of K and V that the last Attend of this kind read.
  int64_t bytes(AttendTo what) const { return Of(what).planned_bytes(); }
  // Tokens that a row of the sequence attends, of sets the mean.
  double TokensOf(int32_t sequence, AttendTo what) const;

 private:
  CpuAttention& Of(AttendTo what) const {
    return what == AttendTo::kEverything ? *full_ : *over_sets_;
  }
  // Plans attention over everything, unless the last one was for the same sequences.
  Status PlanFull(std::span<const int32_t> sequences);
  Status PlanSets(int32_t layer, std::span<const int32_t> sequences);

  std::unique_ptr<CpuAttention> full_;
  std::unique_ptr<CpuAttention> over_sets_;
  const StepBatch* batch_ = nullptr;
  std::vector<AttendSeq> attend_;               // [sequences], of the plan being made
  std::vector<int32_t> planned_;                // sequences that full_ is planned for
  std::vector<std::span<const SlotSet>> sets_;  // [sequences], the latest chosen
};

}  // namespace tidal

#endif  // TIDAL_CPU_STEP_ATTENTION_H_
