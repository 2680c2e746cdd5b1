#include "cpu/cpu_executor.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "cpu/cpu_activations.h"
#include "cpu/cpu_cache.h"
#include "cpu/cpu_weights.h"
#include "cpu/for_rows.h"
#include "cpu/isa.h"
#include "cpu/key_index.h"
#include "cpu/kv_layout.h"
#include "cpu/matmul.h"
#include "cpu/products.h"
#include "cpu/selection.h"
#include "cpu/step_append.h"
#include "cpu/step_attention.h"
#include "cpu/step_reports.h"

namespace tidal {
namespace {

// Logits of a row are vocab_size floats: 32 rows of a 150k vocabulary are 19 MB.
constexpr int32_t kMaxLogitRows = 32;

class CpuExecutor : public Executor {
 public:
  CpuExecutor(const Model& model, const CpuExecutorOptions& options, const KernelTable& kernels)
      : model_(model),
        config_(model.config()),
        options_(options),
        kernels_(kernels),
        pool_(options.num_threads),
        reports_(config_.num_layers, options.max_sequences) {}

  Status Allocate(const KvLayout& layout, const std::function<void(double)>& progress);

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

  std::span<const RowReport> reports() const override { return reports_.reports(); }
  std::span<const float> layer_masses(int32_t sequence) const override {
    return reports_.layer_masses(sequence);
  }
  Status PreparePlan(int32_t state, const AttentionPlan& plan) override {
    return selection_->Prepare(state, plan);
  }
  PageFormat page_format() const override { return cache_.page_format(); }
  Status ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                  std::span<std::byte> index) override {
    cache_.ReadPage(page, num_tokens, kv, index, &pool_);
    return OkStatus();
  }
  Status WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                   std::span<const std::byte> index) override {
    cache_.WritePage(page, num_tokens, kv, index, &pool_);
    return OkStatus();
  }
  int32_t max_logit_rows() const override { return kMaxLogitRows; }
  ExecutorMemory memory() const override;
  ExecutorProfile TakeProfile() override { return std::exchange(profile_, {}); }

 private:
  LayerRole RoleOf(int32_t layer, int32_t sequence) const {
    const AttentionPlan* plan = batch_->sequences[static_cast<size_t>(sequence)].plan;
    return plan == nullptr ? LayerRole::kFull : plan->Role(layer);
  }
  // Brings a row of the residual stream to its RMS norm, in row `to` of act_.normed, and quantises
  // that.
  void NormRow(int64_t row, const std::vector<float>& norm, int64_t to);

  const Model& model_;
  const ModelConfig& config_;
  const CpuExecutorOptions options_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  CpuStepAttention attention_;
  std::optional<CpuSelection> selection_;
  CpuProducts products_;
  CpuActivations act_;
  CpuWeights weights_;
  CpuCache cache_;
  std::optional<CpuStepAppend> append_;
  CpuStepReports reports_;

  Status status_;  // of the first operation of the step that failed
  const StepBatch* batch_ = nullptr;
  int64_t rows_ = 0;
  std::vector<int32_t> output_rows_;   // of candidates
  std::vector<Candidate> candidates_;  // scratch of ListBest
  ExecutorProfile profile_;
};

Status CpuExecutor::Allocate(const KvLayout& layout, const std::function<void(double)>& progress) {
  const int64_t max_rows = std::max(options_.max_batch_tokens, kMaxLogitRows);
  const int64_t widest =
      std::max({config_.model_dim, config_.num_heads * config_.head_dim, config_.ffn_dim});
  TIDAL_ASSIGN_OR_RETURN(attention_,
                         CpuStepAttention::Create({.kernels = &kernels_,
                                                   .pool = &pool_,
                                                   .layout = layout,
                                                   .num_heads = config_.num_heads,
                                                   .attn_scale = config_.attn_scale(),
                                                   .max_rows = options_.max_batch_tokens},
                                                  options_.max_sequences));
  selection_.emplace(CpuSelectionOptions{
      .kernels = &kernels_,
      .pool = &pool_,
      .layout = layout,
      .num_layers = config_.num_layers,
      .num_heads = config_.num_heads,
      .attn_scale = config_.attn_scale(),
      .precision = options_.precision,
      .max_sequences = options_.max_sequences,
      .max_tokens = MaxSequenceTokens(options_.max_context, options_.num_pages)});
  TIDAL_ASSIGN_OR_RETURN(products_, CpuProducts::Create({.kernels = &kernels_,
                                                         .pool = &pool_,
                                                         .precision = options_.precision,
                                                         .max_rows = max_rows,
                                                         .max_cols = widest,
                                                         .max_remainder_cols = config_.model_dim}));
  TIDAL_ASSIGN_OR_RETURN(act_, CpuActivations::Create(config_, max_rows));
  TIDAL_ASSIGN_OR_RETURN(weights_, PackWeights(model_, pool_, progress));
  TIDAL_ASSIGN_OR_RETURN(cache_, CpuCache::Create(kernels_, layout, config_, options_));
  append_.emplace(kernels_, &pool_, config_, options_, weights_);
  output_rows_.reserve(kMaxLogitRows);
  candidates_.reserve(2 * kMaxCandidates + kSelectSlack);
  return OkStatus();
}

ExecutorMemory CpuExecutor::memory() const {
  return {.weight_bytes = weights_.memory.bytes(),
          .kv_bytes = cache_.kv_bytes(),
          .kv_page_bytes = cache_.kv_page_bytes(),
          .index_bytes = cache_.index_bytes(),
          .index_page_bytes = cache_.index_page_bytes(),
          .set_bytes = selection_->bytes()};
}

Status CpuExecutor::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  rows_ = batch.num_rows();
  TIDAL_CHECK(rows_ >= 1 && rows_ <= options_.max_batch_tokens, "{} rows in a step", rows_);
  status_ = OkStatus();
  profile_.weight_bytes += weights_.memory.bytes();
  attention_.BeginStep(batch);
  reports_.BeginStep(batch);
  append_->BeginStep(batch, act_);
  for (const StepSequence& sequence : batch.sequences)
    if (sequence.forget_sets) selection_->Forget(sequence.state);
  return OkStatus();
}

void CpuExecutor::Embed() {
  const TensorView& embeddings = model_.weights().token_embd;
  const int64_t row_bytes = BytesOf(embeddings.dtype, embeddings.cols);
  ForRows(&pool_, rows_, [&](int64_t row) {
    const int64_t token = batch_->tokens[static_cast<size_t>(row)];
    DequantizeRow(embeddings.dtype, embeddings.data + token * row_bytes,
                  act_.x + row * config_.model_dim, embeddings.cols);
  });
}

void CpuExecutor::NormRow(int64_t row, const std::vector<float>& norm, int64_t to) {
  const int64_t model_dim = config_.model_dim;
  float* normed = act_.normed + to * model_dim;
  kernels_.elementwise.rms_norm(act_.x + row * model_dim, norm.data(), config_.rms_norm_eps,
                                model_dim, normed);
  products_.QuantizeRow(normed, model_dim, to);
}

void CpuExecutor::AttentionInputs(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t model_dim = config_.model_dim;
  ForRows(&pool_, rows_, [&](int64_t row) {
    NormRow(row, weights.attn_norm, row);
    products_.QuantizeRemainder(act_.normed + row * model_dim, model_dim, row);
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
  products_.Multiply(act_.normed, model_dim, rows_, jobs);
  // Queries and keys decide which tokens are attended, K and V are read again by every later token,
  // and these are the smallest matrices: they get the remainder of the 8-bit activations too, and
  // so 16 bits. On SmolLM2 that takes a fifth off the loss, and a third where a plan chooses few
  // tokens.
  products_.AddRemainder(model_dim, rows_, jobs);
  append_->Append(layer, weights, act_, cache_);
}

void CpuExecutor::Choose(int32_t layer, std::span<const int32_t> sequences) {
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  const LayerKeys keys = cache_.KeysOf(layer);
  for (const int32_t s : sequences) {
    const StepSequence& sequence = batch_->sequences[static_cast<size_t>(s)];
    const Stopwatch stopwatch(&profile_.role_ms[static_cast<size_t>(RoleOf(layer, s))]);
    const Choice choice =
        selection_->Choose(keys, sequence, act_.q + sequence.row_begin * q_dim, &profile_);
    attention_.UseSets(s, choice.sets);
    reports_.AddChoice(layer, s, choice.selected_mass);
    if (batch_->observer != nullptr) {
      batch_->observer->OnChosen(layer, s, choice.fresh, choice.selected_mass, choice.sets);
    }
  }
}

void CpuExecutor::Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) {
  const bool full = what == AttendTo::kEverything;
  const LayerRole role = RoleOf(layer, sequences.front());
  const Stopwatch role_stopwatch(&profile_.role_ms[static_cast<size_t>(role)]);
  const Stopwatch stopwatch(full ? &profile_.full_ms : &profile_.gather_ms);
  if (Status status = attention_.Attend(layer, what, sequences, cache_.LayerBase(layer), act_);
      !status.ok()) {
    if (status_.ok()) status_ = status;
    return;
  }
  (full ? profile_.full_bytes : profile_.gather_bytes) += attention_.bytes(what);
  for (const int32_t s : sequences)
    reports_.AddAttended(RoleOf(layer, s), s, attention_.TokensOf(s, what));
}

void CpuExecutor::AttentionOutput(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t q_dim = int64_t{config_.num_heads} * config_.head_dim;
  ForRows(&pool_, rows_,
          [&](int64_t row) { products_.QuantizeRow(act_.attended + row * q_dim, q_dim, row); });
  const MatMulJob job{.weight = &weights.attn_output,
                      .out = act_.x,
                      .out_stride = config_.model_dim,
                      .mode = OutputMode::kAdd};
  products_.Multiply(act_.attended, q_dim, rows_, {&job, 1});
}

void CpuExecutor::FeedForward(int32_t layer) {
  const CpuLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t model_dim = config_.model_dim;
  const int64_t ffn_dim = config_.ffn_dim;
  ForRows(&pool_, rows_, [&](int64_t row) { NormRow(row, weights.ffn_norm, row); });
  const MatMulJob gate_up[] = {
      {.weight = &weights.ffn_gate, .out = act_.gate, .out_stride = ffn_dim},
      {.weight = &weights.ffn_up, .out = act_.up, .out_stride = ffn_dim}};
  products_.Multiply(act_.normed, model_dim, rows_, gate_up);
  ForRows(&pool_, rows_, [&](int64_t row) {
    float* gate = act_.gate + row * ffn_dim;
    kernels_.elementwise.silu_mul(gate, act_.up + row * ffn_dim, ffn_dim, gate);
    products_.QuantizeRow(gate, ffn_dim, row);
  });
  const MatMulJob down{.weight = &weights.ffn_down,
                       .out = act_.x,
                       .out_stride = model_dim,
                       .mode = OutputMode::kAdd};
  products_.Multiply(act_.gate, ffn_dim, rows_, {&down, 1});
}

Status CpuExecutor::Logits(std::span<const int32_t> rows, float* logits) {
  TIDAL_RETURN_IF_ERROR(status_);
  const Stopwatch stopwatch(&profile_.logits_ms);
  const auto num_rows = static_cast<int64_t>(rows.size());
  TIDAL_CHECK(num_rows >= 1 && num_rows <= kMaxLogitRows, "logits of {} rows", num_rows);
  ForRows(&pool_, num_rows,
          [&](int64_t i) { NormRow(rows[static_cast<size_t>(i)], weights_.output_norm, i); });
  const MatMulJob job{.weight = &weights_.output, .out = logits, .out_stride = config_.vocab_size};
  products_.Multiply(act_.normed, config_.model_dim, num_rows, {&job, 1});
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
  auto executor = std::make_unique<CpuExecutor>(model, options, KernelsFor(isa));
  TIDAL_RETURN_IF_ERROR(executor->Allocate(layout, progress));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace tidal
