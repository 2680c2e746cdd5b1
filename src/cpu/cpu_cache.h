// The KV cache of a CPU executor and its key index: where a layer's pages lie, and pages as bytes
// that leave it and come back.
#ifndef TIDAL_CPU_CPU_CACHE_H_
#define TIDAL_CPU_CPU_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/cpu_executor.h"
#include "cpu/kernels.h"
#include "cpu/key_index.h"
#include "cpu/kv_layout.h"
#include "cpu/page_copy.h"
#include "cpu/selection.h"
#include "executor/executor.h"
#include "model/model.h"

namespace tidal {

// One layer's pages after the other, and so the indexes of the layers that have one. Threads: const
// after creation; what pages hold is for the callers to order.
class CpuCache {
 public:
  // Reserves address space; memory comes as pages are first written. `kernels` outlives the cache.
  // kOutOfMemory with the bytes. REQUIRES: an index of 4 or 2 bits where a layer has one.
  static Result<CpuCache> Create(const KernelTable& kernels, const KvLayout& layout,
                                 const ModelConfig& config, const CpuExecutorOptions& options);

  const KvLayout& layout() const { return layout_; }
  // Page p of the layer is layout().page_bytes() * p behind it.
  std::byte* LayerBase(int32_t layer) const { return pages().KvOf(layer, 0); }
  bool HasIndex(int32_t layer) const { return index_base_[static_cast<size_t>(layer)] != nullptr; }
  // What the layer's keys can be scored by, and all pages; both borrow from this object.
  LayerKeys KeysOf(int32_t layer) const;
  CpuPages pages() const;

  int64_t kv_bytes() const { return kv_memory_.bytes(); }
  int64_t index_bytes() const { return index_memory_.bytes(); }
  int64_t kv_page_bytes() const { return num_layers() * layout_.page_bytes(); }  // of all layers
  int64_t index_page_bytes() const { return num_index_layers_ * index_layout_.page_bytes(); }

  // As the Executor's functions of these names; layers are shared out to the threads.
  PageFormat page_format() const { return FormatOf(pages()); }
  void ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                std::span<std::byte> index, ThreadPool* threads) const {
    CopyPageOut(pages(), page, num_tokens, kv, index, threads);
  }
  void WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                 std::span<const std::byte> index, ThreadPool* threads) const {
    CopyPageIn(pages(), page, num_tokens, kv, index, threads);
  }

 private:
  int64_t num_layers() const { return static_cast<int64_t>(index_base_.size()); }
  Status AllocateIndex(const CpuExecutorOptions& options);

  const KernelTable* kernels_ = nullptr;
  KvLayout layout_;
  int64_t num_pages_ = 0;
  int64_t num_index_layers_ = 0;
  AlignedBuffer kv_memory_;
  KeyIndexLayout index_layout_;
  AlignedBuffer index_memory_;
  std::vector<std::byte*> index_base_;  // [layer], null: no index
};

}  // namespace tidal

#endif  // TIDAL_CPU_CPU_CACHE_H_
