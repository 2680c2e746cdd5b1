#include "cuda/cuda_attention.h"

#include <algorithm>
#include <vector>

#include "cuda/attention.h"
#include "cuda/cuda_status.h"

namespace tidal {
namespace {

bool IsMapped(const AttentionPlan& plan, int32_t layer) {
  const auto l = static_cast<size_t>(layer);
  return l < plan.headmap.size() && !plan.headmap[l].empty();
}

}  // namespace

Result<CudaAttention> CudaAttention::Create(const ModelConfig& config,
                                            const CudaExecutorOptions& options) {
  CudaAttention attention;
  attention.config_ = &config;
  attention.precision_ = options.precision;
  attention.cache_type_ = options.cache_type;
  attention.max_sequences_ = options.max_sequences;
  cudaDeviceProp properties;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, options.device));
  attention.num_sms_ = properties.multiProcessorCount;
  const int32_t max_splits = AttentionSplits(attention.num_sms_, config.head_dim,
                                             options.cache_type, config.num_kv_heads, 1);
  // Parts of all items together: as many as the device runs at a time, or one an item.
  const int64_t items = int64_t{options.max_sequences} * config.num_heads;
  const int64_t parts = std::max<int64_t>(items, int64_t{max_splits} * config.num_heads * 2);
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  TIDAL_ASSIGN_OR_RETURN(
      attention.partial_,
      DeviceBuffer::Create(AttentionPartialFloats(1, 1, 1, config.head_dim) * parts * kFloat,
                           "partial results of attention"));
  DeviceBuffer& counters = attention.counters_;
  TIDAL_ASSIGN_OR_RETURN(counters, DeviceBuffer::Create(items * kFloat, "counters of attention"));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaMemset(counters.data(), 0, static_cast<size_t>(counters.bytes())));
  return attention;
}

bool CudaAttention::HasTensorCores() const {
  return precision_ == Precision::kFast && HasTensorCoreAttention(config_->head_dim, cache_type_) &&
         config_->gqa_ratio() <= kMaxDecodeAttentionRows;
}

Status CudaAttention::Prepare(int32_t state, const AttentionPlan& plan, StepGraphs* graphs) {
  const bool has_map = std::any_of(plan.headmap.begin(), plan.headmap.end(),
                                   [](const std::vector<int32_t>& map) { return !map.empty(); });
  if (!has_map && headmaps_.data() == nullptr) return OkStatus();
  const int64_t num_kv_heads = config_->num_kv_heads;
  const int64_t layer_maps = max_sequences_ * num_kv_heads;
  if (headmaps_.data() == nullptr) {
    TIDAL_ASSIGN_OR_RETURN(
        headmaps_, DeviceBuffer::Create(
                       config_->num_layers * layer_maps * static_cast<int64_t>(sizeof(int32_t)),
                       "maps from heads to sets"));
    TIDAL_RETURN_IF_CUDA_ERROR(
        cudaMemset(headmaps_.data(), 0xff, static_cast<size_t>(headmaps_.bytes())));
    graphs->Clear();  // they were captured without the maps
  }
  for (int32_t layer = 0; layer < config_->num_layers; ++layer) {
    std::vector<int32_t> map(static_cast<size_t>(num_kv_heads), -1);
    if (IsMapped(plan, layer)) map = plan.headmap[static_cast<size_t>(layer)];
    int32_t* place = headmaps_.as<int32_t>() + layer * layer_maps + state * num_kv_heads;
    TIDAL_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(place, map.data(), map.size() * sizeof(int32_t), cudaMemcpyHostToDevice));
  }
  return OkStatus();
}

Status CudaAttention::Attend(int32_t layer, const StepTables& tables, const DeviceKv& kv,
                             const DeviceSets* sets, const CudaActivations& activations,
                             cudaStream_t stream) const {
  const bool over_sets = sets != nullptr;
  AttentionCall call;
  call.step = tables.StepOf(layer);
  call.kv = kv;
  call.q = activations.q;
  call.out = activations.attended;
  call.num_heads = config_->num_heads;
  call.attn_scale = config_->attn_scale();
  call.workspace = {.partial = partial_.as<float>(), .counters = counters_.as<int32_t>()};
  if (over_sets) {
    call.sets = sets;
    call.per_head = tables.sets_per_head();
    if (headmaps_.data() != nullptr) {
      call.headmaps =
          headmaps_.as<int32_t>() + int64_t{layer} * max_sequences_ * config_->num_kv_heads;
    }
  }
  if (!HasTensorCores())
    return CudaStatus(AttendFloat(call, over_sets ? 1 : tables.max_q_len(), stream), "attention");
  const int32_t heads = call.per_head ? config_->num_heads : config_->num_kv_heads;
  call.num_splits =
      AttentionSplits(num_sms_, config_->head_dim, cache_type_, heads, call.step.num_sequences);
  StickyStatus status;
  if (over_sets || tables.has_decode()) status.Note(AttendDecode(call, stream), "attention");
  if (!over_sets && tables.has_prefill())
    status.Note(AttendPrefill(call, tables.max_q_len(), stream), "attention of a prefill");
  return status.status();
}

}  // namespace tidal
