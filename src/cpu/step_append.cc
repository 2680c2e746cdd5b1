#include "cpu/step_append.h"

#include "cpu/for_rows.h"
#include "cpu/k_channel_scales.h"
#include "cpu/page_copy.h"

namespace tidal {

CpuStepAppend::CpuStepAppend(const KernelTable& kernels, ThreadPool* pool,
                             const ModelConfig& config, const CpuExecutorOptions& options,
                             const CpuWeights& weights)
    : kernels_(kernels),
      pool_(pool),
      config_(config),
      rope_(config.rope_dim, static_cast<double>(config.rope_theta), config.rope_freq_divisors,
            static_cast<double>(config.rope_attn_factor)) {
  for (const CpuLayerWeights& layer : weights.layers) {
    const bool needs_scales = options.k_cache_type == CacheType::kQ8_0;
    k_scales_.push_back(needs_scales ? KChannelScales(config, layer.attn_k_bias)
                                     : std::vector<float>());
  }
  row_page_table_.reserve(static_cast<size_t>(options.max_batch_tokens));
  seals_.reserve(static_cast<size_t>(options.max_sequences + options.max_batch_tokens / kPageSize));
}

void CpuStepAppend::BeginStep(const StepBatch& batch, const CpuActivations& activations) {
  batch_ = &batch;
  row_page_table_.clear();
  seals_.clear();
  for (const StepSequence& sequence : batch.sequences) {
    row_page_table_.insert(row_page_table_.end(), static_cast<size_t>(sequence.q_len),
                           sequence.page_table);
    for (int32_t page = (sequence.kv_len - sequence.q_len) / kPageSize;
         page < sequence.kv_len / kPageSize; ++page)
      seals_.push_back({&sequence, page});
  }
  const int64_t pairs = rope_.num_pairs();
  ForRows(pool_, batch.num_rows(), [&](int64_t row) {
    rope_.Angles(batch.positions[static_cast<size_t>(row)], activations.cos + row * pairs,
                 activations.sin + row * pairs);
  });
}

void CpuStepAppend::NormHeads(const std::vector<float>& norm, int32_t num_heads,
                              float* heads) const {
  if (norm.empty()) return;
  for (int64_t head = 0; head < num_heads; ++head) {
    float* x = heads + head * config_.head_dim;
    kernels_.elementwise.rms_norm(x, norm.data(), config_.rms_norm_eps, config_.head_dim, x);
  }
}

void CpuStepAppend::ScaleChannels(const std::vector<float>& scales, float* q, float* k) const {
  const int64_t group_dim = int64_t{config_.gqa_ratio()} * config_.head_dim;
  for (int64_t kv_head = 0; kv_head < config_.num_kv_heads; ++kv_head) {
    const float* scale = scales.data() + kv_head * config_.head_dim;
    for (int64_t i = 0; i < config_.head_dim; ++i) k[kv_head * config_.head_dim + i] /= scale[i];
    for (int64_t i = 0; i < group_dim; ++i)
      q[kv_head * group_dim + i] *= scale[i % config_.head_dim];
  }
}

void CpuStepAppend::Append(int32_t layer, const CpuLayerWeights& weights,
                           const CpuActivations& activations, const CpuCache& cache) const {
  const int64_t pairs = rope_.num_pairs();
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  const int64_t kv_dim = int64_t{config_.num_kv_heads} * config_.head_dim;
  const std::vector<float>& scales = k_scales_[static_cast<size_t>(layer)];
  std::byte* const layer_base = cache.LayerBase(layer);
  const auto rotate = [&](int64_t row, int32_t num_heads, float* heads) {
    Rope(kernels_.elementwise, config_.rope_style, activations.cos + row * pairs,
         activations.sin + row * pairs, config_.rope_dim, config_.head_dim, num_heads, heads);
  };
  ForRows(pool_, batch_->num_rows(), [&](int64_t row) {
    float* q = activations.q + row * q_dim;
    float* k = activations.k + row * kv_dim;
    NormHeads(weights.attn_q_norm, config_.num_heads, q);
    NormHeads(weights.attn_k_norm, config_.num_kv_heads, k);
    rotate(row, config_.num_heads, q);
    rotate(row, config_.num_kv_heads, k);
    if (!scales.empty()) ScaleChannels(scales, q, k);
    const int32_t pos = batch_->positions[static_cast<size_t>(row)];
    const PageId page = row_page_table_[static_cast<size_t>(row)][pos / kPageSize];
    StoreKv(kernels_.elementwise, cache.layout(), page, pos % kPageSize, k,
            activations.v + row * kv_dim, layer_base);
  });
  SealPages(layer, cache);
}

void CpuStepAppend::SealPages(int32_t layer, const CpuCache& cache) const {
  if (!cache.HasIndex(layer) || seals_.empty()) return;
  const CpuPages pages = cache.pages();
  const int64_t num_kv_heads = config_.num_kv_heads;
  const auto num_items = static_cast<int64_t>(seals_.size()) * num_kv_heads;
  pool_->ParallelFor(num_items, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const Seal& full = seals_[static_cast<size_t>(item / num_kv_heads)];
      SealPage(pages, layer, full.sequence->page_table[full.page],
               static_cast<int32_t>(item % num_kv_heads));
    }
  });
}

}  // namespace tidal
