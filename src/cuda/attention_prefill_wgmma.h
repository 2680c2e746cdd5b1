// AttendPrefill for Hopper's asynchronous tensor-core products: called by AttendPrefill alone.
#ifndef TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_H_
#define TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/attention.h"
#include "cuda/device_types.h"

namespace tidal {

// Whether the current device and this build can run AttendPrefillWgmma for such a cache.
bool HasPrefillWgmma(const DeviceKv& kv);
// As AttendPrefill. REQUIRES: HasPrefillWgmma.
cudaError_t AttendPrefillWgmma(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_ATTENTION_PREFILL_WGMMA_H_
