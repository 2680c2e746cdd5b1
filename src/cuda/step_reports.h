// What a step's rows attended, the mass that their choices selected, and the bytes that this took.
//
// Use: BeginStep; EnqueueChoices behind the step's last choice, where any row has a plan; Finish
// when that copy has arrived. Its address never changes, so that captured graphs find it. Threads:
// one.
#ifndef TIDAL_CUDA_STEP_REPORTS_H_
#define TIDAL_CUDA_STEP_REPORTS_H_

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "base/status.h"
#include "cuda/cuda_cache.h"
#include "cuda/device_buffer.h"
#include "cuda/device_types.h"
#include "executor/executor.h"
#include "model/model.h"
#include "scheduler/step_batch.h"

namespace tidal {

class StepReports {
 public:
  // Steps of up to max_sequences sequences allocate nothing. kOutOfMemory with the numbers.
  static Result<StepReports> Create(const ModelConfig& config, int32_t max_sequences);

  // Forgets the last step's reports.
  void BeginStep(const StepBatch& batch);
  // Copies what choices did, CudaSelection::reports(), to the host. The error of the copy.
  Status EnqueueChoices(const DeviceChoiceReport* choices, cudaStream_t stream) const;
  // Makes the reports of the batch that BeginStep was told of, and adds its bytes to the profile.
  void Finish(const StepBatch& batch, const CudaCache& cache, ExecutorProfile* profile);

  // As the Executor's functions of these names; valid from Finish to the next BeginStep.
  std::span<const RowReport> reports() const { return reports_; }
  std::span<const float> layer_masses(int32_t sequence) const {
    return std::span(layer_masses_)
        .subspan(static_cast<size_t>(sequence) * num_layers_, num_layers_);
  }

 private:
  const DeviceChoiceReport& ChoiceOf(int32_t layer, size_t sequence) const {
    return choices_
        .as<DeviceChoiceReport>()[static_cast<size_t>(layer) * max_sequences_ + sequence];
  }

  size_t num_layers_ = 0;
  size_t max_sequences_ = 0;
  int32_t gqa_ratio_ = 1;
  PinnedBuffer choices_;             // the selection's reports, [layers][max_sequences]
  std::vector<RowReport> reports_;   // [sequences]
  std::vector<float> layer_masses_;  // [sequences][layers]
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_REPORTS_H_
