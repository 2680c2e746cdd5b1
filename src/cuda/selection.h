// Choosing the tokens that decoded rows attend, on a CUDA device: what cpu/selection.h is to the
// CPU. The host only says what to do; scores, sets and kept state never leave the device.
#ifndef TIDAL_CUDA_SELECTION_H_
#define TIDAL_CUDA_SELECTION_H_

#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"
#include "cuda/device_types.h"
#include "cuda/key_index.h"
#include "cuda/step_timer.h"
#include "cuda/step_upload.h"
#include "executor/options.h"
#include "scheduler/step_batch.h"

namespace tidal {

struct CudaSelectionOptions {
  cudaStream_t stream = nullptr;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  float attn_scale = 0;
  Precision precision = Precision::kFast;
  int32_t max_sequences = 1;  // of a step, and selection states
  int32_t max_tokens = 0;     // of a sequence, a multiple of 64
  StepUpload* upload = nullptr;
  StepTimer* timer = nullptr;  // told of the parts of a choice; may be null
};

class CudaSelection {
 public:
  // Reserves regions of `upload` (which is allocated afterwards).
  static Result<std::unique_ptr<CudaSelection>> Create(const CudaSelectionOptions& options);
  virtual ~CudaSelection() = default;

  // Room for a plan on a state, as Executor::PreparePlan. Waits for the device where it has to
  // replace memory.
  virtual Status Prepare(int32_t state, const AttentionPlan& plan) = 0;

  // Writes the step's part of the upload: sizes, kept positions, where the sets are. Called before
  // StepUpload::Send.
  virtual void BeginStep(const StepBatch& batch) = 0;

  // Enqueues the choice of layer `layer` for the batch's sequences that have kChooses in step.flags
  // (those listed in `sequences`, all with a prepared plan; which they are changes no launch). q:
  // [rows][num_heads][head_dim] float32 after RoPE, unscaled, on the device.
  virtual void Choose(int32_t layer, std::span<const int32_t> sequences, const DeviceStep& step,
                      const DeviceKv& kv, const DeviceIndex& index, const float* q) = 0;

  // Device array [batch sequences]: the sets of each sequence's state (written by Choose, read by
  // attention). Fixed address.
  virtual const DeviceSets* sets() const = 0;
  // Device array [num_layers][max_sequences], written by Choose.
  virtual const DeviceChoiceReport* reports() const = 0;
  // Copies the sets of a sequence of the batch to the host as they are now (waits for the stream).
  virtual Status ReadSets(int32_t sequence, std::vector<std::vector<int32_t>>* slots) const = 0;
  // Changes whenever the launches of a batch would be others than before for reasons that the
  // batch's roles do not show (memory moved, another scorer): part of a graph's key.
  virtual uint64_t LaunchKey(const StepBatch& batch) const = 0;
  virtual int64_t bytes() const = 0;
  virtual Status status() const = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_H_
