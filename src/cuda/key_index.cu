// What      Seals whole pages of the key index (key_index.cuh, seal_page.cuh).
// Shapes    seals: [num_seals] page ids on the device.
// Launch    a block of 256 threads per (page, KV head).
// Bytes     per page and KV head 64 keys read twice (the second time from cache), the index
//           written.
// Numerics  seal_page.cuh; deterministic.
// Oracle    key_index_test.cc, from the definition.
#include "cuda/key_index.h"
#include "cuda/launch.cuh"
#include "cuda/seal_page.cuh"

namespace tidal {
namespace {

__global__ void __launch_bounds__(256)
    SealKernel(DeviceKv kv, DeviceIndex index, const DeviceSeal* seals) {
  WaitForInputs();
  AllowNext();
  SealPageOfHead(kv, index.base, index.page_bytes, index.bits, seals[blockIdx.x].page_id,
                 static_cast<int32_t>(blockIdx.y));
}

}  // namespace

int64_t DeviceIndexPageBytes(int32_t num_kv_heads, int32_t head_dim, int32_t bits) {
  return num_kv_heads * IndexKvHeadBytes(head_dim, bits);
}

cudaError_t SealPages(const DeviceKv& kv, const DeviceIndex& index, const DeviceSeal* seals,
                      int32_t num_seals, cudaStream_t stream) {
  if (num_seals == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(num_seals), static_cast<unsigned>(kv.num_kv_heads));
  return Launch(SealKernel, grid, dim3(256), 0, stream, kv, index, seals);
}

}  // namespace tidal
