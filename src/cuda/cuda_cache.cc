#include "cuda/cuda_cache.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "cuda/cuda_limits.h"
#include "cuda/cuda_status.h"

namespace tidal {
namespace {

// Changes where the meaning of the bytes of a page does.
constexpr int kKvVersion = 1;
constexpr int kIndexVersion = 1;

}  // namespace

Result<CudaCache> CudaCache::Create(const ModelConfig& config, const CudaExecutorOptions& options) {
  CudaCache cache;
  cache.kv_ = KvShape(config, options.cache_type);
  cache.num_pages_ = options.num_pages;
  cache.index_bits_ = options.index_bits;
  cache.indexes_.resize(static_cast<size_t>(config.num_layers));
  for (int32_t layer = 0; layer < static_cast<int32_t>(options.index_layers.size()); ++layer)
    if (options.index_layers[static_cast<size_t>(layer)] != 0) cache.index_layers_.push_back(layer);
  TIDAL_ASSIGN_OR_RETURN(
      cache.kv_memory_,
      DeviceBuffer::Create(cache.num_pages_ * cache.kv_page_bytes(), "the KV cache"));
  if (cache.index_layers_.empty()) return cache;
  cache.index_layer_page_bytes_ =
      DeviceIndexPageBytes(config.num_kv_heads, config.head_dim, options.index_bits);
  TIDAL_ASSIGN_OR_RETURN(
      cache.index_memory_,
      DeviceBuffer::Create(cache.num_pages_ * cache.index_page_bytes(), "the key index"));
  TIDAL_ASSIGN_OR_RETURN(cache.seal_, DeviceBuffer::Create(sizeof(DeviceSeal), "a page to seal"));
  auto* next = cache.index_memory_.as<uint8_t>();
  for (const int32_t layer : cache.index_layers_) {
    cache.indexes_[static_cast<size_t>(layer)] = {
        .base = next, .page_bytes = cache.index_layer_page_bytes_, .bits = options.index_bits};
    next += cache.num_pages_ * cache.index_layer_page_bytes_;
  }
  return cache;
}

DeviceKv CudaCache::KvOf(int32_t layer) const {
  DeviceKv kv = kv_;
  kv.base = kv_memory_.as<uint8_t>() + layer * num_pages_ * kv_.page_bytes;
  return kv;
}

std::byte* CudaCache::PageAt(int64_t layer, PageId page) const {
  return kv_memory_.data() + (layer * num_pages_ + page) * kv_.page_bytes;
}

std::byte* CudaCache::IndexPageAt(int32_t layer, PageId page) const {
  return reinterpret_cast<std::byte*>(IndexOf(layer).base) + page * index_layer_page_bytes_;
}

PageFormat CudaCache::page_format() const {
  PageFormat format;
  format.kv =
      fmt::format("cuda {}: {} layers, {} KV heads of {}, {} tokens, K and V {}", kKvVersion,
                  num_layers(), kv_.num_kv_heads, kv_.head_dim, kPageSize, NameOf(kv_.type));
  format.kv_bytes = kv_page_bytes();
  if (index_layers_.empty()) return format;
  format.index = fmt::format("cuda {}: {} bits, layers {}", kIndexVersion, index_bits_,
                             fmt::join(index_layers_, ","));
  format.index_bytes = index_page_bytes();
  return format;
}

// Zeros for the tokens of every head behind the first num_tokens.
void CudaCache::ClearTail(int32_t num_tokens, std::span<std::byte> kv) const {
  const auto clear = [&](int64_t begin, int64_t bytes_per_token) {
    std::memset(kv.data() + begin + num_tokens * bytes_per_token, 0,
                static_cast<size_t>((kPageSize - num_tokens) * bytes_per_token));
  };
  const auto size = static_cast<int64_t>(kv.size());
  for (int64_t part = 0; part < size; part += kv_.kv_head_bytes) {
    clear(part, kv_.row_bytes);
    clear(part + kv_.v_offset, kv_.row_bytes);
    clear(part + kv_.scales_offset, token_scale_bytes());
  }
}

Status CudaCache::ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                           std::span<std::byte> index, cudaStream_t stream) const {
  const auto layer_bytes = static_cast<size_t>(kv_.page_bytes);
  for (int64_t layer = 0; layer < num_layers(); ++layer) {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(kv.data() + layer * kv_.page_bytes,
                                               PageAt(layer, page), layer_bytes,
                                               cudaMemcpyDeviceToHost, stream));
  }
  const bool has_index = num_tokens == kPageSize;
  std::byte* next = index.data();
  for (const int32_t layer : index_layers_) {
    if (!has_index) break;
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(next, IndexPageAt(layer, page),
                                               static_cast<size_t>(index_layer_page_bytes_),
                                               cudaMemcpyDeviceToHost, stream));
    next += index_layer_page_bytes_;
  }
  TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  if (has_index) return OkStatus();
  ClearTail(num_tokens, kv);
  std::fill(index.begin(), index.end(), std::byte{0});
  return OkStatus();
}

Status CudaCache::SealPage(PageId page, cudaStream_t stream) const {
  const DeviceSeal seal = {.page_id = page};
  TIDAL_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(seal_.data(), &seal, sizeof(seal), cudaMemcpyHostToDevice, stream));
  for (const int32_t layer : index_layers_) {
    TIDAL_RETURN_IF_CUDA_ERROR(
        SealPages(KvOf(layer), IndexOf(layer), seal_.as<DeviceSeal>(), 1, stream));
  }
  return OkStatus();
}

Status CudaCache::WriteIndex(PageId page, std::span<const std::byte> index,
                             cudaStream_t stream) const {
  const std::byte* next = index.data();
  for (const int32_t layer : index_layers_) {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(IndexPageAt(layer, page), next,
                                               static_cast<size_t>(index_layer_page_bytes_),
                                               cudaMemcpyHostToDevice, stream));
    next += index_layer_page_bytes_;
  }
  return OkStatus();
}

Status CudaCache::WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                            std::span<const std::byte> index, cudaStream_t stream) const {
  const auto layer_bytes = static_cast<size_t>(kv_.page_bytes);
  for (int64_t layer = 0; layer < num_layers(); ++layer) {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(PageAt(layer, page),
                                               kv.data() + layer * kv_.page_bytes, layer_bytes,
                                               cudaMemcpyHostToDevice, stream));
  }
  if (num_tokens == kPageSize && !index_layers_.empty())
    TIDAL_RETURN_IF_ERROR(index.empty() ? SealPage(page, stream) : WriteIndex(page, index, stream));
  return CudaStatus(cudaStreamSynchronize(stream), "a page on its way to the device");
}

}  // namespace tidal
