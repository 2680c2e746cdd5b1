#include "cpu/page_copy.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vector>

namespace tidal {
namespace {

// Changes where the meaning of the bytes of a page does.
constexpr int kKvVersion = 1;
constexpr int kIndexVersion = 1;

std::vector<int32_t> IndexLayersOf(const CpuPages& pages) {
  std::vector<int32_t> layers;
  for (int32_t layer = 0; layer < pages.num_layers; ++layer)
    if (pages.index_base[static_cast<size_t>(layer)] != nullptr) layers.push_back(layer);
  return layers;
}

// Zeros for the tokens of one KV head behind the first num_tokens.
void ClearTail(const KvHalf& half, int32_t num_tokens, std::byte* part) {
  const int64_t tail_tokens = kPageSize - num_tokens;
  std::memset(part + half.rows_offset + num_tokens * half.row_bytes, 0,
              static_cast<size_t>(tail_tokens * half.row_bytes));
  constexpr int64_t kScaleBytes = 2;
  const int64_t scale_bytes = half.scales_per_row * kScaleBytes;
  std::memset(part + half.scales_offset + num_tokens * scale_bytes, 0,
              static_cast<size_t>(tail_tokens * scale_bytes));
}

template <typename Body>
void ForLayers(const CpuPages& pages, ThreadPool* threads, const Body& body) {
  threads->ParallelFor(pages.num_layers, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t layer = begin; layer < end; ++layer) body(layer);
  });
}

// The place of each layer's index in a page's index bytes.
std::vector<int64_t> IndexOffsets(const CpuPages& pages) {
  std::vector<int64_t> offsets;
  int64_t next = 0;
  for (const std::byte* base : pages.index_base) {
    offsets.push_back(next);
    if (base != nullptr) next += pages.index_layout->page_bytes();
  }
  return offsets;
}

}  // namespace

PageFormat FormatOf(const CpuPages& pages) {
  const KvLayout& layout = *pages.layout;
  PageFormat format;
  format.kv = fmt::format("cpu {}: {} layers, {} KV heads of {}, {} tokens, K {}, V {}", kKvVersion,
                          pages.num_layers, layout.num_kv_heads(), layout.head_dim(), kPageSize,
                          NameOf(layout.k().type), NameOf(layout.v().type));
  format.kv_bytes = pages.num_layers * layout.page_bytes();
  const std::vector<int32_t> layers = IndexLayersOf(pages);
  if (layers.empty()) return format;
  format.index = fmt::format("cpu {}: {} bits, layers {}", kIndexVersion,
                             pages.index_layout->bits(), fmt::join(layers, ","));
  format.index_bytes = static_cast<int64_t>(layers.size()) * pages.index_layout->page_bytes();
  return format;
}

void SealPage(const CpuPages& pages, int32_t layer, PageId page, int32_t kv_head) {
  const KvLayout& layout = *pages.layout;
  const auto* part =
      reinterpret_cast<const uint8_t*>(pages.KvOf(layer, page) + kv_head * layout.kv_head_bytes());
  const CacheBlock keys = {
      .rows = part + layout.k().rows_offset,
      .scales = reinterpret_cast<const uint16_t*>(part + layout.k().scales_offset),
      .num_tokens = kPageSize,
      .head_dim = layout.head_dim(),
      .prefetch = nullptr,
      .prefetch_bytes = 0};
  const auto seal = pages.kernels->selection.seal_page[static_cast<size_t>(layout.k().type)];
  seal(keys, pages.index_layout->bits(),
       pages.index_layout->At(pages.index_base[static_cast<size_t>(layer)], page, kv_head));
}

void CopyPageOut(const CpuPages& pages, PageId page, int32_t num_tokens, std::span<std::byte> kv,
                 std::span<std::byte> index, ThreadPool* threads) {
  const KvLayout& layout = *pages.layout;
  const std::vector<int64_t> offsets = IndexOffsets(pages);
  ForLayers(pages, threads, [&](int64_t layer) {
    std::byte* out = kv.data() + layer * layout.page_bytes();
    std::memcpy(out, pages.KvOf(layer, page), static_cast<size_t>(layout.page_bytes()));
    for (int32_t kv_head = 0; num_tokens < kPageSize && kv_head < layout.num_kv_heads();
         ++kv_head) {
      ClearTail(layout.k(), num_tokens, out + kv_head * layout.kv_head_bytes());
      ClearTail(layout.v(), num_tokens, out + kv_head * layout.kv_head_bytes());
    }
    const std::byte* base = pages.index_base[static_cast<size_t>(layer)];
    if (base == nullptr) return;
    const int64_t bytes = pages.index_layout->page_bytes();
    std::byte* index_out = index.data() + offsets[static_cast<size_t>(layer)];
    if (num_tokens == kPageSize)
      std::memcpy(index_out, base + page * bytes, static_cast<size_t>(bytes));
    else
      std::memset(index_out, 0, static_cast<size_t>(bytes));
  });
}

void CopyPageIn(const CpuPages& pages, PageId page, int32_t num_tokens,
                std::span<const std::byte> kv, std::span<const std::byte> index,
                ThreadPool* threads) {
  const KvLayout& layout = *pages.layout;
  const std::vector<int64_t> offsets = IndexOffsets(pages);
  ForLayers(pages, threads, [&](int64_t layer) {
    std::memcpy(pages.KvOf(layer, page), kv.data() + layer * layout.page_bytes(),
                static_cast<size_t>(layout.page_bytes()));
    std::byte* base = pages.index_base[static_cast<size_t>(layer)];
    if (base == nullptr || num_tokens < kPageSize) return;
    if (index.empty()) {
      for (int32_t kv_head = 0; kv_head < layout.num_kv_heads(); ++kv_head)
        SealPage(pages, static_cast<int32_t>(layer), page, kv_head);
    } else {
      const int64_t bytes = pages.index_layout->page_bytes();
      std::memcpy(base + page * bytes, index.data() + offsets[static_cast<size_t>(layer)],
                  static_cast<size_t>(bytes));
    }
  });
}

}  // namespace tidal
