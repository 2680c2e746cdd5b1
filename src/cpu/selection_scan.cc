// Values for every token (or page) that a set can be chosen from: scan, softmax, merge.
#include <algorithm>

#include "base/math.h"
#include "base/stopwatch.h"
#include "cpu/selection.h"

namespace tidal {
namespace {

// Pages of one work item of a scan: some ten microseconds, so that threads end together.
constexpr int32_t kScanPages = 8;
constexpr int32_t kMergePages = 16;
// How far before a page is scanned its index is asked for: at one page, half a microsecond, part of
// it was still on its way.
constexpr int32_t kPagesAhead = 2;

void PrefetchFloats(const float* p, int32_t count) {
  for (int32_t i = 0; i < count; i += 16) __builtin_prefetch(p + i);
}

}  // namespace

void CpuSelection::PackQueries(const Job& job) {
  for (int32_t head = 0; head < num_heads_; ++head) {
    float* row = rows_ + head * padded_head_dim_;
    for (int32_t d = 0; d < head_dim_; ++d) row[d] = job.q[head * head_dim_ + d] * attn_scale_;
  }
  for (int32_t kv_head = 0; kv_head < layout_.num_kv_heads(); ++kv_head) {
    const QueryRows rows = {.q = job.q + int64_t{kv_head} * gqa_ratio_ * head_dim_,
                            .token_stride = int64_t{num_heads_} * head_dim_,
                            .gqa_ratio = gqa_ratio_,
                            .head_dim = head_dim_,
                            .first_row = 0,
                            .num_rows = gqa_ratio_};
    kernels_.attention.pack_rows(rows, attn_scale_,
                                 packed_ + int64_t{kv_head} * gqa_ratio_ * padded_head_dim_);
  }
}

void CpuSelection::ScoreTokens(const Job& job, ExecutorProfile* profile) {
  const Stopwatch stopwatch(&profile->scan_ms);
  PackQueries(job);
  const int32_t num_kv_heads = layout_.num_kv_heads();
  const int64_t pieces = CeilDiv(job.num_pages, kScanPages);
  pool_->ParallelFor(pieces * num_kv_heads, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t item = begin; item < end; ++item) {
      const auto first = static_cast<int32_t>(item % pieces) * kScanPages;
      ScanPages(job, static_cast<int32_t>(item / pieces), first,
                std::min(first + kScanPages, job.num_pages), thread);
    }
  });
  const int64_t sealed = UsesIndex(job) ? job.kv_len / kPageSize : 0;
  const int64_t index_bytes = sealed > 0 ? sealed * job.keys->index->read_bytes() : 0;
  profile->scan_bytes +=
      num_kv_heads * (index_bytes + (job.kv_len - sealed * kPageSize) * KeyBytes());
}

int64_t CpuSelection::KeyBytes() const {
  return layout_.k().row_bytes + 2 * layout_.k().scales_per_row;
}

bool CpuSelection::UsesIndex(const Job& job) const {
  return IndexBits(job.plan->scorer) != 0 && job.keys->index_base != nullptr;
}

// Scores of one page and KV head, [gqa_ratio][kPageSize].
void CpuSelection::ScanPage(const Job& job, int32_t kv_head, int32_t page, float* scores) {
  const int32_t num_tokens = std::min(job.kv_len - page * kPageSize, kPageSize);
  const int32_t* page_table = job.sequence->page_table;
  const int32_t next = std::min(page + kPagesAhead, job.num_pages - 1);
  if (num_tokens == kPageSize && UsesIndex(job)) {
    const KeyIndexLayout& index = *job.keys->index;
    const IndexPage block = index.At(job.keys->index_base, page_table[page], kv_head);
    const IndexPage ahead = index.At(job.keys->index_base, page_table[next], kv_head);
    const ScanRows rows = {rows_ + int64_t{kv_head} * gqa_ratio_ * padded_head_dim_, gqa_ratio_};
    const auto scan = precision_ == Precision::kF32 ? kernels_.selection.scan_page_f32
                                                    : kernels_.selection.scan_page;
    scan(block, index.bits(), rows, reinterpret_cast<const uint8_t*>(ahead.minima),
         index.read_bytes(), scores);
    return;
  }
  const auto* part = reinterpret_cast<const uint8_t*>(
      job.keys->kv_base + layout_.PartOffset(page_table[page], kv_head));
  const auto* ahead = reinterpret_cast<const uint8_t*>(
      job.keys->kv_base + layout_.PartOffset(page_table[next], kv_head));
  const CacheBlock keys = {
      .rows = part + layout_.k().rows_offset,
      .scales = reinterpret_cast<const uint16_t*>(part + layout_.k().scales_offset),
      .num_tokens = num_tokens,
      .head_dim = head_dim_,
      .prefetch = ahead + layout_.k().rows_offset,
      .prefetch_bytes = kPageSize * layout_.k().row_bytes};
  kernels_.attention.score_rows[static_cast<size_t>(layout_.k().type)](
      keys, packed_ + int64_t{kv_head} * gqa_ratio_ * padded_head_dim_, gqa_ratio_, scores);
}

void CpuSelection::ScanPages(const Job& job, int32_t kv_head, int32_t page_begin, int32_t page_end,
                             int thread) {
  float* scratch = scratch_[static_cast<size_t>(thread)].probs.data();
  const int32_t head = kv_head * gqa_ratio_;
  for (int32_t page = page_begin; page < page_end; ++page) {
    // What stays of a page is written once, to lines asked for a page before: weights have passed
    // through the caches since they were last used.
    float* kept = ScoresOf(page, head);
    float* scores = job.keeps_scores ? kept : scratch;
    float* probs = job.keeps_scores ? scratch : kept;
    PrefetchFloats(ScoresOf(std::min(page + 1, page_end - 1), head), gqa_ratio_ * kPageSize);
    ScanPage(job, kv_head, page, scores);
    const int32_t num_tokens = std::min(job.kv_len - page * kPageSize, kPageSize);
    const int64_t stat = int64_t{page} * num_heads_ + head;
    kernels_.selection.page_softmax(scores, gqa_ratio_, num_tokens, page_max_ + stat,
                                    page_sum_ + stat, probs);
  }
}

void CpuSelection::MergeHeads(const Job& job) {
  kernels_.selection.page_factors(page_max_, page_sum_, job.num_pages, num_heads_, factors_,
                                  head_max_, head_sum_);
  const bool per_head = job.plan->merge == Merge::kRank;
  const int64_t rows = per_head ? num_heads_ : job.num_sets;
  const int64_t pieces = CeilDiv(job.num_pages, kMergePages);
  pool_->ParallelFor(pieces * rows, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t item = begin; item < end; ++item) {
      const auto row = static_cast<int32_t>(item / pieces);
      const auto first = static_cast<int32_t>(item % pieces) * kMergePages;
      const int32_t last = std::min(first + kMergePages, job.num_pages);
      for (int32_t page = first; page < last; ++page) MergePage(job, row, page);
      if (!job.counts_bins) continue;
      const ValueRange range = {ValuesOf(row), std::max(first * kPageSize, job.always_begin),
                                std::min(last * kPageSize, job.always_end)};
      CountIntoBins(range, scratch_[static_cast<size_t>(thread)].top_k.bins.data());
    }
  });
  if (!job.counts_bins) return;
  // The only set is taken by the calling thread, which is thread 0.
  std::vector<uint32_t>& bins = scratch_[0].top_k.bins;
  for (size_t thread = 1; thread < scratch_.size(); ++thread) {
    std::vector<uint32_t>& others = scratch_[thread].top_k.bins;
    for (size_t i = 0; i < bins.size(); ++i) bins[i] += others[i];
    std::fill(others.begin(), others.end(), 0);
  }
}

void CpuSelection::MergePage(const Job& job, int32_t row, int32_t page) {
  float* values = ValuesOf(row) + int64_t{page} * kPageSize;
  if (job.keeps_scores) {  // a row per head
    std::copy_n(ScoresOf(page, row), kPageSize, values);
    return;
  }
  const int32_t head = row * job.heads_per_set;
  const float* factors = factors_ + int64_t{page} * num_heads_ + head;
  const auto merge =
      job.plan->merge == Merge::kMax ? kernels_.selection.merge_max : kernels_.selection.merge_sum;
  merge(ScoresOf(page, head), factors, job.heads_per_set, values);
}

// One value per unit of choice: its bound, the largest over the heads of a scope.
void CpuSelection::ScorePageBounds(const Job& job, ExecutorProfile* profile) {
  const Stopwatch stopwatch(&profile->scan_ms);
  PackQueries(job);
  const int32_t num_kv_heads = layout_.num_kv_heads();
  constexpr int64_t kUnitsPerItem = 16;
  pool_->ParallelFor(int64_t{job.num_units} * num_kv_heads, kUnitsPerItem,
                     [&](int64_t begin, int64_t end, int thread) {
                       for (int64_t item = begin; item < end; ++item) {
                         ScoreUnit(job, static_cast<int32_t>(item / job.num_units),
                                   static_cast<int32_t>(item % job.num_units), thread);
                       }
                     });
  for (int32_t set = 0; set < job.num_sets; ++set) {
    float* units = job.plan->page > 1 ? UnitValuesOf(job, set) : ValuesOf(set);
    for (int32_t unit = 0; unit < job.num_units; ++unit) {
      const float* bounds = scores_ + int64_t{unit} * num_heads_ + set * job.heads_per_set;
      units[unit] = *std::max_element(bounds, bounds + job.heads_per_set);
    }
  }
  profile->scan_bytes += num_kv_heads * job.kv_len * KeyBytes();
}

void CpuSelection::ScoreUnit(const Job& job, int32_t kv_head, int32_t unit, int thread) {
  float* memory = scratch_[static_cast<size_t>(thread)].bounds.data();
  const BoundSums sums = {memory, memory + padded_head_dim_, memory + 2 * padded_head_dim_,
                          memory + 3 * padded_head_dim_};
  const int32_t first = unit * job.plan->page;
  const int32_t end = std::min(first + job.plan->page, job.kv_len);
  for (int32_t pos = first; pos < end;) {
    const int32_t offset = pos % kPageSize;
    const int32_t count = std::min(end - pos, kPageSize - offset);
    const int32_t page_id = job.sequence->page_table[pos / kPageSize];
    const auto* part =
        reinterpret_cast<const uint8_t*>(job.keys->kv_base + layout_.PartOffset(page_id, kv_head));
    const CacheBlock keys = {
        .rows = part + layout_.k().rows_offset,
        .scales = reinterpret_cast<const uint16_t*>(part + layout_.k().scales_offset),
        .num_tokens = offset + count,
        .head_dim = head_dim_,
        .prefetch = nullptr,
        .prefetch_bytes = 0};
    kernels_.selection.add_bounds[static_cast<size_t>(layout_.k().type)](keys, offset, count,
                                                                         pos == first, sums);
    pos += count;
  }
  const ScanRows rows = {rows_ + int64_t{kv_head} * gqa_ratio_ * padded_head_dim_, gqa_ratio_};
  float* bounds = scores_ + int64_t{unit} * num_heads_ + kv_head * gqa_ratio_;
  if (job.plan->scorer == Scorer::kPagesMinMax) {
    kernels_.selection.score_minmax(sums, head_dim_, rows, bounds);
  } else {
    kernels_.selection.score_meanstd(sums, end - first, head_dim_, rows, bounds);
  }
}

}  // namespace tidal
