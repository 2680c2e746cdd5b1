// The key index on a CUDA device: a few bits of every key, enough to choose tokens from. What it
// holds and how it lies: key_index.cuh.
#ifndef TIDAL_CUDA_KEY_INDEX_H_
#define TIDAL_CUDA_KEY_INDEX_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/device_types.h"

namespace tidal {

// Bytes of the key index of one page of one layer. REQUIRES: head_dim a multiple of 16, bits 4
// or 2.
int64_t DeviceIndexPageBytes(int32_t num_kv_heads, int32_t head_dim, int32_t bits);

// One layer's key index: page p at base + p * page_bytes.
struct DeviceIndex {
  uint8_t* base = nullptr;  // 16-byte aligned; null: the layer has none
  int64_t page_bytes = 0;
  int32_t bits = 4;
};

// A page that has become full.
struct DeviceSeal {
  int32_t page_id = 0;
};

// Enqueues the sealing of `seals` (device memory): for each of these pages and each KV head, the
// index from its keys as stored. head_dim at most 256. Errors are those of
// the launch. A kernel that fills a page itself can seal it: seal_page.cuh.
cudaError_t SealPages(const DeviceKv& kv, const DeviceIndex& index, const DeviceSeal* seals,
                      int32_t num_seals, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_KEY_INDEX_H_
