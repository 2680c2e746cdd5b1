// The best logits of rows, found on the device: what ListBest (sampler/candidates.h) makes of them.
#ifndef TIDAL_CUDA_CANDIDATES_H_
#define TIDAL_CUDA_CANDIDATES_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "sampler/candidates.h"

namespace tidal {

// What is wanted of a row; read from device memory, so that a captured graph serves all numbers.
struct DeviceCandidateRow {
  int32_t count = 1;          // 1 to kMaxCandidates
  int32_t wants_softmax = 0;  // nonzero: it does
};

// What is left of it.
struct DeviceCandidates {
  double exp_sum = 0;  // e^(logit - best) over the row's candidates; 0 where it is not wanted
  int64_t size = 0;
  Candidate candidates[kMaxCandidates];  // best first, the first `size` of them
};

// All pointers are of the device.
struct CandidateCall {
  const float* logits = nullptr;  // row i at logits + i * stride, [cols]
  int64_t stride = 0;
  int32_t cols = 0;  // 1 to kMaxCandidateCols
  int32_t num_rows = 0;
  const DeviceCandidateRow* rows = nullptr;  // [num_rows]
  void* scratch = nullptr;                   // CandidateScratchBytes, 16-byte aligned
  DeviceCandidates* out = nullptr;           // [num_rows]
};

inline constexpr int32_t kMaxCandidateCols = 655360;

int64_t CandidateScratchBytes(int64_t num_rows, int32_t cols);
// Enqueues two kernels. Errors: those of launches.
cudaError_t SelectCandidates(const CandidateCall& call, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_CANDIDATES_H_
