#include "cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

static_assert(kBlockTokens == kPageSize);
static_assert(kMaxHeadDim <= kMaxRopeDim);
static_assert(static_cast<int>(CacheType::kF32) == 0 && static_cast<int>(CacheType::kF16) == 1 &&
                  static_cast<int>(CacheType::kBF16) == 2 &&
                  static_cast<int>(CacheType::kQ8_0) == 3,
              "kernel tables are indexed by CacheType");

// Rows of a sequence up to which its tokens are scored as they lie: beyond, widening a block once
// for all rows is cheaper.
constexpr int32_t kMaxDecodeTokens = 4;

// Chunks: small enough that one sequence feeds every core, large enough that merging (one row of
// float32 per chunk and head) is a few percent of reading. Doubled for long contexts, so that a row
// never has more than kMaxChunks.
constexpr int32_t kDecodeChunkTokens = 256;
constexpr int32_t kTileChunkTokens = 1024;
constexpr int32_t kMaxChunks = 64;
// Sequences with more rows than this have enough tiles to share out: their tokens are not cut.
constexpr int32_t kMaxChunkedRows = 2 * kTileRows;

// Keys of an item's first block that are asked for before any is read: no item came before a
// thread's first to do so. As many random rows as keep the memory busy.
constexpr int32_t kColdRows = 24;

// Whole cache lines.
int64_t PaddedFloats(int64_t count) { return RoundUp(count, 16); }

}  // namespace

Result<std::unique_ptr<CpuAttention>> CpuAttention::Create(const CpuAttentionOptions& options) {
  const int32_t head_dim = options.layout.head_dim();
  const int32_t num_kv_heads = options.layout.num_kv_heads();
  if (head_dim < 8 || head_dim % 8 != 0 || head_dim > kMaxHeadDim) {
    return Unsupported("attention: head_dim is {}, expected a multiple of 8 from 8 to {}", head_dim,
                       kMaxHeadDim);
  }
  if (options.num_heads < 1 || options.num_heads % num_kv_heads != 0) {
    return InvalidArgument(
        "attention: num_heads is {}, expected a positive multiple of the {} KV heads",
        options.num_heads, num_kv_heads);
  }
  if (options.max_rows < 1)
    return InvalidArgument("attention: max_rows is {}, expected at least 1", options.max_rows);
  TIDAL_CHECK(options.kernels != nullptr && options.pool != nullptr, "no kernels or no threads");
  std::unique_ptr<CpuAttention> attention(new CpuAttention(options));
  TIDAL_RETURN_IF_ERROR(attention->AllocateScratch());
  // One decoding row of any length.
  TIDAL_RETURN_IF_ERROR(attention->ReserveParts(int64_t{options.num_heads} * kMaxChunks));
  attention->tiles_.reserve(static_cast<size_t>(options.num_heads));
  attention->items_.reserve(static_cast<size_t>(options.num_heads) * kMaxChunks);
  return attention;
}

CpuAttention::CpuAttention(const CpuAttentionOptions& options)
    : kernels_(options.kernels->attention),
      pool_(options.pool),
      layout_(options.layout),
      num_heads_(options.num_heads),
      gqa_ratio_(options.num_heads / options.layout.num_kv_heads()),
      head_dim_(options.layout.head_dim()),
      padded_head_dim_(PaddedHeadDim(head_dim_)),
      attn_scale_(options.attn_scale),
      max_rows_(options.max_rows) {}

Status CpuAttention::AllocateScratch() {
  const int64_t row_floats = kTileRows * padded_head_dim_;
  const int64_t block_floats = kBlockTokens * padded_head_dim_;
  const int64_t score_floats = kTileRows * kBlockTokens;
  const int64_t per_row = PaddedFloats(kTileRows);
  const int64_t thread_floats = 2 * row_floats + 2 * block_floats + score_floats + 4 * per_row;
  TIDAL_ASSIGN_OR_RETURN(scratch_memory_,
                         AlignedBuffer::Create(pool_->num_threads() * thread_floats *
                                               static_cast<int64_t>(sizeof(float))));
  float* next = reinterpret_cast<float*>(scratch_memory_.data());
  const auto take = [&next](int64_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  scratch_.resize(static_cast<size_t>(pool_->num_threads()));
  for (Scratch& scratch : scratch_) {
    scratch.packed = take(row_floats);
    scratch.keys = take(block_floats);
    scratch.values = take(block_floats);
    scratch.scores = take(score_floats);
    scratch.out = take(row_floats);
    scratch.alpha = take(per_row);
    scratch.state = {take(per_row), take(per_row)};
    scratch.visible = reinterpret_cast<int32_t*>(take(per_row));
  }
  return OkStatus();
}

Status CpuAttention::ReserveParts(int64_t num_parts) {
  if (num_parts <= max_parts_) return OkStatus();
  const int64_t max_parts = std::max(num_parts, 2 * max_parts_);
  TIDAL_ASSIGN_OR_RETURN(part_memory_, AlignedBuffer::Create(max_parts * (padded_head_dim_ + 2) *
                                                             static_cast<int64_t>(sizeof(float))));
  max_parts_ = max_parts;
  parts_ = reinterpret_cast<float*>(part_memory_.data());
  part_states_ = {parts_ + max_parts * padded_head_dim_,
                  parts_ + max_parts * (padded_head_dim_ + 1)};
  return OkStatus();
}

bool CpuAttention::IsDecode(const AttendSeq& sequence) const {
  return sequence.q_len <= kMaxDecodeTokens && sequence.q_len * gqa_ratio_ <= kMaxDecodeRows;
}

Status CpuAttention::Plan(std::span<const AttendSeq> sequences) {
  sequences_.assign(sequences.begin(), sequences.end());
  tiles_.clear();
  items_.clear();
  planned_bytes_ = 0;
  // The longest items first, so that no thread is left with one at the end; decode items are all
  // short and fill the gaps.
  int64_t num_parts = 0;
  for (int32_t s = 0; s < static_cast<int32_t>(sequences.size()); ++s) {
    const AttendSeq& sequence = sequences_[static_cast<size_t>(s)];
    TIDAL_CHECK(sequence.q_len >= 1 && sequence.q_len <= sequence.kv_len, "q_len is {}, kv_len {}",
                sequence.q_len, sequence.kv_len);
    TIDAL_CHECK(sequence.row_begin >= 0 && sequence.row_begin <= max_rows_ - sequence.q_len,
                "rows {} to {} of at most {}", sequence.row_begin,
                sequence.row_begin + sequence.q_len, max_rows_);
    if (!IsDecode(sequence)) num_parts = AddTiles(s, num_parts);
  }
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    if (a.cost != b.cost) return a.cost > b.cost;
    return a.tile != b.tile ? a.tile < b.tile : a.chunk < b.chunk;
  });
  for (int32_t s = 0; s < static_cast<int32_t>(sequences.size()); ++s) {
    if (IsDecode(sequences_[static_cast<size_t>(s)])) num_parts = AddTiles(s, num_parts);
  }
  const Status status = ReserveParts(num_parts);
  if (!status.ok()) items_.clear();
  return status;
}

int64_t CpuAttention::AddTiles(int32_t s, int64_t num_parts) {
  const AttendSeq& sequence = sequences_[static_cast<size_t>(s)];
  if (!sequence.sets.empty()) return AddSetTiles(s, num_parts);
  planned_bytes_ += layout_.ReadBytes(sequence.kv_len);
  const int32_t num_rows = sequence.q_len * gqa_ratio_;
  int32_t chunk_tokens = IsDecode(sequence) ? kDecodeChunkTokens : kTileChunkTokens;
  while (chunk_tokens < CeilDiv(sequence.kv_len, kMaxChunks)) chunk_tokens *= 2;
  if (num_rows > kMaxChunkedRows)
    chunk_tokens = static_cast<int32_t>(RoundUp(sequence.kv_len, kPageSize));
  for (int32_t kv_head = 0; kv_head < layout_.num_kv_heads(); ++kv_head) {
    for (int32_t row = 0; row < num_rows; row += kTileRows) {
      Tile tile = {};
      tile.sequence = s;
      tile.kv_head = kv_head;
      tile.first_row = row;
      tile.num_rows = std::min(kTileRows, num_rows - row);
      tile.num_tokens =
          sequence.kv_len - sequence.q_len + (row + tile.num_rows - 1) / gqa_ratio_ + 1;
      num_parts = AddTile(tile, chunk_tokens, num_parts);
    }
  }
  return num_parts;
}

int64_t CpuAttention::AddSetTiles(int32_t s, int64_t num_parts) {
  const AttendSeq& sequence = sequences_[static_cast<size_t>(s)];
  const auto num_sets = static_cast<int32_t>(sequence.sets.size());
  const int32_t num_kv_heads = layout_.num_kv_heads();
  TIDAL_CHECK(sequence.q_len == 1 && IsDecode(sequence),
              "sets for {} rows of {} heads to a KV head", sequence.q_len, gqa_ratio_);
  TIDAL_CHECK(num_sets == 1 || num_sets == num_kv_heads || num_sets == num_heads_,
              "{} sets for {} heads", num_sets, num_heads_);
  const bool per_head = num_sets == num_heads_ && gqa_ratio_ > 1 && num_sets > 1;
  const int32_t rows_per_tile = per_head ? 1 : gqa_ratio_;
  for (int32_t kv_head = 0; kv_head < num_kv_heads; ++kv_head) {
    for (int32_t row = 0; row < gqa_ratio_; row += rows_per_tile) {
      int32_t set = 0;
      if (per_head) {
        set = kv_head * gqa_ratio_ + row;
      } else if (num_sets > 1) {
        set = sequence.headmap != nullptr ? sequence.headmap[kv_head] : kv_head;
      }
      const SlotSet& chosen = sequence.sets[static_cast<size_t>(set)];
      TIDAL_CHECK(chosen.count >= 1, "set {} is empty", set);
      planned_bytes_ += layout_.ReadBytes(chosen.count) / num_kv_heads;
      Tile tile = {};
      tile.sequence = s;
      tile.kv_head = kv_head;
      tile.first_row = row;
      tile.num_rows = rows_per_tile;
      tile.slots = chosen.slots;
      tile.num_tokens = chosen.count;
      int32_t chunk_tokens = kDecodeChunkTokens;
      while (chunk_tokens < CeilDiv(chosen.count, kMaxChunks)) chunk_tokens *= 2;
      num_parts = AddTile(tile, chunk_tokens, num_parts);
    }
  }
  return num_parts;
}

int64_t CpuAttention::AddTile(Tile tile, int32_t chunk_tokens, int64_t num_parts) {
  tile.chunk_tokens = chunk_tokens;
  tile.num_chunks = static_cast<int32_t>(CeilDiv(tile.num_tokens, chunk_tokens));
  tile.chunks_left = tile.num_chunks;
  tile.parts_begin = num_parts;
  const auto t = static_cast<int32_t>(tiles_.size());
  tiles_.push_back(tile);
  for (int32_t chunk = 0; chunk < tile.num_chunks; ++chunk) {
    const int32_t tokens = std::min(tile.chunk_tokens, tile.num_tokens - chunk * tile.chunk_tokens);
    items_.push_back({.tile = t, .chunk = chunk, .cost = int64_t{tokens} * tile.num_rows});
  }
  return num_parts + (tile.num_chunks > 1 ? int64_t{tile.num_rows} * tile.num_chunks : 0);
}

void CpuAttention::Run(const std::byte* layer_base, const float* q, float* out) {
  pool_->ParallelFor(static_cast<int64_t>(items_.size()), 1,
                     [&](int64_t begin, int64_t end, int thread) {
                       for (int64_t i = begin; i < end; ++i)
                         RunItem(i, layer_base, q, out, scratch_[static_cast<size_t>(thread)]);
                     });
}

void CpuAttention::RunItem(int64_t index, const std::byte* layer_base, const float* q, float* out,
                           const Scratch& scratch) {
  const Item& item = items_[static_cast<size_t>(index)];
  Tile& tile = tiles_[static_cast<size_t>(item.tile)];
  const AttendSeq& sequence = sequences_[static_cast<size_t>(tile.sequence)];
  const int64_t token_stride = int64_t{num_heads_} * head_dim_;
  const QueryRows rows = {
      .q = q + sequence.row_begin * token_stride + int64_t{tile.kv_head} * gqa_ratio_ * head_dim_,
      .token_stride = token_stride,
      .gqa_ratio = gqa_ratio_,
      .head_dim = head_dim_,
      .first_row = tile.first_row,
      .num_rows = tile.num_rows};
  const auto pack = IsDecode(sequence) ? kernels_.pack_rows : kernels_.pack_tile;
  pack(rows, attn_scale_, scratch.packed);
  std::fill_n(scratch.state.max, tile.num_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.state.sum, tile.num_rows, 0.0f);
  std::fill_n(scratch.out, tile.num_rows * padded_head_dim_, 0.0f);

  const int32_t begin = item.chunk * tile.chunk_tokens;
  const int32_t end = std::min(begin + tile.chunk_tokens, tile.num_tokens);
  // A thread's items follow each other.
  const size_t next = static_cast<size_t>(index) + 1;
  const Item* after = next < items_.size() ? &items_[next] : nullptr;
  if (tile.slots != nullptr) {
    AttendSet(tile, begin, end, after, layer_base, scratch);
  } else {
    AttendBlocks(tile, begin, end, layer_base,
                 after != nullptr ? FirstPart(*after, layer_base) : nullptr, scratch);
  }

  if (tile.num_chunks == 1) {
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      kernels_.merge(scratch.out + r * padded_head_dim_,
                     {scratch.state.max + r, scratch.state.sum + r}, 1, head_dim_,
                     OutputRow(tile, r, out));
    }
    return;
  }
  KeepPart(tile, item.chunk, scratch);
  // Release our part, acquire those of the others.
  std::atomic_ref<int32_t> chunks_left(tile.chunks_left);
  if (chunks_left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  MergeTile(tile, out);
  chunks_left.store(tile.num_chunks, std::memory_order_relaxed);  // for the next layer
}

const uint8_t* CpuAttention::PartAt(const Tile& tile, int32_t pos,
                                    const std::byte* layer_base) const {
  const AttendSeq& sequence = sequences_[static_cast<size_t>(tile.sequence)];
  const int32_t page_id = sequence.page_table[pos / kPageSize];
  return reinterpret_cast<const uint8_t*>(layer_base + layout_.PartOffset(page_id, tile.kv_head));
}

const uint8_t* CpuAttention::FirstPart(const Item& item, const std::byte* layer_base) const {
  const Tile& tile = tiles_[static_cast<size_t>(item.tile)];
  if (tile.slots != nullptr) return nullptr;
  return PartAt(tile, item.chunk * tile.chunk_tokens, layer_base);
}

void CpuAttention::AttendBlocks(const Tile& tile, int32_t begin, int32_t end,
                                const std::byte* layer_base, const uint8_t* after,
                                const Scratch& scratch) const {
  const AttendSeq& sequence = sequences_[static_cast<size_t>(tile.sequence)];
  const int32_t first_seen = sequence.kv_len - sequence.q_len + 1;  // by query token 0
  const uint8_t* page = PartAt(tile, begin, layer_base);
  for (int32_t pos = begin; pos < end; pos += kBlockTokens) {
    const int32_t num_tokens = std::min(kBlockTokens, end - pos);
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      const int32_t seen = first_seen + (tile.first_row + r) / gqa_ratio_;
      scratch.visible[r] = std::clamp(seen - pos, 0, num_tokens);
    }
    const uint8_t* next_page =
        pos + kBlockTokens < end ? PartAt(tile, pos + kBlockTokens, layer_base) : after;
    const CacheBlock keys = {
        .rows = page + layout_.k().rows_offset,
        .scales = reinterpret_cast<const uint16_t*>(page + layout_.k().scales_offset),
        .num_tokens = num_tokens,
        .head_dim = head_dim_,
        .prefetch = page + layout_.v().rows_offset,
        .prefetch_bytes = num_tokens * layout_.v().row_bytes};
    const CacheBlock values = {
        .rows = page + layout_.v().rows_offset,
        .scales = reinterpret_cast<const uint16_t*>(page + layout_.v().scales_offset),
        .num_tokens = num_tokens,
        .head_dim = head_dim_,
        .prefetch = next_page + (next_page != nullptr ? layout_.k().rows_offset : 0),
        .prefetch_bytes = next_page != nullptr ? kBlockTokens * layout_.k().row_bytes : 0};
    AttendBlock(tile, keys, values, scratch);
    page = next_page;
  }
}

namespace {

// Where the rows of up to kBlockTokens tokens of a set lie.
struct RowPointers {
  const uint8_t* k_rows[kBlockTokens];
  const uint8_t* v_rows[kBlockTokens];
  const uint16_t* k_scales[kBlockTokens];
  const uint16_t* v_scales[kBlockTokens];
  int32_t count = 0;
};

void PointAt(const KvLayout& layout, int32_t kv_head, const std::byte* layer_base,
             const int32_t* slots, int32_t count, RowPointers* pointers) {
  const auto point = [](const KvHalf& half, const uint8_t* part, int32_t offset,
                        const uint8_t** row, const uint16_t** scales) {
    *row = part + half.rows_offset + offset * half.row_bytes;
    *scales =
        reinterpret_cast<const uint16_t*>(part + half.scales_offset) + offset * half.scales_per_row;
  };
  pointers->count = count;
  for (int32_t t = 0; t < count; ++t) {
    const auto* part = reinterpret_cast<const uint8_t*>(
        layer_base + layout.PartOffset(slots[t] / kPageSize, kv_head));
    const int32_t offset = slots[t] % kPageSize;
    point(layout.k(), part, offset, &pointers->k_rows[t], &pointers->k_scales[t]);
    point(layout.v(), part, offset, &pointers->v_rows[t], &pointers->v_scales[t]);
  }
}

void PrefetchRows(const uint8_t* const* rows, int32_t count, int64_t row_bytes) {
  for (int32_t t = 0; t < count; ++t) {
    for (int64_t line = 0; line < row_bytes; line += 64)
      __builtin_prefetch(rows[t] + line, 0, 2);  // as Prefetch of simd_portable.h
  }
}

}  // namespace

void CpuAttention::AttendSet(const Tile& tile, int32_t begin, int32_t end, const Item* after,
                             const std::byte* layer_base, const Scratch& scratch) const {
  const auto k_type = static_cast<size_t>(layout_.k().type);
  const auto v_type = static_cast<size_t>(layout_.v().type);
  RowPointers blocks[2];
  RowPointers* now = &blocks[0];
  RowPointers* ahead = &blocks[1];
  const auto point_at = [&](const Tile& from, int32_t pos, int32_t count, RowPointers* pointers) {
    PointAt(layout_, from.kv_head, layer_base, from.slots + pos, std::min(count, kBlockTokens),
            pointers);
  };
  // After the last block comes the first of the thread's next item.
  const Tile* next = after != nullptr ? &tiles_[static_cast<size_t>(after->tile)] : nullptr;
  if (next != nullptr && next->slots == nullptr) next = nullptr;
  point_at(tile, begin, end - begin, now);
  PrefetchRows(now->k_rows, std::min(now->count, kColdRows), layout_.k().row_bytes);
  for (int32_t pos = begin; pos < end; pos += kBlockTokens) {
    const int32_t left = end - pos - kBlockTokens;
    if (left > 0) {
      point_at(tile, pos + kBlockTokens, left, ahead);
    } else if (next != nullptr) {
      const int32_t first = after->chunk * next->chunk_tokens;
      point_at(*next, first, next->num_tokens - first, ahead);
    } else {
      ahead->count = 0;
    }
    std::fill_n(scratch.visible, tile.num_rows, now->count);
    // While keys are scored their values come, while these are mixed the next block's keys.
    const GatheredBlock keys = {.rows = now->k_rows,
                                .scales = now->k_scales,
                                .num_tokens = now->count,
                                .head_dim = head_dim_,
                                .prefetch = now->v_rows,
                                .num_prefetch = now->count,
                                .prefetch_bytes = layout_.v().row_bytes};
    const GatheredBlock values = {.rows = now->v_rows,
                                  .scales = now->v_scales,
                                  .num_tokens = now->count,
                                  .head_dim = head_dim_,
                                  .prefetch = ahead->k_rows,
                                  .num_prefetch = ahead->count,
                                  .prefetch_bytes = layout_.k().row_bytes};
    kernels_.score_gathered[k_type](keys, scratch.packed, tile.num_rows, scratch.scores);
    kernels_.softmax(scratch.scores, scratch.visible, tile.num_rows, now->count, scratch.state,
                     scratch.alpha);
    kernels_.mix_gathered[v_type](values, scratch.scores, scratch.alpha, tile.num_rows,
                                  scratch.out);
    std::swap(now, ahead);
  }
}

void CpuAttention::AttendBlock(const Tile& tile, const CacheBlock& keys, const CacheBlock& values,
                               const Scratch& scratch) const {
  const auto k_type = static_cast<size_t>(layout_.k().type);
  const auto v_type = static_cast<size_t>(layout_.v().type);
  const int32_t num_rows = tile.num_rows;
  const int32_t num_tokens = keys.num_tokens;
  const bool is_decode = IsDecode(sequences_[static_cast<size_t>(tile.sequence)]);
  if (is_decode) {
    kernels_.score_rows[k_type](keys, scratch.packed, num_rows, scratch.scores);
  } else {
    kernels_.load_keys[k_type](keys, scratch.keys);
    kernels_.score_tile(scratch.keys, scratch.packed, num_rows, num_tokens, head_dim_,
                        scratch.scores);
  }
  kernels_.softmax(scratch.scores, scratch.visible, num_rows, num_tokens, scratch.state,
                   scratch.alpha);
  if (is_decode) {
    kernels_.mix_rows[v_type](values, scratch.scores, scratch.alpha, num_rows, scratch.out);
  } else {
    kernels_.load_values[v_type](values, scratch.values);
    kernels_.mix_tile(scratch.values, scratch.scores, scratch.alpha, num_rows, num_tokens,
                      head_dim_, scratch.out);
  }
}

void CpuAttention::KeepPart(const Tile& tile, int32_t chunk, const Scratch& scratch) {
  for (int32_t r = 0; r < tile.num_rows; ++r) {
    const int64_t part = tile.parts_begin + int64_t{r} * tile.num_chunks + chunk;
    std::memcpy(parts_ + part * padded_head_dim_, scratch.out + r * padded_head_dim_,
                static_cast<size_t>(padded_head_dim_) * sizeof(float));
    part_states_.max[part] = scratch.state.max[r];
    part_states_.sum[part] = scratch.state.sum[r];
  }
}

void CpuAttention::MergeTile(const Tile& tile, float* out) const {
  for (int32_t r = 0; r < tile.num_rows; ++r) {
    const int64_t part = tile.parts_begin + int64_t{r} * tile.num_chunks;
    kernels_.merge(parts_ + part * padded_head_dim_,
                   {part_states_.max + part, part_states_.sum + part}, tile.num_chunks, head_dim_,
                   OutputRow(tile, r, out));
  }
}

float* CpuAttention::OutputRow(const Tile& tile, int32_t row, float* out) const {
  const AttendSeq& sequence = sequences_[static_cast<size_t>(tile.sequence)];
  const int32_t r = tile.first_row + row;
  const int64_t token = sequence.row_begin + r / gqa_ratio_;
  const int64_t head = int64_t{tile.kv_head} * gqa_ratio_ + r % gqa_ratio_;
  return out + (token * num_heads_ + head) * head_dim_;
}

}  // namespace tidal
