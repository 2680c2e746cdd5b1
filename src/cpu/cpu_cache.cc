#include "cpu/cpu_cache.h"

#include <algorithm>

#include "base/check.h"

namespace tidal {

Result<CpuCache> CpuCache::Create(const KernelTable& kernels, const KvLayout& layout,
                                  const ModelConfig& config, const CpuExecutorOptions& options) {
  CpuCache cache;
  cache.kernels_ = &kernels;
  cache.layout_ = layout;
  cache.num_pages_ = options.num_pages;
  cache.index_base_.resize(static_cast<size_t>(config.num_layers));
  TIDAL_ASSIGN_OR_RETURN(cache.kv_memory_,
                         AlignedBuffer::Create(cache.num_pages_ * cache.kv_page_bytes()));
  TIDAL_RETURN_IF_ERROR(cache.AllocateIndex(options));
  return cache;
}

Status CpuCache::AllocateIndex(const CpuExecutorOptions& options) {
  num_index_layers_ = std::count_if(options.index_layers.begin(), options.index_layers.end(),
                                    [](uint8_t has_index) { return has_index != 0; });
  if (num_index_layers_ == 0) return OkStatus();
  TIDAL_CHECK(options.index_bits == 4 || options.index_bits == 2, "an index of {} bits",
              options.index_bits);
  index_layout_ = KeyIndexLayout(layout_.num_kv_heads(), layout_.head_dim(), options.index_bits);
  const int64_t layer_bytes = num_pages_ * index_layout_.page_bytes();
  TIDAL_ASSIGN_OR_RETURN(index_memory_, AlignedBuffer::Create(num_index_layers_ * layer_bytes));
  std::byte* next = index_memory_.data();
  for (size_t layer = 0; layer < index_base_.size(); ++layer) {
    if (options.index_layers[layer] == 0) continue;
    index_base_[layer] = next;
    next += layer_bytes;
  }
  return OkStatus();
}

LayerKeys CpuCache::KeysOf(int32_t layer) const {
  return {.layer = layer,
          .kv_base = LayerBase(layer),
          .index_base = index_base_[static_cast<size_t>(layer)],
          .index = &index_layout_};
}

CpuPages CpuCache::pages() const {
  return {.kernels = kernels_,
          .layout = &layout_,
          .kv = kv_memory_.data(),
          .num_layers = static_cast<int32_t>(num_layers()),
          .num_pages = num_pages_,
          .index_layout = &index_layout_,
          .index_base = index_base_};
}

}  // namespace tidal
