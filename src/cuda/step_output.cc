#include "cuda/step_output.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/cuda_limits.h"
#include "cuda/cuda_status.h"

namespace tidal {

Result<StepOutput> StepOutput::Create(int32_t vocab_size) {
  StepOutput output;
  output.vocab_size_ = vocab_size;
  const int64_t logit_bytes =
      kMaxCudaLogitRows * int64_t{vocab_size} * static_cast<int64_t>(sizeof(float));
  TIDAL_ASSIGN_OR_RETURN(output.device_logits_, DeviceBuffer::Create(logit_bytes, "the logits"));
  TIDAL_ASSIGN_OR_RETURN(output.logits_, PinnedBuffer::Create(logit_bytes, "the logits"));
  TIDAL_ASSIGN_OR_RETURN(output.scratch_,
                         DeviceBuffer::Create(CandidateScratchBytes(kMaxCudaLogitRows, vocab_size),
                                              "finding candidates"));
  constexpr int64_t kCandidateBytes = kMaxCudaLogitRows * int64_t{sizeof(DeviceCandidates)};
  TIDAL_ASSIGN_OR_RETURN(output.device_candidates_,
                         DeviceBuffer::Create(kCandidateBytes, "candidates"));
  TIDAL_ASSIGN_OR_RETURN(output.candidates_, PinnedBuffer::Create(kCandidateBytes, "candidates"));
  return output;
}

Status StepOutput::EnqueueLogits(int64_t num_rows, cudaStream_t stream) const {
  const auto bytes = static_cast<size_t>(num_rows * vocab_size_) * sizeof(float);
  return CudaStatus(
      cudaMemcpyAsync(logits_.data(), device_logits_.data(), bytes, cudaMemcpyDeviceToHost, stream),
      "reading logits");
}

Status StepOutput::EnqueueCandidates(const DeviceCandidateRow* rows, int64_t num_rows,
                                     cudaStream_t stream) const {
  StickyStatus status;
  const CandidateCall call = {.logits = device_logits(),
                              .stride = vocab_size_,
                              .cols = vocab_size_,
                              .num_rows = static_cast<int32_t>(num_rows),
                              .rows = rows,
                              .scratch = scratch_.data(),
                              .out = device_candidates_.as<DeviceCandidates>()};
  status.Note(SelectCandidates(call, stream), "finding candidates");
  status.Note(cudaMemcpyAsync(candidates_.data(), device_candidates_.data(),
                              static_cast<size_t>(num_rows) * sizeof(DeviceCandidates),
                              cudaMemcpyDeviceToHost, stream),
              "reading candidates");
  return status.status();
}

void StepOutput::ReadLogits(int64_t num_rows, float* logits) const {
  std::memcpy(logits, logits_.data(), static_cast<size_t>(num_rows * vocab_size_) * sizeof(float));
}

void StepOutput::ReadCandidates(std::span<const CandidateRow> rows, CandidateList* lists) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const DeviceCandidates& from = candidates_.as<DeviceCandidates>()[i];
    CandidateList& list = lists[i];
    list.size = static_cast<int32_t>(from.size);
    std::copy_n(from.candidates, from.size, list.candidates);
    list.softmax = {};
    if (rows[i].wants_softmax && from.size > 0)
      list.softmax = {.best = Finite(from.candidates[0].logit), .log_sum = std::log(from.exp_sum)};
  }
}

}  // namespace tidal
