// Pages of the CPU's pool as bytes that can leave it: the layers' parts of a page one after the
// other, each as it lies in the pool (kv_layout.h, key_index.h), in the byte order of the machine.
#ifndef TIDAL_CPU_PAGE_COPY_H_
#define TIDAL_CPU_PAGE_COPY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "cpu/key_index.h"
#include "cpu/kv_layout.h"
#include "executor/executor.h"

namespace tidal {

// Where the pool's pages are; everything is borrowed.
struct CpuPages {
  const KernelTable* kernels = nullptr;
  const KvLayout* layout = nullptr;
  std::byte* kv = nullptr;  // [num_layers][num_pages][layout->page_bytes()]
  int32_t num_layers = 0;
  int64_t num_pages = 0;
  const KeyIndexLayout* index_layout = nullptr;
  std::span<std::byte* const> index_base;  // [num_layers], null: no index

  std::byte* KvOf(int64_t layer, PageId page) const {
    return kv + (layer * num_pages + page) * layout->page_bytes();
  }
};

PageFormat FormatOf(const CpuPages& pages);

// Computes the key index of a full page, of one layer that has one and one KV head.
void SealPage(const CpuPages& pages, int32_t layer, PageId page, int32_t kv_head);

// As Executor::ReadPage and WritePage; layers are shared out to the threads.
void CopyPageOut(const CpuPages& pages, PageId page, int32_t num_tokens, std::span<std::byte> kv,
                 std::span<std::byte> index, ThreadPool* threads);
void CopyPageIn(const CpuPages& pages, PageId page, int32_t num_tokens,
                std::span<const std::byte> kv, std::span<const std::byte> index,
                ThreadPool* threads);

}  // namespace tidal

#endif  // TIDAL_CPU_PAGE_COPY_H_
