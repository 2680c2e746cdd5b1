#include "cuda/step_reports.h"

#include <cmath>
#include <limits>

#include "attention/attention_plan.h"
#include "cuda/cuda_status.h"
#include "cuda/key_index.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

// What scoring the keys of a layer reads.
int64_t ScanBytes(const StepSequence& s, int32_t layer, const CudaCache& cache) {
  if (s.plan->scorer == Scorer::kNone) return 0;
  const DeviceIndex& index = cache.IndexOf(layer);
  const bool by_index = IndexBits(s.plan->scorer) > 0 && index.base != nullptr;
  const int64_t sealed = by_index ? s.kv_len / kPageSize : 0;
  const int64_t tokens = s.kv_len - sealed * kPageSize;
  return sealed * index.page_bytes + tokens * cache.key_bytes();
}

}  // namespace

Result<StepReports> StepReports::Create(const ModelConfig& config, int32_t max_sequences) {
  StepReports step;
  step.num_layers_ = static_cast<size_t>(config.num_layers);
  step.max_sequences_ = static_cast<size_t>(max_sequences);
  step.gqa_ratio_ = config.gqa_ratio();
  const int64_t bytes =
      int64_t{config.num_layers} * max_sequences * static_cast<int64_t>(sizeof(DeviceChoiceReport));
  TIDAL_ASSIGN_OR_RETURN(step.choices_, PinnedBuffer::Create(bytes, "reports of choices"));
  step.reports_.reserve(step.max_sequences_);
  step.layer_masses_.reserve(step.max_sequences_ * step.num_layers_);
  return step;
}

void StepReports::BeginStep(const StepBatch& batch) {
  reports_.assign(batch.sequences.size(), RowReport());
  layer_masses_.assign(batch.sequences.size() * num_layers_, kUnknown);
}

Status StepReports::EnqueueChoices(const DeviceChoiceReport* choices, cudaStream_t stream) const {
  return CudaStatus(cudaMemcpyAsync(choices_.data(), choices, static_cast<size_t>(choices_.bytes()),
                                    cudaMemcpyDeviceToHost, stream),
                    "reading what choices did");
}

// For sets by the counts that the choices left.
void StepReports::Finish(const StepBatch& batch, const CudaCache& cache, ExecutorProfile* profile) {
  const int64_t token_bytes = cache.token_bytes();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const StepSequence& s = batch.sequences[i];
    RowReport& report = reports_[i];
    if (s.plan != nullptr) report.selected_mass = kUnknown;
    double tokens_of_set = 0;
    for (int32_t layer = 0; layer < static_cast<int32_t>(num_layers_); ++layer) {
      const LayerRole role = s.plan == nullptr ? LayerRole::kFull : s.plan->Role(layer);
      if (s.plan != nullptr && s.plan->Selects(layer)) {
        const DeviceChoiceReport& choice = ChoiceOf(layer, i);
        tokens_of_set = static_cast<double>(choice.tokens);
        const float mass = choice.selected_mass;
        layer_masses_[i * num_layers_ + static_cast<size_t>(layer)] = mass;
        if (std::isnan(report.selected_mass) || mass < report.selected_mass)
          report.selected_mass = mass;
        if (choice.fresh != 0) profile->scan_bytes += ScanBytes(s, layer, cache);
      }
      const bool full = role == LayerRole::kFull;
      const double attended = full ? s.kv_len : tokens_of_set;
      report.tokens_attended[static_cast<size_t>(role)] += attended;
      ++report.layers[static_cast<size_t>(role)];
      // A set per query head is read for each of them.
      const bool per_head = !full && s.plan->scope == SetScope::kHead;
      (full ? profile->full_bytes : profile->gather_bytes) +=
          static_cast<int64_t>(attended) * token_bytes * (per_head ? gqa_ratio_ : 1);
    }
  }
}

}  // namespace tidal
