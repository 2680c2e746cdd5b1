// Attention of a CUDA executor's steps: which of the kernels of attention.h a layer is for, the
// memory they share, and which KV heads use another's set.
#ifndef TIDAL_CUDA_CUDA_ATTENTION_H_
#define TIDAL_CUDA_CUDA_ATTENTION_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "attention/attention_plan.h"
#include "base/status.h"
#include "cuda/cuda_activations.h"
#include "cuda/cuda_executor.h"
#include "cuda/device_buffer.h"
#include "cuda/device_types.h"
#include "cuda/step_graphs.h"
#include "cuda/step_tables.h"
#include "executor/option_enums.h"
#include "model/model.h"

namespace tidal {

// Threads: one.
class CudaAttention {
 public:
  // For the current device, that of the options. `config` outlives it. kOutOfMemory with the
  // numbers.
  static Result<CudaAttention> Create(const ModelConfig& config,
                                      const CudaExecutorOptions& options);

  // The plan's headmaps for a state, as Executor::PreparePlan. The first plan that has any makes
  // room for them: then `graphs` forgets its steps, which were captured without.
  Status Prepare(int32_t state, const AttentionPlan& plan, StepGraphs* graphs);

  // Enqueues attention of the step's sequences that the layer's flags name: over `sets`,
  // CudaSelection::sets(), or, null, over everything. Reads activations.q, writes
  // activations.attended. The first error of a launch.
  Status Attend(int32_t layer, const StepTables& tables, const DeviceKv& kv, const DeviceSets* sets,
                const CudaActivations& activations, cudaStream_t stream) const;

 private:
  bool HasTensorCores() const;

  const ModelConfig* config_ = nullptr;
  Precision precision_ = Precision::kFast;
  CacheType cache_type_ = CacheType::kF16;
  int32_t max_sequences_ = 1;
  int32_t num_sms_ = 0;
  DeviceBuffer partial_;   // AttentionWorkspace
  DeviceBuffer counters_;  // the same
  DeviceBuffer headmaps_;  // [layers][states][KV heads]; made when a plan has one
};

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_ATTENTION_H_
