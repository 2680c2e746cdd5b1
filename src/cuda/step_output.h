// What leaves the device at the end of a step: logits of rows, or the best candidates among them.
//
// Use, for up to kMaxCudaLogitRows rows at a time: write device_logits, enqueue the way out of one
// of the two, wait for the stream, read it. Addresses never change, so that captured graphs find
// them. Threads: one.
#ifndef TIDAL_CUDA_STEP_OUTPUT_H_
#define TIDAL_CUDA_STEP_OUTPUT_H_

#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>

#include "base/status.h"
#include "cuda/candidates.h"
#include "cuda/device_buffer.h"
#include "scheduler/step_batch.h"

namespace tidal {

class StepOutput {
 public:
  // For the current device. kOutOfMemory with the numbers.
  static Result<StepOutput> Create(int32_t vocab_size);

  float* device_logits() const { return device_logits_.as<float>(); }  // [rows][vocab_size]

  // Copies the first num_rows rows of the logits. The error of the copy.
  Status EnqueueLogits(int64_t num_rows, cudaStream_t stream) const;
  // Finds what `rows`, [num_rows] on the device, want of them, and copies that. The first error of
  // a launch or the copy.
  Status EnqueueCandidates(const DeviceCandidateRow* rows, int64_t num_rows,
                           cudaStream_t stream) const;

  // As Executor::Logits and Executor::BestCandidates leave them. REQUIRES: what was enqueued for
  // them last has run.
  void ReadLogits(int64_t num_rows, float* logits) const;
  void ReadCandidates(std::span<const CandidateRow> rows, CandidateList* lists) const;

 private:
  int32_t vocab_size_ = 0;
  DeviceBuffer device_logits_;
  DeviceBuffer scratch_;  // of finding candidates
  DeviceBuffer device_candidates_;
  PinnedBuffer logits_;      // [kMaxCudaLogitRows][vocab_size]
  PinnedBuffer candidates_;  // [kMaxCudaLogitRows] DeviceCandidates
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_OUTPUT_H_
