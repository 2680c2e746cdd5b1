// What a step's rows attended, and the mass that their choices selected.
//
// Use: BeginStep; then AddChoice and AddAttended as layers run. Nothing allocates in a step.
// Threads: one.
#ifndef TIDAL_CPU_STEP_REPORTS_H_
#define TIDAL_CPU_STEP_REPORTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "executor/executor.h"
#include "scheduler/step_batch.h"

namespace tidal {

// Sequences are indexes into batch.sequences.
class CpuStepReports {
 public:
  // For steps of up to max_sequences sequences.
  CpuStepReports(int32_t num_layers, int32_t max_sequences);

  // Forgets the last step's reports.
  void BeginStep(const StepBatch& batch);
  // Of a choice; NaN where its scorer gives no mass.
  void AddChoice(int32_t layer, int32_t sequence, float selected_mass);
  // Tokens that the sequence's row attended in a layer of this role.
  void AddAttended(LayerRole role, int32_t sequence, double tokens);

  // As the Executor's functions of these names; valid until the next BeginStep.
  std::span<const RowReport> reports() const { return reports_; }
  std::span<const float> layer_masses(int32_t sequence) const {
    return std::span(layer_masses_)
        .subspan(static_cast<size_t>(sequence) * num_layers_, num_layers_);
  }

 private:
  const size_t num_layers_;
  std::vector<RowReport> reports_;   // [sequences]
  std::vector<float> layer_masses_;  // [sequences][layers]
};

}  // namespace tidal

#endif  // TIDAL_CPU_STEP_REPORTS_H_
