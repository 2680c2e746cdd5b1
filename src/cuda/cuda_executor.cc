#include "cuda/cuda_executor.h"

#include <algorithm>
#include <cuda_runtime_api.h>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "cuda/cuda_activations.h"
#include "cuda/cuda_attention.h"
#include "cuda/cuda_cache.h"
#include "cuda/cuda_limits.h"
#include "cuda/cuda_status.h"
#include "cuda/cuda_weights.h"
#include "cuda/device_buffer.h"
#include "cuda/key_index.h"
#include "cuda/products.h"
#include "cuda/rows.h"
#include "cuda/selection.h"
#include "cuda/step_graphs.h"
#include "cuda/step_output.h"
#include "cuda/step_reports.h"
#include "cuda/step_tables.h"
#include "cuda/step_timer.h"
#include "cuda/step_upload.h"

namespace tidal {
namespace {

// Steps of more rows go through cuBLAS, which is not captured.
constexpr int32_t kMaxGraphRows = 8;

class CudaExecutor : public Executor {
 public:
  CudaExecutor(const Model& model, const CudaExecutorOptions& options)
      : config_(model.config()), options_(options) {}
  ~CudaExecutor() override {
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }

  Status Allocate(const Model& model, const std::function<void(double)>& progress);

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
  Status EndStep() override;

  std::span<const RowReport> reports() const override { return reports_.reports(); }
  std::span<const float> layer_masses(int32_t sequence) const override {
    return reports_.layer_masses(sequence);
  }
  Status PreparePlan(int32_t state, const AttentionPlan& plan) override;
  PageFormat page_format() const override { return cache_.page_format(); }
  Status ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                  std::span<std::byte> index) override;
  Status WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                   std::span<const std::byte> index) override;
  int32_t max_logit_rows() const override { return kMaxCudaLogitRows; }
  ExecutorMemory memory() const override;
  void SetPartTiming(PartTiming timing) override { timer_.set_on(timing == PartTiming::kAlways); }
  ExecutorProfile TakeProfile() override { return std::exchange(profile_, {}); }

 private:
  bool replays() const { return mode_ == StepGraphs::Mode::kReplay; }
  std::string GraphKey(const StepBatch& batch) const;
  StepGraphs::Mode BeginGraph(const std::string& key);
  LayerRole RoleOf(int32_t layer, std::span<const int32_t> sequences) const;
  void Observe(int32_t layer, std::span<const int32_t> sequences);
  // What leaves the device at the end of a step.
  enum class Output : uint8_t { kLogits, kCandidates };
  void EnqueueOutput(int64_t num_rows, Output output);
  Status RunOutput(int64_t num_rows, Output output);
  void EnqueueReports();

  const ModelConfig& config_;
  const CudaExecutorOptions options_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CudaProducts> products_;
  std::unique_ptr<CudaSelection> selection_;
  CudaWeights weights_;
  CudaActivations act_;
  DeviceBuffer frequencies_;  // [rope_dim / 2] float64
  CudaCache cache_;
  CudaAttention attention_;
  StepOutput output_;
  StepReports reports_;

  StepUpload upload_;
  StepTables tables_;

  StepGraphs graphs_;
  StepTimer timer_;
  StepGraphs::Mode mode_ = StepGraphs::Mode::kDirect;
  StickyStatus status_;
  const StepBatch* batch_ = nullptr;
  int64_t rows_ = 0;
  int64_t outputs_done_ = 0;  // of the batch's logit rows and candidate rows
  ExecutorProfile profile_;
};

Status CudaExecutor::Allocate(const Model& model, const std::function<void(double)>& progress) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  // Whole pages of the longest sequence.
  const int64_t max_tokens =
      RoundUp(MaxSequenceTokens(options_.max_context, options_.num_pages), kPageSize);
  const int64_t max_rows = std::max(options_.max_batch_tokens, kMaxCudaLogitRows);
  const MatrixSizes sizes = SizesOf(model.weights());
  TIDAL_ASSIGN_OR_RETURN(products_, CudaProducts::Create({.stream = stream_,
                                                          .precision = options_.precision,
                                                          .max_rows = max_rows,
                                                          .max_cols = sizes.max_cols,
                                                          .max_matrix_elems = sizes.max_elems}));
  tables_.Reserve({.num_layers = config_.num_layers,
                   .gqa_ratio = config_.gqa_ratio(),
                   .max_rows = options_.max_batch_tokens,
                   .max_sequences = options_.max_sequences,
                   .num_pages = options_.num_pages},
                  &upload_);
  TIDAL_ASSIGN_OR_RETURN(selection_,
                         CudaSelection::Create({.stream = stream_,
                                                .num_layers = config_.num_layers,
                                                .num_heads = config_.num_heads,
                                                .num_kv_heads = config_.num_kv_heads,
                                                .head_dim = config_.head_dim,
                                                .attn_scale = config_.attn_scale(),
                                                .precision = options_.precision,
                                                .max_sequences = options_.max_sequences,
                                                .max_tokens = static_cast<int32_t>(max_tokens),
                                                .upload = &upload_,
                                                .timer = &timer_}));
  tables_.ReserveLast(&upload_);
  TIDAL_RETURN_IF_ERROR(upload_.Allocate());
  TIDAL_ASSIGN_OR_RETURN(weights_, UploadWeights(model, products_.get(), progress));
  TIDAL_ASSIGN_OR_RETURN(act_, CudaActivations::Create(config_, max_rows));
  TIDAL_ASSIGN_OR_RETURN(frequencies_, UploadRopeFrequencies(config_));
  TIDAL_ASSIGN_OR_RETURN(cache_, CudaCache::Create(config_, options_));
  TIDAL_ASSIGN_OR_RETURN(attention_, CudaAttention::Create(config_, options_));
  TIDAL_ASSIGN_OR_RETURN(output_, StepOutput::Create(config_.vocab_size));
  TIDAL_ASSIGN_OR_RETURN(reports_, StepReports::Create(config_, options_.max_sequences));
  return CudaStatus(cudaDeviceSynchronize(), "making the executor");
}

ExecutorMemory CudaExecutor::memory() const {
  return {.weight_bytes = weights_.matrices.bytes() + weights_.vectors.bytes(),
          .kv_bytes = cache_.kv_bytes(),
          .kv_page_bytes = cache_.kv_page_bytes(),
          .index_bytes = cache_.index_bytes(),
          .index_page_bytes = cache_.index_page_bytes(),
          .set_bytes = selection_->bytes()};
}

// Everything that decides which kernels run with which parameters; empty where the step cannot be
// captured.
std::string CudaExecutor::GraphKey(const StepBatch& batch) const {
  // Of several outputs only the first would be in the graph.
  const bool has_one_output = batch.logit_rows.empty() != batch.candidate_rows.empty();
  if (rows_ > kMaxGraphRows || tables_.max_q_len() > 1 || batch.observer != nullptr ||
      !has_one_output)
    return "";
  return fmt::format("{} {}", selection_->LaunchKey(batch), tables_.LaunchKey());
}

Status CudaExecutor::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  rows_ = batch.num_rows();
  TIDAL_CHECK(rows_ >= 1 && rows_ <= options_.max_batch_tokens, "{} rows in a step", rows_);
  status_.Clear();
  outputs_done_ = 0;
  reports_.BeginStep(batch);
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  // The last step's upload has been read: EndStep waited for it.
  const int64_t upload_bytes = tables_.Fill(batch);
  selection_->BeginStep(batch);
  TIDAL_RETURN_IF_ERROR(upload_.Send(upload_bytes, stream_));
  profile_.weight_bytes += weights_.step_bytes;
  mode_ = BeginGraph(GraphKey(batch));
  timer_.BeginStep(stream_, mode_ == StepGraphs::Mode::kCapture);
  return OkStatus();
}

// A timed step has events of its own.
StepGraphs::Mode CudaExecutor::BeginGraph(const std::string& key) {
  if (key.empty()) return StepGraphs::Mode::kDirect;
  return timer_.is_on() ? graphs_.BeginOnce(stream_) : graphs_.Begin(key, stream_);
}

// That of the first; with others in the batch these may have another.
LayerRole CudaExecutor::RoleOf(int32_t layer, std::span<const int32_t> sequences) const {
  const AttentionPlan* plan = batch_->sequences[static_cast<size_t>(sequences.front())].plan;
  return plan == nullptr ? LayerRole::kFull : plan->Role(layer);
}

void CudaExecutor::Embed() {
  if (replays()) return;
  products_->GatherRows(weights_.token_embd, tables_.tokens(), rows_, act_.x, config_.model_dim);
  status_.Note(RopeAngles(tables_.positions(), static_cast<int32_t>(rows_),
                          frequencies_.as<double>(), config_.rope_dim / 2,
                          static_cast<double>(config_.rope_attn_factor), act_.cos_sin, stream_),
               "angles of RoPE");
}

void CudaExecutor::AttentionInputs(int32_t layer) {
  if (replays()) return;
  const CudaLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const ProductJob jobs[] = {{.weight = &weights.attn_q,
                              .out = act_.q,
                              .out_stride = weights.attn_q.rows,
                              .bias = weights.attn_q_bias},
                             {.weight = &weights.attn_k,
                              .out = act_.k,
                              .out_stride = weights.attn_k.rows,
                              .bias = weights.attn_k_bias},
                             {.weight = &weights.attn_v,
                              .out = act_.v,
                              .out_stride = weights.attn_v.rows,
                              .bias = weights.attn_v_bias}};
  products_->Multiply({.x = act_.x,
                       .x_stride = config_.model_dim,
                       .num_rows = rows_,
                       .norm = weights.attn_norm,
                       .norm_eps = config_.rms_norm_eps,
                       .jobs = jobs});
  const DeviceIndex& index = cache_.IndexOf(layer);
  const AppendCall append = {.q = act_.q,
                             .k = act_.k,
                             .v = act_.v,
                             .q_norm = weights.attn_q_norm,
                             .k_norm = weights.attn_k_norm,
                             .norm_eps = config_.rms_norm_eps,
                             .cos_sin = act_.cos_sin,
                             .rope_dim = config_.rope_dim,
                             .interleaved = config_.rope_style == RopeStyle::kInterleaved,
                             .slots = tables_.slots(),
                             .seals = tables_.row_seals(),
                             .kv = cache_.KvOf(layer),
                             .index = index,
                             .num_rows = static_cast<int32_t>(rows_),
                             .num_heads = config_.num_heads};
  status_.Note(RotateAndAppend(append, stream_), "appending to the cache");
  if (index.base != nullptr && tables_.num_seals() > 0) {
    status_.Note(
        SealPages(cache_.KvOf(layer), index, tables_.seals(), tables_.num_seals(), stream_),
        "sealing pages");
  }
}

void CudaExecutor::Choose(int32_t layer, std::span<const int32_t> sequences) {
  if (replays()) return;
  timer_.BeginLayer(RoleOf(layer, sequences));
  selection_->Choose(layer, sequences, tables_.StepOf(layer), cache_.KvOf(layer),
                     cache_.IndexOf(layer), act_.q);
  if (batch_->observer != nullptr) Observe(layer, sequences);
}

void CudaExecutor::Observe(int32_t layer, std::span<const int32_t> sequences) {
  for (const int32_t s : sequences) {
    std::vector<std::vector<int32_t>> slots;
    if (Status status = selection_->ReadSets(s, &slots); !status.ok()) {
      status_.Note(std::move(status));
      return;
    }
    DeviceChoiceReport report;
    const DeviceChoiceReport* from =
        selection_->reports() + int64_t{layer} * options_.max_sequences + s;
    status_.Note(cudaMemcpy(&report, from, sizeof(report), cudaMemcpyDeviceToHost),
                 "reading what a choice did");
    std::vector<SlotSet> sets;
    for (const std::vector<int32_t>& set : slots)
      sets.push_back({.slots = set.data(), .count = static_cast<int32_t>(set.size())});
    batch_->observer->OnChosen(layer, s, report.fresh != 0, report.selected_mass, sets);
  }
}

void CudaExecutor::Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) {
  if (replays()) return;
  timer_.BeginLayer(RoleOf(layer, sequences));
  const DeviceSets* sets = what == AttendTo::kSets ? selection_->sets() : nullptr;
  status_.Note(attention_.Attend(layer, tables_, cache_.KvOf(layer), sets, act_, stream_));
  timer_.EndPart(what == AttendTo::kSets ? StepTimer::Part::kGather : StepTimer::Part::kFull);
}

void CudaExecutor::AttentionOutput(int32_t layer) {
  if (replays()) return;
  const CudaLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const ProductJob job = {
      .weight = &weights.attn_output, .out = act_.x, .out_stride = config_.model_dim};
  products_->Multiply({.x = act_.attended,
                       .x_stride = weights.attn_output.cols,
                       .num_rows = rows_,
                       .jobs = {&job, 1},
                       .output = ProductOutput::kAdd});
}

void CudaExecutor::FeedForward(int32_t layer) {
  if (replays()) return;
  const CudaLayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t ffn_dim = config_.ffn_dim;
  const ProductJob gate_up[] = {
      {.weight = &weights.ffn_gate, .out = act_.gate, .out_stride = ffn_dim},
      {.weight = &weights.ffn_up, .out = act_.up, .out_stride = ffn_dim}};
  products_->Multiply({.x = act_.x,
                       .x_stride = config_.model_dim,
                       .num_rows = rows_,
                       .norm = weights.ffn_norm,
                       .norm_eps = config_.rms_norm_eps,
                       .jobs = gate_up,
                       .output = ProductOutput::kSiluMul});
  const ProductJob down = {
      .weight = &weights.ffn_down, .out = act_.x, .out_stride = config_.model_dim};
  products_->Multiply({.x = act_.gate,
                       .x_stride = ffn_dim,
                       .num_rows = rows_,
                       .jobs = {&down, 1},
                       .output = ProductOutput::kAdd});
}

void CudaExecutor::EnqueueOutput(int64_t num_rows, Output output) {
  const ProductJob job = {
      .weight = &weights_.output, .out = output_.device_logits(), .out_stride = config_.vocab_size};
  products_->Multiply({.x = act_.x,
                       .x_stride = config_.model_dim,
                       .num_rows = num_rows,
                       .row_ids = tables_.output_rows() + outputs_done_,
                       .norm = weights_.output_norm,
                       .norm_eps = config_.rms_norm_eps,
                       .jobs = {&job, 1}});
  if (output == Output::kCandidates) {
    const auto num_logit_rows = static_cast<int64_t>(batch_->logit_rows.size());
    status_.Note(output_.EnqueueCandidates(tables_.candidate_rows(outputs_done_ - num_logit_rows),
                                           num_rows, stream_));
  } else {
    status_.Note(output_.EnqueueLogits(num_rows, stream_));
  }
  EnqueueReports();
  status_.Note(products_->status());
  status_.Note(selection_->status());
}

// Waits for the output, which ends the step's graph where it has one.
Status CudaExecutor::RunOutput(int64_t num_rows, Output output) {
  TIDAL_CHECK(num_rows >= 1 && num_rows <= kMaxCudaLogitRows, "logits of {} rows", num_rows);
  if (!replays()) EnqueueOutput(num_rows, output);
  if (!status_.status().ok()) {
    graphs_.Abandon(stream_);
    return status_.status();
  }
  if (mode_ != StepGraphs::Mode::kDirect) {
    TIDAL_RETURN_IF_ERROR(graphs_.Finish(stream_));
    mode_ = StepGraphs::Mode::kDirect;
  }
  outputs_done_ += num_rows;
  return CudaStatus(cudaStreamSynchronize(stream_), "the step's work");
}

Status CudaExecutor::Logits(std::span<const int32_t> rows, float* logits) {
  const auto num_rows = static_cast<int64_t>(rows.size());
  TIDAL_RETURN_IF_ERROR(RunOutput(num_rows, Output::kLogits));
  output_.ReadLogits(num_rows, logits);
  return OkStatus();
}

Status CudaExecutor::BestCandidates(std::span<const CandidateRow> rows, float* /*scratch*/,
                                    CandidateList* lists) {
  TIDAL_RETURN_IF_ERROR(RunOutput(static_cast<int64_t>(rows.size()), Output::kCandidates));
  output_.ReadCandidates(rows, lists);
  return OkStatus();
}

void CudaExecutor::EnqueueReports() {
  if (!tables_.has_plans()) return;
  status_.Note(reports_.EnqueueChoices(selection_->reports(), stream_));
}

Status CudaExecutor::EndStep() {
  status_.Note(products_->status());
  status_.Note(selection_->status());
  if (outputs_done_ == 0) {
    EnqueueReports();
    status_.Note(cudaStreamSynchronize(stream_), "the step's work");
  }
  status_.Note(timer_.AddTo(&profile_));
  TIDAL_RETURN_IF_ERROR(status_.status());
  reports_.Finish(*batch_, cache_, &profile_);
  return OkStatus();
}

Status CudaExecutor::ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                              std::span<std::byte> index) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  return cache_.ReadPage(page, num_tokens, kv, index, stream_);
}

Status CudaExecutor::WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                               std::span<const std::byte> index) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  return cache_.WritePage(page, num_tokens, kv, index, stream_);
}

Status CudaExecutor::PreparePlan(int32_t state, const AttentionPlan& plan) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  TIDAL_RETURN_IF_ERROR(selection_->Prepare(state, plan));
  return attention_.Prepare(state, plan, &graphs_);
}

}  // namespace

Result<std::unique_ptr<Executor>> CreateCudaExecutor(const Model& model,
                                                     const CudaExecutorOptions& options,
                                                     const std::function<void(double)>& progress) {
  TIDAL_RETURN_IF_ERROR(CheckCudaDevice(model, options));
  auto executor = std::make_unique<CudaExecutor>(model, options);
  TIDAL_RETURN_IF_ERROR(executor->Allocate(model, progress));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace tidal
