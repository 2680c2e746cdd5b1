#include "cpu/cpu_executor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/attention.h"
#include "cpu/cpu_activations.h"
#include "cpu/cpu_weights.h"
#include "cpu/elementwise.h"
#include "cpu/isa.h"
#include "cpu/k_channel_scales.h"
#include "cpu/key_index.h"
#include "cpu/kv_layout.h"
#include "cpu/matmul.h"
#include "cpu/page_copy.h"
#include "cpu/selection.h"

namespace tidal {
namespace {

// Logits of a row are vocab_size floats: 32 rows of a 150k vocabulary are 19 MB.
constexpr int32_t kMaxLogitRows = 32;
constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

class CpuExecutor : public Executor {
 public:
  CpuExecutor(const Model& model, const CpuExecutorOptions& options, const KernelTable& kernels,
              const KvLayout& layout)
      : model_(model),
        config_(model.config()),
        options_(options),
        kernels_(kernels),
        layout_(layout),
        pool_(options.num_threads),
        rope_(config_.rope_dim, static_cast<double>(config_.rope_theta), config_.rope_freq_divisors,
              static_cast<double>(config_.rope_attn_factor)) {}

  Status Allocate(const std::function<void(double)>& progress);
  Status AllocateIndex();

  Status BeginStep(const StepBatch& batch) override;
  void Embed() override;
  void AttentionInputs(int32_t layer) override;
  void Choose(int32_t layer, std::span<const int32_t> sequences) override;
  void Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) override;
  void AttentionOutput(int32_t layer) override;
  void FeedForward(int32_t layer) override;
  Status Logits(std::span<const int32_t> rows, float* logits) override;
  Status BestCandidates(std::span<const CandidateRow> rows, float* scratch,
                        CandidateList* lists) override;
  Status EndStep() override { return status_; }

  std::span<const RowReport> reports() const override { return reports_; }
  std::span<const float> layer_masses(int32_t sequence) const override {
    const auto num_layers = static_cast<size_t>(config_.num_layers);
    return std::span(layer_masses_).subspan(static_cast<size_t>(sequence) * num_layers, num_layers);
  }
  Status PreparePlan(int32_t state, const AttentionPlan& plan) override {
    return selection_->Prepare(state, plan);
  }
  PageFormat page_format() const override { return FormatOf(Pages()); }
  Status ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                  std::span<std::byte> index) override {
    CopyPageOut(Pages(), page, num_tokens, kv, index, &pool_);
    return OkStatus();
  }
  Status WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                   std::span<const std::byte> index) override {
    CopyPageIn(Pages(), page, num_tokens, kv, index, &pool_);
    return OkStatus();
  }
  int32_t max_logit_rows() const override { return kMaxLogitRows; }
  ExecutorMemory memory() const override;
  ExecutorProfile TakeProfile() override { return std::exchange(profile_, {}); }

 private:
  // Bytes of a layer's part of the KV pool.
  int64_t LayerBytes() const { return options_.num_pages * layout_.page_bytes(); }
  std::byte* LayerBase(int32_t layer) const { return kv_.data() + layer * LayerBytes(); }

  int64_t num_index_layers() const {
    return std::count_if(options_.index_layers.begin(), options_.index_layers.end(),
                         [](uint8_t has_index) { return has_index != 0; });
  }
  // What a layer's keys can be scored by.
  LayerKeys KeysOf(int32_t layer) const {
    return {.layer = layer,
            .kv_base = LayerBase(layer),
            .index_base = index_base_[static_cast<size_t>(layer)],
            .index = &index_layout_};
  }
  CpuPages Pages() const {
    return {.kernels = &kernels_,
            .layout = &layout_,
            .kv = kv_.data(),
            .num_layers = config_.num_layers,
            .num_pages = options_.num_pages,
            .index_layout = &index_layout_,
            .index_base = index_base_};
  }
  // Seals the pages that this step's rows have filled.
  void SealPages(int32_t layer);
  // Plans attention over everything, unless the last one was for the same sequences.
  Status PlanFull(std::span<const int32_t> sequences);
  Status PlanSets(int32_t layer, std::span<const int32_t> sequences);
  LayerRole RoleOf(int32_t layer, int32_t sequence) const {
    const AttentionPlan* plan = batch_->sequences[static_cast<size_t>(sequence)].plan;
    return plan == nullptr ? LayerRole::kFull : plan->Role(layer);
  }

  // body(row) for every row of the step. Rows are a microsecond or more each, so a region pays from
  // a few on.
  template <typename Body>
  void ForRows(int64_t rows, const Body& body) {
    constexpr int64_t kRowsPerPiece = 4;
    pool_.ParallelFor(rows, kRowsPerPiece, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }
  // Quantises a row of a product's input where the fast precision may want it.
  void QuantizeRow(const float* x, int64_t cols, int64_t row);
  // Products of the first `rows` rows of x [rows][cols], quantised before by QuantizeRow.
  void Multiply(const float* x, int64_t cols, int64_t rows, std::span<const MatMulJob> jobs);
  // What 8 bits left of a row of x, after QuantizeRow, in another 8.
  void QuantizeRemainder(const float* x, int64_t cols, int64_t row);
  void AddRemainder(int32_t layer);
  // Brings each of num_heads heads to the RMS norm that the model wants; no weights: none.
  void NormHeads(const std::vector<float>& norm, int32_t num_heads, float* heads) const;
  void RotateAndStore(int32_t layer);
  // The keys of a row divided, its queries multiplied by the layer's K channel scales.
  void ScaleChannels(const std::vector<float>& scales, float* q, float* k) const;

  const Model& model_;
  const ModelConfig& config_;
  const CpuExecutorOptions options_;
  const KernelTable& kernels_;
  const KvLayout layout_;
  ThreadPool pool_;
  RopeTable rope_;
  std::unique_ptr<CpuAttention> full_attention_;
  std::unique_ptr<CpuAttention> set_attention_;
  std::optional<CpuSelection> selection_;
  MatMulScratch scratch_;
  CpuWeights weights_;
  CpuActivations act_;
  ActivationBuffer blocks_;
  ActivationBuffer remainder_blocks_;  // of inputs of model_dim columns
  std::vector<std::vector<float>>
      k_scales_;  // [layer], empty unless the K cache is q8_0 and the model has a K bias
  AlignedBuffer kv_;
  KeyIndexLayout index_layout_;
  AlignedBuffer index_memory_;
  std::vector<std::byte*> index_base_;          // [layer], null: no index
  std::vector<const PageId*> row_page_table_;   // [rows]
  std::vector<AttendSeq> attend_;               // [sequences], of the plan being made
  std::vector<int32_t> planned_;                // sequences that full_attention_ is planned for
  std::vector<std::span<const SlotSet>> sets_;  // [sequences], the latest chosen
  struct Seal {
    const StepSequence* sequence;
    int32_t page;  // of its table
  };
  std::vector<Seal> seals_;  // pages that the step's rows fill
  Status status_;            // of the first operation of the step that failed
  const StepBatch* batch_ = nullptr;
  int64_t rows_ = 0;
  std::vector<RowReport> reports_;     // [sequences]
  std::vector<float> layer_masses_;    // [sequences][layers]
  std::vector<int32_t> output_rows_;   // of candidates
  std::vector<Candidate> candidates_;  // scratch of ListBest
  ExecutorProfile profile_;
};

Status CpuExecutor::Allocate(const std::function<void(double)>& progress) {
  const int64_t max_rows = std::max(options_.max_batch_tokens, kMaxLogitRows);
  const int64_t widest =
      std::max({config_.model_dim, config_.num_heads * config_.head_dim, config_.ffn_dim});
  const CpuAttentionOptions attention = {.kernels = &kernels_,
                                         .pool = &pool_,
                                         .layout = layout_,
                                         .num_heads = config_.num_heads,
                                         .attn_scale = config_.attn_scale(),
                                         .max_rows = options_.max_batch_tokens};
  TIDAL_ASSIGN_OR_RETURN(full_attention_, CpuAttention::Create(attention));
  TIDAL_ASSIGN_OR_RETURN(set_attention_, CpuAttention::Create(attention));
  selection_.emplace(CpuSelectionOptions{
      .kernels = &kernels_,
      .pool = &pool_,
      .layout = layout_,
      .num_layers = config_.num_layers,
      .num_heads = config_.num_heads,
      .attn_scale = config_.attn_scale(),
      .precision = options_.precision,
      .max_sequences = options_.max_sequences,
      .max_tokens = MaxSequenceTokens(options_.max_context, options_.num_pages)});
  TIDAL_ASSIGN_OR_RETURN(scratch_, MatMulScratch::Create(pool_.num_threads()));
  TIDAL_ASSIGN_OR_RETURN(blocks_, ActivationBuffer::Create(max_rows, widest));
  TIDAL_ASSIGN_OR_RETURN(remainder_blocks_, ActivationBuffer::Create(max_rows, config_.model_dim));
  TIDAL_ASSIGN_OR_RETURN(act_, CpuActivations::Create(config_, max_rows));
  TIDAL_ASSIGN_OR_RETURN(weights_, PackWeights(model_, pool_, progress));
  for (const CpuLayerWeights& layer : weights_.layers) {
    const bool needs_scales = options_.k_cache_type == CacheType::kQ8_0;
    k_scales_.push_back(needs_scales ? KChannelScales(config_, layer.attn_k_bias)
                                     : std::vector<float>());
  }
  TIDAL_ASSIGN_OR_RETURN(kv_, AlignedBuffer::Create(config_.num_layers * LayerBytes()));
  TIDAL_RETURN_IF_ERROR(AllocateIndex());
  row_page_table_.reserve(static_cast<size_t>(options_.max_batch_tokens));
  planned_.reserve(static_cast<size_t>(options_.max_sequences));
  sets_.reserve(static_cast<size_t>(options_.max_sequences));
  seals_.reserve(
      static_cast<size_t>(options_.max_sequences + options_.max_batch_tokens / kPageSize));
  attend_.reserve(static_cast<size_t>(options_.max_sequences));
  const auto max_sequences = static_cast<size_t>(options_.max_sequences);
  output_rows_.reserve(kMaxLogitRows);
  candidates_.reserve(2 * kMaxCandidates + kSelectSlack);
  reports_.reserve(max_sequences);
  layer_masses_.reserve(max_sequences * static_cast<size_t>(config_.num_layers));
  return OkStatus();
}

Status CpuExecutor::AllocateIndex() {
  index_base_.resize(static_cast<size_t>(config_.num_layers));
  if (num_index_layers() == 0) return OkStatus();
  TIDAL_CHECK(options_.index_bits == 4 || options_.index_bits == 2, "an index of {} bits",
              options_.index_bits);
  index_layout_ = KeyIndexLayout(config_.num_kv_heads, config_.head_dim, options_.index_bits);
  const int64_t layer_bytes = options_.num_pages * index_layout_.page_bytes();
  TIDAL_ASSIGN_OR_RETURN(index_memory_, AlignedBuffer::Create(num_index_layers() * layer_bytes));
  std::byte* next = index_memory_.data();
  for (size_t layer = 0; layer < index_base_.size(); ++layer) {
    if (options_.index_layers[layer] == 0) continue;
    index_base_[layer] = next;
    next += layer_bytes;
  }
  return OkStatus();
}

ExecutorMemory CpuExecutor::memory() const {
  return {.weight_bytes = weights_.memory.bytes(),
          .kv_bytes = kv_.bytes(),
          .kv_page_bytes = config_.num_layers * layout_.page_bytes(),
          .index_bytes = index_memory_.bytes(),
          .index_page_bytes = num_index_layers() * index_layout_.page_bytes(),
          .set_bytes = selection_->bytes()};
}

Status CpuExecutor::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  rows_ = batch.num_rows();
  TIDAL_CHECK(rows_ >= 1 && rows_ <= options_.max_batch_tokens, "{} rows in a step", rows_);
  status_ = OkStatus();
  row_page_table_.clear();
  planned_.clear();
  seals_.clear();
  profile_.weight_bytes += weights_.memory.bytes();
  reports_.assign(batch.sequences.size(), RowReport());
  layer_masses_.assign(batch.sequences.size() * static_cast<size_t>(config_.num_layers), kUnknown);
  sets_.assign(batch.sequences.size(), {});
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const StepSequence& sequence = batch.sequences[i];
    row_page_table_.insert(row_page_table_.end(), static_cast<size_t>(sequence.q_len),
                           sequence.page_table);
    if (sequence.forget_sets) selection_->Forget(sequence.state);
    if (sequence.plan != nullptr) reports_[i].selected_mass = kUnknown;
    for (int32_t page = (sequence.kv_len - sequence.q_len) / kPageSize;
         page < sequence.kv_len / kPageSize; ++page)
      seals_.push_back({&sequence, page});
  }
  const int64_t half = config_.rope_dim / 2;
  ForRows(rows_, [&](int64_t row) {
    rope_.Angles(batch.positions[static_cast<size_t>(row)], act_.cos + row * half,
                 act_.sin + row * half);
  });
  return OkStatus();
}

void CpuExecutor::Embed() {
  const TensorView& embeddings = model_.weights().token_embd;
  const int64_t row_bytes = BytesOf(embeddings.dtype, embeddings.cols);
  ForRows(rows_, [&](int64_t row) {
    const int64_t token = batch_->tokens[static_cast<size_t>(row)];
    DequantizeRow(embeddings.dtype, embeddings.data + token * row_bytes,
                  act_.x + row * config_.model_dim, embeddings.cols);
  });
}

void CpuExecutor::QuantizeRow(const float* x, int64_t cols, int64_t row) {
  // A product with such a number of columns has no quantised weights.
  if (options_.precision == Precision::kF32 || cols % kGroupCols != 0) return;
  kernels_.matmul.quantize_row(x, cols, blocks_.Row(row, cols));
}

void CpuExecutor::QuantizeRemainder(const float* x, int64_t cols, int64_t row) {
  if (options_.precision == Precision::kF32 || cols % kGroupCols != 0) return;
  const ActivationBlock* block = blocks_.Row(row, cols);
  ActivationBlock* remainder = remainder_blocks_.Row(row, cols);
  for (int64_t begin = 0; begin < cols; begin += kGroupCols, ++block, ++remainder) {
    float rest[kGroupCols];
    for (int64_t i = 0; i < kGroupCols; ++i)
      rest[i] = x[begin + i] - block->scale * static_cast<float>(block->codes[i]);
    kernels_.matmul.quantize_row(rest, kGroupCols, remainder);
  }
}

void CpuExecutor::Multiply(const float* x, int64_t cols, int64_t rows,
                           std::span<const MatMulJob> jobs) {
  const ActivationView view{
      .num_tokens = rows, .cols = cols, .blocks = blocks_.Row(0, cols), .x = x, .x_stride = cols};
  MatMul(kernels_, options_.precision, pool_, scratch_, view, jobs);
}

void CpuExecutor::AttentionInputs(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t model_dim = config_.model_dim;
  ForRows(rows_, [&](int64_t row) {
    float* normed = act_.normed + row * model_dim;
    kernels_.elementwise.rms_norm(act_.x + row * model_dim, weights.attn_norm.data(),
                                  config_.rms_norm_eps, model_dim, normed);
    QuantizeRow(normed, model_dim, row);
    QuantizeRemainder(normed, model_dim, row);
  });
  const auto bias = [](const std::vector<float>& values) {
    return values.empty() ? nullptr : values.data();
  };
  const MatMulJob jobs[] = {{.weight = &weights.attn_q,
                             .out = act_.q,
                             .out_stride = weights.attn_q.rows,
                             .bias = bias(weights.attn_q_bias)},
                            {.weight = &weights.attn_k,
                             .out = act_.k,
                             .out_stride = weights.attn_k.rows,
                             .bias = bias(weights.attn_k_bias)},
                            {.weight = &weights.attn_v,
                             .out = act_.v,
                             .out_stride = weights.attn_v.rows,
                             .bias = bias(weights.attn_v_bias)}};
  Multiply(act_.normed, model_dim, rows_, jobs);
  AddRemainder(layer);
  RotateAndStore(layer);
  SealPages(layer);
}

// Queries and keys decide which tokens are attended, K and V are read again by every later token,
// and these are the smallest matrices: they get the remainder of the 8-bit activations too, and so
// 16 bits. On SmolLM2 that takes a fifth off the loss, and a third where a plan chooses few tokens.
void CpuExecutor::AddRemainder(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  MatMulJob jobs[3];
  size_t num_jobs = 0;
  const auto add = [&](const PackedMatrix& weight, float* out) {
    if (!ReadsBlocks(weight.type, options_.precision)) return;
    jobs[num_jobs++] = {
        .weight = &weight, .out = out, .out_stride = weight.rows, .mode = OutputMode::kAdd};
  };
  add(weights.attn_q, act_.q);
  add(weights.attn_k, act_.k);
  add(weights.attn_v, act_.v);
  if (num_jobs == 0) return;
  const ActivationView view{.num_tokens = rows_,
                            .cols = config_.model_dim,
                            .blocks = remainder_blocks_.Row(0, config_.model_dim)};
  MatMul(kernels_, options_.precision, pool_, scratch_, view, {jobs, num_jobs});
}

void CpuExecutor::ScaleChannels(const std::vector<float>& scales, float* q, float* k) const {
  const int64_t group_dim = int64_t{config_.gqa_ratio()} * config_.head_dim;
  for (int64_t kv_head = 0; kv_head < config_.num_kv_heads; ++kv_head) {
    const float* scale = scales.data() + kv_head * config_.head_dim;
    for (int64_t i = 0; i < config_.head_dim; ++i) k[kv_head * config_.head_dim + i] /= scale[i];
    for (int64_t i = 0; i < group_dim; ++i)
      q[kv_head * group_dim + i] *= scale[i % config_.head_dim];
  }
}

void CpuExecutor::NormHeads(const std::vector<float>& norm, int32_t num_heads, float* heads) const {
  if (norm.empty()) return;
  for (int64_t head = 0; head < num_heads; ++head) {
    float* x = heads + head * config_.head_dim;
    kernels_.elementwise.rms_norm(x, norm.data(), config_.rms_norm_eps, config_.head_dim, x);
  }
}

void CpuExecutor::RotateAndStore(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t pairs = rope_.num_pairs();
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  const int64_t kv_dim = int64_t{config_.num_kv_heads} * config_.head_dim;
  const auto rotate = [&](int64_t row, int32_t num_heads, float* heads) {
    Rope(kernels_.elementwise, config_.rope_style, act_.cos + row * pairs, act_.sin + row * pairs,
         config_.rope_dim, config_.head_dim, num_heads, heads);
  };
  ForRows(rows_, [&](int64_t row) {
    NormHeads(weights.attn_q_norm, config_.num_heads, act_.q + row * q_dim);
    NormHeads(weights.attn_k_norm, config_.num_kv_heads, act_.k + row * kv_dim);
    rotate(row, config_.num_heads, act_.q + row * q_dim);
    rotate(row, config_.num_kv_heads, act_.k + row * kv_dim);
    const std::vector<float>& scales = k_scales_[static_cast<size_t>(layer)];
    if (!scales.empty()) ScaleChannels(scales, act_.q + row * q_dim, act_.k + row * kv_dim);
    const int32_t pos = batch_->positions[static_cast<size_t>(row)];
    const PageId page = row_page_table_[static_cast<size_t>(row)][pos / kPageSize];
    StoreKv(kernels_.elementwise, layout_, page, pos % kPageSize, act_.k + row * kv_dim,
            act_.v + row * kv_dim, LayerBase(layer));
  });
}

void CpuExecutor::SealPages(int32_t layer) {
  if (index_base_[static_cast<size_t>(layer)] == nullptr || seals_.empty()) return;
  const CpuPages pages = Pages();
  const int64_t num_kv_heads = config_.num_kv_heads;
  const auto num_items = static_cast<int64_t>(seals_.size()) * num_kv_heads;
  pool_.ParallelFor(num_items, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const Seal& full = seals_[static_cast<size_t>(item / num_kv_heads)];
      SealPage(pages, layer, full.sequence->page_table[full.page],
               static_cast<int32_t>(item % num_kv_heads));
    }
  });
}

void CpuExecutor::Choose(int32_t layer, std::span<const int32_t> sequences) {
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  const LayerKeys keys = KeysOf(layer);
  for (const int32_t s : sequences) {
    const auto i = static_cast<size_t>(s);
    const StepSequence& sequence = batch_->sequences[i];
    const Stopwatch stopwatch(&profile_.role_ms[static_cast<size_t>(RoleOf(layer, s))]);
    const Choice choice =
        selection_->Choose(keys, sequence, act_.q + sequence.row_begin * q_dim, &profile_);
    sets_[i] = choice.sets;
    float& mass = reports_[i].selected_mass;
    if (std::isnan(mass) || choice.selected_mass < mass) mass = choice.selected_mass;
    layer_masses_[i * static_cast<size_t>(config_.num_layers) + static_cast<size_t>(layer)] =
        choice.selected_mass;
    if (batch_->observer != nullptr) {
      batch_->observer->OnChosen(layer, s, choice.fresh, choice.selected_mass, choice.sets);
    }
  }
}

Status CpuExecutor::PlanFull(std::span<const int32_t> sequences) {
  if (std::equal(sequences.begin(), sequences.end(), planned_.begin(), planned_.end()))
    return OkStatus();
  attend_.clear();
  for (const int32_t s : sequences) {
    const StepSequence& sequence = batch_->sequences[static_cast<size_t>(s)];
    attend_.push_back({.row_begin = sequence.row_begin,
                       .q_len = sequence.q_len,
                       .kv_len = sequence.kv_len,
                       .page_table = sequence.page_table});
  }
  planned_.assign(sequences.begin(), sequences.end());
  return full_attention_->Plan(attend_);
}

Status CpuExecutor::PlanSets(int32_t layer, std::span<const int32_t> sequences) {
  attend_.clear();
  for (const int32_t s : sequences) {
    const StepSequence& sequence = batch_->sequences[static_cast<size_t>(s)];
    const auto& headmaps = sequence.plan->headmap;
    const auto l = static_cast<size_t>(layer);
    const bool is_mapped = l < headmaps.size() && !headmaps[l].empty();
    attend_.push_back({.row_begin = sequence.row_begin,
                       .q_len = sequence.q_len,
                       .kv_len = sequence.kv_len,
                       .page_table = sequence.page_table,
                       .sets = sets_[static_cast<size_t>(s)],
                       .headmap = is_mapped ? headmaps[l].data() : nullptr});
  }
  return set_attention_->Plan(attend_);
}

void CpuExecutor::Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) {
  const bool full = what == AttendTo::kEverything;
  const LayerRole role = RoleOf(layer, sequences.front());
  const Stopwatch role_stopwatch(&profile_.role_ms[static_cast<size_t>(role)]);
  const Stopwatch stopwatch(full ? &profile_.full_ms : &profile_.gather_ms);
  if (Status status = full ? PlanFull(sequences) : PlanSets(layer, sequences); !status.ok()) {
    if (status_.ok()) status_ = status;
    return;
  }
  CpuAttention& attention = full ? *full_attention_ : *set_attention_;
  attention.Run(LayerBase(layer), act_.q, act_.attended);
  (full ? profile_.full_bytes : profile_.gather_bytes) += attention.planned_bytes();
  for (const int32_t s : sequences) {
    const auto i = static_cast<size_t>(s);
    const auto r = static_cast<size_t>(RoleOf(layer, s));
    double attended = batch_->sequences[i].kv_len;
    if (!full) {
      attended = 0;
      for (const SlotSet& set : sets_[i]) attended += set.count;
      attended /= static_cast<double>(sets_[i].size());
    }
    reports_[i].tokens_attended[r] += attended;
    ++reports_[i].layers[r];
  }
}

void CpuExecutor::AttentionOutput(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  ForRows(rows_, [&](int64_t row) { QuantizeRow(act_.attended + row * q_dim, q_dim, row); });
  const MatMulJob job{.weight = &weights.attn_output,
                      .out = act_.x,
                      .out_stride = config_.model_dim,
                      .mode = OutputMode::kAdd};
  Multiply(act_.attended, q_dim, rows_, {&job, 1});
}

void CpuExecutor::FeedForward(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t model_dim = config_.model_dim;
  const int64_t ffn_dim = config_.ffn_dim;
  ForRows(rows_, [&](int64_t row) {
    float* normed = act_.normed + row * model_dim;
    kernels_.elementwise.rms_norm(act_.x + row * model_dim, weights.ffn_norm.data(),
                                  config_.rms_norm_eps, model_dim, normed);
    QuantizeRow(normed, model_dim, row);
  });
  const MatMulJob gate_up[] = {
      {.weight = &weights.ffn_gate, .out = act_.gate, .out_stride = ffn_dim},
      {.weight = &weights.ffn_up, .out = act_.up, .out_stride = ffn_dim}};
  Multiply(act_.normed, model_dim, rows_, gate_up);
  ForRows(rows_, [&](int64_t row) {
    float* gate = act_.gate + row * ffn_dim;
    kernels_.elementwise.silu_mul(gate, act_.up + row * ffn_dim, ffn_dim, gate);
    QuantizeRow(gate, ffn_dim, row);
  });
  const MatMulJob down{.weight = &weights.ffn_down,
                       .out = act_.x,
                       .out_stride = model_dim,
                       .mode = OutputMode::kAdd};
  Multiply(act_.gate, ffn_dim, rows_, {&down, 1});
}

Status CpuExecutor::Logits(std::span<const int32_t> rows, float* logits) {
  TIDAL_RETURN_IF_ERROR(status_);
  const Stopwatch stopwatch(&profile_.logits_ms);
  const auto num_rows = static_cast<int64_t>(rows.size());
  TIDAL_CHECK(num_rows >= 1 && num_rows <= kMaxLogitRows, "logits of {} rows", num_rows);
  const int64_t model_dim = config_.model_dim;
  ForRows(num_rows, [&](int64_t i) {
    float* normed = act_.normed + i * model_dim;
    kernels_.elementwise.rms_norm(act_.x + rows[static_cast<size_t>(i)] * model_dim,
                                  weights_.output_norm.data(), config_.rms_norm_eps, model_dim,
                                  normed);
    QuantizeRow(normed, model_dim, i);
  });
  const MatMulJob job{.weight = &weights_.output, .out = logits, .out_stride = config_.vocab_size};
  Multiply(act_.normed, model_dim, num_rows, {&job, 1});
  return OkStatus();
}

Status CpuExecutor::BestCandidates(std::span<const CandidateRow> rows, float* scratch,
                                   CandidateList* lists) {
  output_rows_.clear();
  for (const CandidateRow& row : rows) output_rows_.push_back(row.row);
  TIDAL_RETURN_IF_ERROR(Logits(output_rows_, scratch));
  const auto vocab_size = static_cast<size_t>(config_.vocab_size);
  for (size_t i = 0; i < rows.size(); ++i)
    ListBest({scratch + i * vocab_size, vocab_size}, rows[i].count, rows[i].wants_softmax,
             &candidates_, &lists[i]);
  return OkStatus();
}

}  // namespace

Result<int64_t> CpuKvPageBytes(const ModelConfig& config, CacheType k_cache_type,
                               CacheType v_cache_type) {
  TIDAL_ASSIGN_OR_RETURN(
      const KvLayout layout,
      KvLayout::Create(config.num_kv_heads, config.head_dim, k_cache_type, v_cache_type));
  return config.num_layers * layout.page_bytes();
}

int64_t CpuIndexPageBytes(const ModelConfig& config, int32_t num_index_layers, int32_t index_bits) {
  return num_index_layers *
         KeyIndexLayout(config.num_kv_heads, config.head_dim, index_bits).page_bytes();
}

Result<std::unique_ptr<Executor>> CreateCpuExecutor(const Model& model,
                                                    const CpuExecutorOptions& options,
                                                    const std::function<void(double)>& progress) {
  TIDAL_ASSIGN_OR_RETURN(const Isa isa, ResolveIsa(options.isa));
  TIDAL_ASSIGN_OR_RETURN(const KvLayout layout,
                         KvLayout::Create(model.config().num_kv_heads, model.config().head_dim,
                                          options.k_cache_type, options.v_cache_type));
  auto executor = std::make_unique<CpuExecutor>(model, options, KernelsFor(isa), layout);
  TIDAL_RETURN_IF_ERROR(executor->Allocate(progress));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace tidal
