#include "cuda/selection.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "base/system_memory.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"
#include "cuda/selection_params.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

constexpr int64_t kWord = 4;
constexpr int64_t kAlignment = 256;

bool ScoresPages(Scorer scorer) {
  return scorer == Scorer::kPagesMinMax || scorer == Scorer::kPagesMeanStd;
}
bool RanksByHead(const AttentionPlan& plan) {
  return plan.merge == Merge::kRank && HasMass(plan.scorer);
}

// Whether merging counts the values of tokens in bins, and they choose.
bool CountsBins(const AttentionPlan& plan) {
  return HasMass(plan.scorer) && (plan.merge == Merge::kMass || plan.merge == Merge::kMax) &&
         plan.page <= 1 && plan.mass == 0 && !plan.keep_newlines;
}

// What the scan leaves of a token.
KeptScores KeptScoresOf(const AttentionPlan& plan, Precision precision) {
  if (plan.merge == Merge::kScore || plan.merge == Merge::kRank || ScoresPages(plan.scorer))
    return KeptScores::kScores;
  return precision == Precision::kF32 ? KeptScores::kFloatProbs : KeptScores::kHalfProbs;
}

// What a plan needs of a state, its variants included.
struct Needs {
  int32_t num_sets = 1;
  int32_t capacity = 0;
  bool scores_tokens = false;
  bool scores_pages = false;
  bool whole_scores = false;  // float32
  bool has_values = false;    // others than the masses
  bool by_rank = false;
  bool counts_bins = false;
  bool keeps_sets = false;
  bool keeps_newlines = false;
};

void AddNeeds(const AttentionPlan& plan, Precision precision, Needs* needs) {
  needs->scores_tokens |= HasMass(plan.scorer);
  needs->scores_pages |= ScoresPages(plan.scorer);
  needs->whole_scores |= KeptScoresOf(plan, precision) != KeptScores::kHalfProbs;
  needs->has_values |= plan.merge == Merge::kMax;
  needs->by_rank |= RanksByHead(plan);
  needs->counts_bins |= CountsBins(plan);
  needs->keeps_sets |= plan.refresh_cosine <= 1;
  needs->keeps_newlines |= plan.keep_newlines;
  for (const auto& variant : plan.variants) AddNeeds(variant.second, precision, needs);
}

// Hands out parts of a buffer; with a null base it only counts.
class Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    const int64_t offset = bytes_;
    bytes_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), kAlignment);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  int64_t bytes_ = 0;
};

class Selection final : public CudaSelection {
 public:
  explicit Selection(const CudaSelectionOptions& options)
      : options_(options), states_(static_cast<size_t>(options.max_sequences)) {}

  Status Start();
  Status Prepare(int32_t state, const AttentionPlan& plan) override;
  void BeginStep(const StepBatch& batch) override;
  void Choose(int32_t layer, std::span<const int32_t> sequences, const DeviceStep& step,
              const DeviceKv& kv, const DeviceIndex& index, const float* q) override;
  const DeviceSets* sets() const override { return sets_.device(); }
  const DeviceChoiceReport* reports() const override {
    return reports_.as<const DeviceChoiceReport>();
  }
  Status ReadSets(int32_t sequence, std::vector<std::vector<int32_t>>* slots) const override;
  uint64_t LaunchKey(const StepBatch& batch) const override;
  int64_t bytes() const override;
  Status status() const override { return status_.status(); }

 private:
  struct State {
    DeviceBuffer memory;
    PinnedBuffer keep;          // [capacity] positions on their way to the device
    ChoiceParams pointers;      // the rest of it is of a step
    int64_t control_bytes = 0;  // of memory, at its begin: zeros between choices
    int32_t num_sets = 0;
    int32_t generation = 0;
  };
  // What the launches of a choice depend on, of a sequence of the batch.
  struct Launches {
    int32_t num_sets = 0;
    bool scores_tokens = false;
    bool scores_pages = false;
    bool whole_scores = false;  // float32
    bool by_rank = false;
    bool counts_bins = false;
    bool selects = false;  // otherwise, or sets of earlier steps
    bool decides = false;
  };

  Needs NeedsOf(const AttentionPlan& plan) const;
  Launches LaunchesOf(const AttentionPlan& plan) const;
  ChoiceParams Lay(const Needs& needs, Arena* arena, int64_t* control_bytes) const;
  ChoiceParams ParamsOf(const StepSequence& sequence);
  void SetKeep(const StepSequence& sequence, const SetSizes& sizes, ChoiceParams* params);

  const CudaSelectionOptions options_;
  ChoiceGeometry geometry_;
  std::vector<State> states_;
  std::vector<Launches> launches_;  // of the batch's sequences
  StepUpload::Region<DeviceSets> sets_;
  StepUpload::Region<ChoiceParams> params_;
  DeviceBuffer reports_;
  DeviceBuffer fresh_;
  StickyStatus status_;
};

Status Selection::Start() {
  const CudaSelectionOptions& o = options_;
  if (o.head_dim % 16 != 0 || o.head_dim > 256) {
    return Unsupported(
        "choosing tokens on a CUDA device takes heads of a multiple of 16 and at most 256 "
        "channels, this model's have {}",
        o.head_dim);
  }
  int device = 0;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  TIDAL_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&geometry_.num_sms, cudaDevAttrMultiProcessorCount, device));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(
      &geometry_.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  geometry_.precision = o.precision;
  TIDAL_RETURN_IF_CUDA_ERROR(PrepareTopK(&geometry_));
  const TopKShape shape = ShapeOfTopK(geometry_, o.max_tokens, geometry_.num_sms);
  const int32_t shared_bytes =
      std::max(shape.shared_bytes, CountedSharedBytes(geometry_, o.max_tokens, geometry_.num_sms));
  if (shared_bytes > geometry_.max_shared_bytes) {
    return Unsupported(
        "choosing from {} tokens takes {} of shared memory a block, this device has {}: lower the "
        "context",
        o.max_tokens, FormatBytes(shared_bytes), FormatBytes(geometry_.max_shared_bytes));
  }
  sets_ = o.upload->Reserve<DeviceSets>(o.max_sequences);
  params_ = o.upload->Reserve<ChoiceParams>(o.max_sequences);
  launches_.reserve(static_cast<size_t>(o.max_sequences));
  TIDAL_ASSIGN_OR_RETURN(reports_,
                         DeviceBuffer::Create(int64_t{o.num_layers} * o.max_sequences *
                                                  static_cast<int64_t>(sizeof(DeviceChoiceReport)),
                                              "the reports of choices"));
  TIDAL_ASSIGN_OR_RETURN(fresh_,
                         DeviceBuffer::Create(o.max_sequences * kWord, "the reports of choices"));
  return OkStatus();
}

Needs Selection::NeedsOf(const AttentionPlan& plan) const {
  Needs needs;
  needs.num_sets = NumSets(plan.scope, options_.num_heads, options_.num_kv_heads);
  needs.capacity = static_cast<int32_t>(MaxSetTokens(plan, options_.max_tokens));
  AddNeeds(plan, options_.precision, &needs);
  return needs;
}

// Where a state's parts lie. First those that are zeros between choices.
ChoiceParams Selection::Lay(const Needs& needs, Arena* arena, int64_t* control_bytes) const {
  const int64_t tokens = options_.max_tokens;
  const int64_t pages = tokens / kPageSize;
  const int64_t heads = options_.num_heads;
  const int64_t layers = options_.num_layers;
  ChoiceParams params;
  params.capacity = needs.capacity;
  params.totals = arena->Take<ChoiceTotals>(1);
  if (needs.counts_bins) params.bins = arena->Take<uint32_t>(int64_t{needs.num_sets} * kTopKBins);
  if (needs.keeps_sets) params.kept.headers = arena->Take<KeptHeader>(layers);
  *control_bytes = arena->bytes();
  params.slots = arena->Take<int32_t>(int64_t{needs.num_sets} * needs.capacity);
  params.counts = arena->Take<int32_t>(needs.num_sets);
  if (needs.keeps_sets) {
    params.kept.queries = arena->Take<float>(layers * heads * options_.head_dim);
    params.kept.counts = arena->Take<int32_t>(layers * needs.num_sets);
    params.kept.positions = arena->Take<int32_t>(layers * needs.num_sets * needs.capacity);
  }
  if (needs.keeps_newlines) params.keep = arena->Take<int32_t>(needs.capacity);
  if (needs.scores_tokens || needs.scores_pages) {
    params.scores = needs.whole_scores ? static_cast<void*>(arena->Take<float>(heads * tokens))
                                       : arena->Take<uint16_t>(heads * tokens);
    params.ordered =
        arena->Take<uint32_t>((needs.by_rank ? heads : int64_t{needs.num_sets}) * tokens);
  }
  if (!needs.scores_tokens) return params;
  params.page_max = arena->Take<float>(pages * heads);
  params.unit_stats = arena->Take<float2>(RoundUp(CeilDiv(pages, kUnitPages), 2) * heads);
  params.masses = arena->Take<float>(needs.num_sets * tokens);
  if (needs.has_values) params.values = arena->Take<float>(needs.num_sets * tokens);
  if (needs.by_rank) {
    params.ranked = arena->Take<int32_t>(heads * tokens);
    params.num_ranked = arena->Take<int32_t>(heads);
  }
  return params;
}

Status Selection::Prepare(int32_t s, const AttentionPlan& plan) {
  if (plan.is_full()) return OkStatus();
  State& state = states_[static_cast<size_t>(s)];
  const Needs needs = NeedsOf(plan);
  Arena counted(nullptr);
  Lay(needs, &counted, &state.control_bytes);
  // Steps that still run may use the memory.
  TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(options_.stream));
  state.num_sets = 0;
  if (state.memory.bytes() < counted.bytes()) {
    state.memory = DeviceBuffer();
    Result<DeviceBuffer> memory =
        DeviceBuffer::Create(counted.bytes(), "attention plan " + plan.ToString());
    if (!memory.ok()) return memory.status();
    state.memory = std::move(memory).value();
  }
  if (needs.keeps_newlines && state.keep.bytes() < needs.capacity * kWord) {
    TIDAL_ASSIGN_OR_RETURN(
        state.keep, PinnedBuffer::Create(needs.capacity * kWord, "the tokens that a plan keeps"));
  }
  Arena arena(state.memory.data());
  state.pointers = Lay(needs, &arena, &state.control_bytes);
  state.num_sets = needs.num_sets;
  return CudaStatus(cudaMemsetAsync(state.memory.data(), 0,
                                    static_cast<size_t>(state.control_bytes), options_.stream),
                    "clearing the sets of a plan");
}

Selection::Launches Selection::LaunchesOf(const AttentionPlan& plan) const {
  return {.num_sets = NumSets(plan.scope, options_.num_heads, options_.num_kv_heads),
          .scores_tokens = HasMass(plan.scorer),
          .scores_pages = ScoresPages(plan.scorer),
          .whole_scores = KeptScoresOf(plan, options_.precision) != KeptScores::kHalfProbs,
          .by_rank = RanksByHead(plan),
          .counts_bins = CountsBins(plan),
          .selects = !CountsBins(plan) || plan.refresh_cosine <= 1,
          .decides = plan.refresh_cosine <= 1};
}

// Always-kept tokens beside those at the ends, on their way to the device.
void Selection::SetKeep(const StepSequence& sequence, const SetSizes& sizes, ChoiceParams* params) {
  State& state = states_[static_cast<size_t>(sequence.state)];
  const bool by_mass = sequence.plan->mass > 0;
  // Newest first: those that are recent anyway come before the others, those among the sinks after.
  const int32_t* end = sequence.keep + sequence.num_keep;
  const int32_t* begin =
      std::find_if(sequence.keep, end, [&](int32_t p) { return p < params->always_end; });
  const int32_t* sunk =
      std::find_if(begin, end, [&](int32_t p) { return p < params->always_begin; });
  int64_t most = std::min(sizes.max_keep, params->capacity);
  if (!by_mass) {
    const int32_t ends = params->always_begin + (sequence.kv_len - params->always_end);
    most = std::clamp<int64_t>(sizes.token_budget - ends, 0, most);
  }
  params->num_keep = static_cast<int32_t>(std::min<int64_t>(sunk - begin, most));
  if (params->num_keep == 0) return;
  const auto keep_bytes = static_cast<size_t>(params->num_keep * kWord);
  std::memcpy(state.keep.data(), begin, keep_bytes);
  status_.Note(cudaMemcpyAsync(const_cast<int32_t*>(params->keep), state.keep.data(), keep_bytes,
                               cudaMemcpyHostToDevice, options_.stream),
               "uploading kept positions");
}

ChoiceParams Selection::ParamsOf(const StepSequence& sequence) {
  const AttentionPlan& plan = *sequence.plan;
  const State& state = states_[static_cast<size_t>(sequence.state)];
  const SetSizes sizes = plan.SizesAt(sequence.kv_len);
  const bool scores_tokens = HasMass(plan.scorer);
  ChoiceParams params = state.pointers;
  params.num_sets = NumSets(plan.scope, options_.num_heads, options_.num_kv_heads);
  TIDAL_CHECK(params.num_sets == state.num_sets, "state {} was prepared for {} sets, not {}",
              sequence.state, state.num_sets, params.num_sets);
  params.heads_per_set = options_.num_heads / params.num_sets;
  params.scorer = plan.scorer;
  params.merge = plan.merge;
  params.kept_scores = KeptScoresOf(plan, options_.precision);
  if (plan.merge == Merge::kScore || plan.merge == Merge::kRank) {
    params.values = static_cast<float*>(params.scores);
  } else if (plan.merge != Merge::kMax || params.heads_per_set == 1) {
    params.values = params.masses;
  }
  params.always_begin = sizes.sinks;
  params.always_end = std::max(params.always_begin, sequence.kv_len - sizes.recent);
  params.num_keep = 0;
  if (sequence.num_keep > 0 && plan.keep_newlines) SetKeep(sequence, sizes, &params);
  // Pages only count where they are chosen.
  const bool by_page = plan.page > 1 && plan.scorer != Scorer::kNone && !RanksByHead(plan);
  params.page = by_page ? plan.page : 1;
  const int32_t free = params.always_end - params.always_begin - params.num_keep;
  const int32_t num_always = sequence.kv_len - free;
  params.wanted = by_page ? sizes.pages : std::clamp(sizes.token_budget - num_always, 0, free);
  params.mass = plan.mass;
  params.floor = plan.floor;
  params.ceil = plan.ceil;
  if (plan.refresh_cosine > 1) params.kept = KeptSets();
  params.refresh_cosine = plan.refresh_cosine;
  params.generation = state.generation;
  params.measures = scores_tokens && (sequence.wants_mass || plan.guard > 0) ? 1 : 0;
  params.counts_bins = CountsBins(plan) ? 1 : 0;
  return params;
}

void Selection::BeginStep(const StepBatch& batch) {
  launches_.clear();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const StepSequence& sequence = batch.sequences[i];
    ChoiceParams& params = params_.host()[i];
    DeviceSets& sets = sets_.host()[i];
    if (sequence.forget_sets) ++states_[static_cast<size_t>(sequence.state)].generation;
    if (sequence.plan == nullptr || sequence.plan->is_full()) {
      params = ChoiceParams();
      sets = DeviceSets();
      launches_.emplace_back();
      continue;
    }
    params = ParamsOf(sequence);
    sets = {params.slots, params.counts, params.capacity, params.num_sets};
    launches_.push_back(LaunchesOf(*sequence.plan));
  }
}

void Selection::Choose(int32_t layer, std::span<const int32_t> sequences, const DeviceStep& step,
                       const DeviceKv& kv, const DeviceIndex& index, const float* q) {
  if (sequences.empty()) return;
  Launches all;
  int32_t total_sets = 0;
  // Of the whole batch, whoever chooses here: the launches then depend on what LaunchKey says only.
  for (const Launches& one : launches_) {
    all.num_sets = std::max(all.num_sets, one.num_sets);
    all.scores_tokens |= one.scores_tokens;
    all.scores_pages |= one.scores_pages;
    all.whole_scores |= one.whole_scores;
    all.by_rank |= one.by_rank;
    all.counts_bins |= one.counts_bins;
    all.selects |= one.selects;
    all.decides |= one.decides;
    total_sets += one.num_sets;
  }
  const auto num_sequences = static_cast<int32_t>(launches_.size());
  const ChoiceLaunch launch = {
      .step = step,
      .kv = kv,
      .index = index,
      .q = q,
      .params = params_.device(),
      .fresh = all.decides ? fresh_.as<int32_t>() : nullptr,
      .reports = reports_.as<DeviceChoiceReport>() + int64_t{layer} * options_.max_sequences,
      .layer = layer,
      .num_heads = options_.num_heads,
      .gqa_ratio = options_.num_heads / options_.num_kv_heads,
      .max_tokens = options_.max_tokens,
      .attn_scale = options_.attn_scale};
  cudaStream_t stream = options_.stream;
  using Part = StepTimer::Part;
  const auto run = [&](bool needed, Part part, auto enqueue, const char* what) {
    if (!needed) return;
    status_.Note(enqueue(), what);
    if (options_.timer != nullptr) options_.timer->EndPart(part);
  };
  run(
      all.decides, Part::kScan, [&] { return LaunchDecide(launch, stream); }, "comparing queries");
  run(
      all.scores_tokens, Part::kScan, [&] { return LaunchScan(launch, geometry_, stream); },
      "scoring keys");
  run(
      all.scores_pages, Part::kScan, [&] { return LaunchBounds(launch, geometry_, stream); },
      "scoring pages");
  run(
      all.scores_tokens, Part::kMerge,
      [&] { return LaunchMerge(launch, geometry_, !all.whole_scores, stream); }, "merging heads");
  const TopKShape by_head =
      ShapeOfTopK(geometry_, options_.max_tokens, num_sequences * options_.num_heads);
  run(
      all.by_rank, Part::kTopK, [&] { return LaunchRank(launch, geometry_, by_head, stream); },
      "ranking");
  run(
      all.counts_bins, Part::kTopK,
      [&] { return LaunchCounted(launch, geometry_, all.num_sets, total_sets, stream); },
      "choosing tokens");
  const TopKShape shape = ShapeOfTopK(geometry_, options_.max_tokens, total_sets);
  run(
      all.selects, Part::kTopK, [&] { return LaunchSelect(launch, shape, all.num_sets, stream); },
      "choosing tokens");
}

Status Selection::ReadSets(int32_t sequence, std::vector<std::vector<int32_t>>* slots) const {
  const DeviceSets& sets = sets_.host()[sequence];
  std::vector<int32_t> counts(static_cast<size_t>(sets.num_sets));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(options_.stream));
  TIDAL_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(counts.data(), sets.counts, counts.size() * kWord, cudaMemcpyDeviceToHost));
  slots->resize(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    std::vector<int32_t>& set = (*slots)[i];
    set.resize(static_cast<size_t>(std::clamp(counts[i], 0, sets.capacity)));
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpy(set.data(),
                                          sets.slots + static_cast<int64_t>(i) * sets.capacity,
                                          set.size() * kWord, cudaMemcpyDeviceToHost));
  }
  return OkStatus();
}

uint64_t Selection::LaunchKey(const StepBatch& batch) const {
  uint64_t key = 0xcbf29ce484222325u;
  const auto mix = [&key](uint64_t value) { key = (key ^ value) * 0x100000001b3u; };
  for (const StepSequence& sequence : batch.sequences) {
    if (sequence.plan == nullptr || sequence.plan->is_full()) {
      mix(0);
      continue;
    }
    const Launches one = LaunchesOf(*sequence.plan);
    mix(1 + static_cast<uint64_t>(one.num_sets) * 16 + (one.scores_tokens ? 1 : 0) +
        (one.scores_pages ? 2 : 0) + (one.by_rank ? 4 : 0) + (one.decides ? 8 : 0));
    mix((one.counts_bins ? 1 : 0) + (one.selects ? 2 : 0) + (one.whole_scores ? 4 : 0));
  }
  return key;
}

int64_t Selection::bytes() const {
  int64_t bytes = reports_.bytes() + fresh_.bytes();
  for (const State& state : states_) bytes += state.memory.bytes();
  return bytes;
}

}  // namespace

Result<std::unique_ptr<CudaSelection>> CudaSelection::Create(const CudaSelectionOptions& options) {
  auto selection = std::make_unique<Selection>(options);
  TIDAL_RETURN_IF_ERROR(selection->Start());
  return std::unique_ptr<CudaSelection>(std::move(selection));
}

}  // namespace tidal
