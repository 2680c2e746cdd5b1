// The KV cache of a CUDA executor and its key index: where a layer's pages lie, and pages on their
// way to and from the host.
#ifndef TIDAL_CUDA_CUDA_CACHE_H_
#define TIDAL_CUDA_CUDA_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "base/status.h"
#include "cuda/cuda_executor.h"
#include "cuda/device_buffer.h"
#include "cuda/device_types.h"
#include "cuda/key_index.h"
#include "executor/executor.h"
#include "model/model.h"

namespace tidal {

// One layer's pages after the other, and so the indexes of the layers that have one. Threads: one.
class CudaCache {
 public:
  // For the current device. kOutOfMemory with the numbers.
  static Result<CudaCache> Create(const ModelConfig& config, const CudaExecutorOptions& options);

  DeviceKv KvOf(int32_t layer) const;
  // Without a base where the layer has none.
  const DeviceIndex& IndexOf(int32_t layer) const { return indexes_[static_cast<size_t>(layer)]; }

  int64_t kv_bytes() const { return kv_memory_.bytes(); }
  int64_t index_bytes() const { return index_memory_.bytes(); }
  int64_t kv_page_bytes() const { return num_layers() * kv_.page_bytes; }  // of all layers
  int64_t index_page_bytes() const { return num_index_layers() * index_layer_page_bytes_; }
  // Of K and V of a token in one layer, and of K alone; scales are read together.
  int64_t token_bytes() const {
    return kv_.num_kv_heads * (int64_t{2} * kv_.row_bytes + token_scale_bytes());
  }
  int64_t key_bytes() const {
    return kv_.num_kv_heads * (int64_t{kv_.row_bytes} + token_scale_bytes());
  }

  // As the Executor's functions of these names. They wait for the stream.
  PageFormat page_format() const;
  Status ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                  std::span<std::byte> index, cudaStream_t stream) const;
  Status WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                   std::span<const std::byte> index, cudaStream_t stream) const;

 private:
  // Of a KV head.
  int64_t token_scale_bytes() const {
    return kv_.type == CacheType::kF8e4m3 ? kTokenScaleBytes : 0;
  }
  int64_t num_layers() const { return static_cast<int64_t>(indexes_.size()); }
  int64_t num_index_layers() const { return static_cast<int64_t>(index_layers_.size()); }
  std::byte* PageAt(int64_t layer, PageId page) const;
  std::byte* IndexPageAt(int32_t layer, PageId page) const;
  void ClearTail(int32_t num_tokens, std::span<std::byte> kv) const;
  // The index of a full page: computed from its keys, and as it was saved. REQUIRES: index layers.
  Status SealPage(PageId page, cudaStream_t stream) const;
  Status WriteIndex(PageId page, std::span<const std::byte> index, cudaStream_t stream) const;

  DeviceKv kv_;  // without a base
  int64_t num_pages_ = 0;
  int64_t index_layer_page_bytes_ = 0;
  int32_t index_bits_ = 0;
  DeviceBuffer kv_memory_;
  DeviceBuffer index_memory_;
  DeviceBuffer seal_;                  // one DeviceSeal
  std::vector<DeviceIndex> indexes_;   // [layer]
  std::vector<int32_t> index_layers_;  // those that have one, ascending
};

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_CACHE_H_
