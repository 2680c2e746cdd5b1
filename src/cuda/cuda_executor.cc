#include "cuda/cuda_executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cuda_runtime_api.h>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "cuda/attention.h"
#include "cuda/candidates.h"
#include "cuda/cuda_activations.h"
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
#include "cuda/step_tables.h"
#include "cuda/step_timer.h"
#include "cuda/step_upload.h"

namespace tidal {
namespace {

// Steps of more rows go through cuBLAS, which is not captured.
constexpr int32_t kMaxGraphRows = 8;
constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

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

  std::span<const RowReport> reports() const override { return reports_; }
  std::span<const float> layer_masses(int32_t sequence) const override {
    const auto num_layers = static_cast<size_t>(config_.num_layers);
    return std::span(layer_masses_).subspan(static_cast<size_t>(sequence) * num_layers, num_layers);
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
  Status UploadFrequencies();

  bool replays() const { return mode_ == StepGraphs::Mode::kReplay; }
  bool HasTensorCores() const {
    return options_.precision == Precision::kFast &&
           HasTensorCoreAttention(config_.head_dim, options_.cache_type) &&
           config_.gqa_ratio() <= kMaxDecodeAttentionRows;
  }
  bool IsMapped(const AttentionPlan& plan, int32_t layer) const {
    const auto l = static_cast<size_t>(layer);
    return l < plan.headmap.size() && !plan.headmap[l].empty();
  }

  std::string GraphKey(const StepBatch& batch) const;
  StepGraphs::Mode BeginGraph(const std::string& key);
  LayerRole RoleOf(int32_t layer, std::span<const int32_t> sequences) const;
  void Observe(int32_t layer, std::span<const int32_t> sequences);
  void EnqueueAttention(int32_t layer, AttendTo what);
  // What leaves the device at the end of a step.
  enum class Output : uint8_t { kLogits, kCandidates };
  void EnqueueOutput(int64_t num_rows, Output output);
  Status RunOutput(int64_t num_rows, Output output);
  void EnqueueReports();
  void Report();
  int64_t ScanBytes(const StepSequence& s, int32_t layer) const;
  Status UploadHeadmaps(int32_t state, const AttentionPlan& plan);

  const ModelConfig& config_;
  const CudaExecutorOptions options_;
  int32_t num_sms_ = 0;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CudaProducts> products_;
  std::unique_ptr<CudaSelection> selection_;
  CudaWeights weights_;
  CudaActivations act_;
  DeviceBuffer frequencies_;  // [rope_dim / 2] float64
  CudaCache cache_;
  DeviceBuffer partial_;  // of attention
  DeviceBuffer counters_;
  DeviceBuffer headmaps_;  // [layers][states][KV heads]; made when a plan has one
  DeviceBuffer device_logits_;
  DeviceBuffer candidate_scratch_;
  DeviceBuffer device_candidates_;
  PinnedBuffer logits_;      // [kMaxCudaLogitRows][vocab_size]
  PinnedBuffer candidates_;  // [kMaxCudaLogitRows] DeviceCandidates
  PinnedBuffer choices_;     // the selection's reports, [layers][max_sequences]

  StepUpload upload_;
  StepTables tables_;

  StepGraphs graphs_;
  StepTimer timer_;
  StepGraphs::Mode mode_ = StepGraphs::Mode::kDirect;
  StickyStatus status_;
  const StepBatch* batch_ = nullptr;
  int64_t rows_ = 0;
  int64_t outputs_done_ = 0;         // of the batch's logit rows and candidate rows
  std::vector<RowReport> reports_;   // [sequences]
  std::vector<float> layer_masses_;  // [sequences][layers]
  ExecutorProfile profile_;
};

Status CudaExecutor::Allocate(const Model& model, const std::function<void(double)>& progress) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device));
  cudaDeviceProp properties;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, options_.device));
  num_sms_ = properties.multiProcessorCount;
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
  TIDAL_RETURN_IF_ERROR(UploadFrequencies());
  TIDAL_ASSIGN_OR_RETURN(cache_, CudaCache::Create(config_, options_));
  const int32_t max_splits =
      AttentionSplits(num_sms_, config_.head_dim, options_.cache_type, config_.num_kv_heads, 1);
  // Parts of all items together: as many as the device runs at a time, or one an item.
  const int64_t items = int64_t{options_.max_sequences} * config_.num_heads;
  const int64_t parts = std::max<int64_t>(items, int64_t{max_splits} * config_.num_heads * 2);
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  TIDAL_ASSIGN_OR_RETURN(
      partial_,
      DeviceBuffer::Create(AttentionPartialFloats(1, 1, 1, config_.head_dim) * parts * kFloat,
                           "partial results of attention"));
  TIDAL_ASSIGN_OR_RETURN(counters_, DeviceBuffer::Create(items * kFloat, "counters of attention"));
  TIDAL_RETURN_IF_CUDA_ERROR(
      cudaMemset(counters_.data(), 0, static_cast<size_t>(counters_.bytes())));
  const int64_t logit_bytes = kMaxCudaLogitRows * int64_t{config_.vocab_size} * kFloat;
  TIDAL_ASSIGN_OR_RETURN(device_logits_, DeviceBuffer::Create(logit_bytes, "the logits"));
  TIDAL_ASSIGN_OR_RETURN(logits_, PinnedBuffer::Create(logit_bytes, "the logits"));
  TIDAL_ASSIGN_OR_RETURN(
      candidate_scratch_,
      DeviceBuffer::Create(CandidateScratchBytes(kMaxCudaLogitRows, config_.vocab_size),
                           "finding candidates"));
  constexpr int64_t kCandidateBytes = kMaxCudaLogitRows * int64_t{sizeof(DeviceCandidates)};
  TIDAL_ASSIGN_OR_RETURN(device_candidates_, DeviceBuffer::Create(kCandidateBytes, "candidates"));
  TIDAL_ASSIGN_OR_RETURN(candidates_, PinnedBuffer::Create(kCandidateBytes, "candidates"));
  const int64_t report_bytes = int64_t{config_.num_layers} * options_.max_sequences *
                               static_cast<int64_t>(sizeof(DeviceChoiceReport));
  TIDAL_ASSIGN_OR_RETURN(choices_, PinnedBuffer::Create(report_bytes, "reports of choices"));
  const auto max_sequences = static_cast<size_t>(options_.max_sequences);
  reports_.reserve(max_sequences);
  layer_masses_.reserve(max_sequences * static_cast<size_t>(config_.num_layers));
  return CudaStatus(cudaDeviceSynchronize(), "making the executor");
}

Status CudaExecutor::UploadFrequencies() {
  std::vector<double> frequencies(static_cast<size_t>(config_.rope_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / config_.rope_dim;
    const double divisor = config_.rope_freq_divisors.empty()
                               ? 1.0
                               : static_cast<double>(config_.rope_freq_divisors[i]);
    frequencies[i] = std::pow(static_cast<double>(config_.rope_theta), exponent) / divisor;
  }
  const auto bytes = static_cast<int64_t>(frequencies.size() * sizeof(double));
  TIDAL_ASSIGN_OR_RETURN(frequencies_, DeviceBuffer::Create(bytes, "frequencies of RoPE"));
  return CudaStatus(cudaMemcpy(frequencies_.data(), frequencies.data(), static_cast<size_t>(bytes),
                               cudaMemcpyHostToDevice),
                    "frequencies of RoPE");
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
  reports_.assign(batch.sequences.size(), RowReport());
  layer_masses_.assign(batch.sequences.size() * static_cast<size_t>(config_.num_layers), kUnknown);
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
  EnqueueAttention(layer, what);
  timer_.EndPart(what == AttendTo::kSets ? StepTimer::Part::kGather : StepTimer::Part::kFull);
}

void CudaExecutor::EnqueueAttention(int32_t layer, AttendTo what) {
  const bool over_sets = what == AttendTo::kSets;
  AttentionCall call;
  call.step = tables_.StepOf(layer);
  call.kv = cache_.KvOf(layer);
  call.q = act_.q;
  call.out = act_.attended;
  call.num_heads = config_.num_heads;
  call.attn_scale = config_.attn_scale();
  call.workspace = {.partial = partial_.as<float>(), .counters = counters_.as<int32_t>()};
  if (over_sets) {
    call.sets = selection_->sets();
    call.per_head = tables_.sets_per_head();
    if (headmaps_.data() != nullptr) {
      call.headmaps =
          headmaps_.as<int32_t>() + int64_t{layer} * options_.max_sequences * config_.num_kv_heads;
    }
  }
  if (!HasTensorCores()) {
    status_.Note(AttendFloat(call, over_sets ? 1 : tables_.max_q_len(), stream_), "attention");
    return;
  }
  const int32_t heads = call.per_head ? config_.num_heads : config_.num_kv_heads;
  call.num_splits = AttentionSplits(num_sms_, config_.head_dim, options_.cache_type, heads,
                                    call.step.num_sequences);
  if (over_sets || tables_.has_decode()) status_.Note(AttendDecode(call, stream_), "attention");
  if (!over_sets && tables_.has_prefill())
    status_.Note(AttendPrefill(call, tables_.max_q_len(), stream_), "attention of a prefill");
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
  const ProductJob job = {.weight = &weights_.output,
                          .out = device_logits_.as<float>(),
                          .out_stride = config_.vocab_size};
  products_->Multiply({.x = act_.x,
                       .x_stride = config_.model_dim,
                       .num_rows = num_rows,
                       .row_ids = tables_.output_rows() + outputs_done_,
                       .norm = weights_.output_norm,
                       .norm_eps = config_.rms_norm_eps,
                       .jobs = {&job, 1}});
  if (output == Output::kCandidates) {
    const auto num_logit_rows = static_cast<int64_t>(batch_->logit_rows.size());
    const CandidateCall call = {.logits = device_logits_.as<float>(),
                                .stride = config_.vocab_size,
                                .cols = config_.vocab_size,
                                .num_rows = static_cast<int32_t>(num_rows),
                                .rows = tables_.candidate_rows(outputs_done_ - num_logit_rows),
                                .scratch = candidate_scratch_.data(),
                                .out = device_candidates_.as<DeviceCandidates>()};
    status_.Note(SelectCandidates(call, stream_), "finding candidates");
    status_.Note(cudaMemcpyAsync(candidates_.data(), device_candidates_.data(),
                                 static_cast<size_t>(num_rows) * sizeof(DeviceCandidates),
                                 cudaMemcpyDeviceToHost, stream_),
                 "reading candidates");
  } else {
    const auto bytes = static_cast<size_t>(num_rows * config_.vocab_size) * sizeof(float);
    status_.Note(cudaMemcpyAsync(logits_.data(), device_logits_.data(), bytes,
                                 cudaMemcpyDeviceToHost, stream_),
                 "reading logits");
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
  std::memcpy(logits, logits_.data(),
              static_cast<size_t>(num_rows * config_.vocab_size) * sizeof(float));
  return OkStatus();
}

Status CudaExecutor::BestCandidates(std::span<const CandidateRow> rows, float* /*scratch*/,
                                    CandidateList* lists) {
  TIDAL_RETURN_IF_ERROR(RunOutput(static_cast<int64_t>(rows.size()), Output::kCandidates));
  for (size_t i = 0; i < rows.size(); ++i) {
    const DeviceCandidates& from = candidates_.as<DeviceCandidates>()[i];
    CandidateList& list = lists[i];
    list.size = static_cast<int32_t>(from.size);
    std::copy_n(from.candidates, from.size, list.candidates);
    list.softmax = {};
    if (rows[i].wants_softmax && from.size > 0)
      list.softmax = {.best = Finite(from.candidates[0].logit), .log_sum = std::log(from.exp_sum)};
  }
  return OkStatus();
}

void CudaExecutor::EnqueueReports() {
  if (!tables_.has_plans()) return;
  status_.Note(
      cudaMemcpyAsync(choices_.data(), selection_->reports(), static_cast<size_t>(choices_.bytes()),
                      cudaMemcpyDeviceToHost, stream_),
      "reading what choices did");
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
  Report();
  return OkStatus();
}

// What rows attended, and the bytes that this took: for sets by the counts that the choices left.
void CudaExecutor::Report() {
  const int64_t token_bytes = cache_.token_bytes();
  for (size_t i = 0; i < batch_->sequences.size(); ++i) {
    const StepSequence& s = batch_->sequences[i];
    RowReport& report = reports_[i];
    if (s.plan != nullptr) report.selected_mass = kUnknown;
    double tokens_of_set = 0;
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      const LayerRole role = s.plan == nullptr ? LayerRole::kFull : s.plan->Role(layer);
      if (s.plan != nullptr && s.plan->Selects(layer)) {
        const DeviceChoiceReport& choice =
            choices_.as<DeviceChoiceReport>()[static_cast<size_t>(layer) *
                                                  static_cast<size_t>(options_.max_sequences) +
                                              i];
        tokens_of_set = static_cast<double>(choice.tokens);
        const float mass = choice.selected_mass;
        layer_masses_[i * static_cast<size_t>(config_.num_layers) + static_cast<size_t>(layer)] =
            mass;
        if (std::isnan(report.selected_mass) || mass < report.selected_mass)
          report.selected_mass = mass;
        if (choice.fresh != 0) profile_.scan_bytes += ScanBytes(s, layer);
      }
      const bool full = role == LayerRole::kFull;
      const double attended = full ? s.kv_len : tokens_of_set;
      report.tokens_attended[static_cast<size_t>(role)] += attended;
      ++report.layers[static_cast<size_t>(role)];
      // A set per query head is read for each of them.
      const bool per_head = !full && s.plan->scope == SetScope::kHead;
      (full ? profile_.full_bytes : profile_.gather_bytes) +=
          static_cast<int64_t>(attended) * token_bytes * (per_head ? config_.gqa_ratio() : 1);
    }
  }
}

// What scoring the keys of a layer reads.
int64_t CudaExecutor::ScanBytes(const StepSequence& s, int32_t layer) const {
  if (s.plan->scorer == Scorer::kNone) return 0;
  const DeviceIndex& index = cache_.IndexOf(layer);
  const bool by_index = IndexBits(s.plan->scorer) > 0 && index.base != nullptr;
  const int64_t sealed = by_index ? s.kv_len / kPageSize : 0;
  const int64_t tokens = s.kv_len - sealed * kPageSize;
  return sealed * index.page_bytes + tokens * cache_.key_bytes();
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
  return UploadHeadmaps(state, plan);
}

Status CudaExecutor::UploadHeadmaps(int32_t state, const AttentionPlan& plan) {
  const bool has_map = std::any_of(plan.headmap.begin(), plan.headmap.end(),
                                   [](const std::vector<int32_t>& map) { return !map.empty(); });
  if (!has_map && headmaps_.data() == nullptr) return OkStatus();
  const int64_t num_kv_heads = config_.num_kv_heads;
  const int64_t layer_maps = options_.max_sequences * num_kv_heads;
  if (headmaps_.data() == nullptr) {
    TIDAL_ASSIGN_OR_RETURN(
        headmaps_, DeviceBuffer::Create(
                       config_.num_layers * layer_maps * static_cast<int64_t>(sizeof(int32_t)),
                       "maps from heads to sets"));
    TIDAL_RETURN_IF_CUDA_ERROR(
        cudaMemset(headmaps_.data(), 0xff, static_cast<size_t>(headmaps_.bytes())));
    graphs_.Clear();  // they were captured without the maps
  }
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    std::vector<int32_t> map(static_cast<size_t>(num_kv_heads), -1);
    if (IsMapped(plan, layer)) map = plan.headmap[static_cast<size_t>(layer)];
    int32_t* place = headmaps_.as<int32_t>() + layer * layer_maps + state * num_kv_heads;
    TIDAL_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(place, map.data(), map.size() * sizeof(int32_t), cudaMemcpyHostToDevice));
  }
  return OkStatus();
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
