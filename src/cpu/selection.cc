#include "cpu/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/math.h"
#include "base/stopwatch.h"

namespace tidal {

CpuSelection::CpuSelection(const CpuSelectionOptions& options)
    : kernels_(*options.kernels),
      pool_(options.pool),
      layout_(options.layout),
      num_layers_(options.num_layers),
      num_heads_(options.num_heads),
      gqa_ratio_(options.num_heads / options.layout.num_kv_heads()),
      head_dim_(options.layout.head_dim()),
      padded_head_dim_(PaddedHeadDim(head_dim_)),
      attn_scale_(options.attn_scale),
      precision_(options.precision),
      max_tokens_(static_cast<int32_t>(RoundUp(options.max_tokens, kPageSize))),
      states_(static_cast<size_t>(options.max_sequences)) {}

int64_t CpuSelection::bytes() const {
  int64_t bytes =
      query_memory_.bytes() + score_memory_.bytes() + value_memory_.bytes() + rank_memory_.bytes();
  for (const State& state : states_) {
    bytes += state.slots.bytes();
    for (const Kept& kept : state.kept) bytes += kept.query.bytes() + kept.positions.bytes();
  }
  return bytes;
}

void CpuSelection::Forget(int32_t state) {
  for (Kept& kept : states_[static_cast<size_t>(state)].kept) kept.kv_len = 0;
}

Status CpuSelection::Prepare(int32_t s, const AttentionPlan& plan) {
  if (plan.is_full()) return OkStatus();
  if (gqa_ratio_ > kMaxDecodeRows) {
    return Unsupported(
        "attention plan {}: the model has {} heads to a KV head, at most {} can "
        "share one in a sparse row",
        plan.preset, gqa_ratio_, kMaxDecodeRows);
  }
  const Status status = Allocate(s, plan);
  if (status.ok()) return status;
  return status.Annotate("attention plan " + plan.ToString());
}

Status CpuSelection::Allocate(int32_t s, const AttentionPlan& plan) {
  State& state = states_[static_cast<size_t>(s)];
  const int32_t num_sets = NumSets(plan.scope, num_heads_, layout_.num_kv_heads());
  const int64_t capacity = MaxSetTokens(plan, max_tokens_);
  constexpr auto kWord = static_cast<int64_t>(sizeof(float));
  TIDAL_RETURN_IF_ERROR(AllocateShared(plan, num_sets));
  if (state.sets.size() * static_cast<size_t>(state.capacity) <
      static_cast<size_t>(num_sets * capacity)) {
    TIDAL_ASSIGN_OR_RETURN(state.slots, AlignedBuffer::Create(num_sets * capacity * kWord));
  }
  state.capacity = capacity;
  state.sets.assign(static_cast<size_t>(num_sets), SlotSet());
  state.kept.clear();
  if (plan.refresh_cosine > 1) return OkStatus();
  state.kept.resize(static_cast<size_t>(num_layers_));
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    if (!plan.Selects(layer) && plan.variants.empty()) continue;
    Kept& kept = state.kept[static_cast<size_t>(layer)];
    TIDAL_ASSIGN_OR_RETURN(kept.query,
                           AlignedBuffer::Create(int64_t{num_heads_} * head_dim_ * kWord));
    TIDAL_ASSIGN_OR_RETURN(kept.positions, AlignedBuffer::Create(num_sets * capacity * kWord));
    kept.counts.resize(static_cast<size_t>(num_sets));
  }
  return OkStatus();
}

// What choices of all sequences work in, one after the other.
Status CpuSelection::AllocateShared(const AttentionPlan& plan, int32_t num_sets) {
  constexpr auto kWord = static_cast<int64_t>(sizeof(float));
  const int64_t pages = max_tokens_ / kPageSize;
  const int64_t stats = RoundUp(pages * num_heads_, 16);
  const int64_t heads = RoundUp(num_heads_, 16);
  const bool by_rank = plan.merge == Merge::kRank;
  const int64_t value_rows =
      std::max(num_sets + (plan.page > 1 ? num_sets : 0), by_rank ? num_heads_ : 0);
  if (scores_ == nullptr) {
    const int64_t score_floats = int64_t{max_tokens_} * num_heads_;
    TIDAL_ASSIGN_OR_RETURN(query_memory_,
                           AlignedBuffer::Create(2 * num_heads_ * padded_head_dim_ * kWord));
    rows_ = reinterpret_cast<float*>(query_memory_.data());
    packed_ = rows_ + num_heads_ * padded_head_dim_;
    TIDAL_ASSIGN_OR_RETURN(score_memory_,
                           AlignedBuffer::Create((score_floats + 3 * stats + 2 * heads) * kWord));
    scores_ = reinterpret_cast<float*>(score_memory_.data());
    page_max_ = scores_ + score_floats;
    page_sum_ = page_max_ + stats;
    factors_ = page_sum_ + stats;
    head_max_ = factors_ + stats;
    head_sum_ = head_max_ + heads;
    scratch_.resize(static_cast<size_t>(pool_->num_threads()));
    for (Scratch& scratch : scratch_) {
      scratch.top_k.Reserve(max_tokens_);
      scratch.chosen.resize(static_cast<size_t>(max_tokens_) + 1);
      scratch.saved.resize(static_cast<size_t>(max_tokens_));
      scratch.probs.resize(static_cast<size_t>(kMaxDecodeRows) * kPageSize);
      scratch.bounds.resize(static_cast<size_t>(4 * padded_head_dim_));
    }
  }
  const int64_t value_bytes = value_rows * max_tokens_ * kWord;
  if (value_memory_.bytes() < value_bytes) {
    TIDAL_ASSIGN_OR_RETURN(value_memory_, AlignedBuffer::Create(value_bytes));
    values_ = reinterpret_cast<float*>(value_memory_.data());
  }
  if (by_rank && rank_memory_.bytes() == 0) {
    TIDAL_ASSIGN_OR_RETURN(rank_memory_,
                           AlignedBuffer::Create(int64_t{num_heads_} * max_tokens_ * kWord));
    for (Scratch& scratch : scratch_) scratch.is_taken.resize(static_cast<size_t>(max_tokens_));
  }
  return OkStatus();
}

CpuSelection::Job CpuSelection::MakeJob(const LayerKeys& keys, const StepSequence& sequence,
                                        const float* q) {
  Job job = {};
  job.keys = &keys;
  job.sequence = &sequence;
  job.plan = sequence.plan;
  job.q = q;
  job.state = &states_[static_cast<size_t>(sequence.state)];
  job.kv_len = sequence.kv_len;
  job.sizes = job.plan->SizesAt(job.kv_len);
  job.num_pages = static_cast<int32_t>(CeilDiv(job.kv_len, kPageSize));
  job.num_sets = NumSets(job.plan->scope, num_heads_, layout_.num_kv_heads());
  job.heads_per_set = num_heads_ / job.num_sets;
  job.num_units = static_cast<int32_t>(CeilDiv(job.kv_len, job.plan->page));
  const bool by_mass = job.plan->mass > 0;
  job.keeps_scores =
      job.plan->merge == Merge::kRank || (job.plan->merge == Merge::kScore && !by_mass);
  job.always_begin = job.sizes.sinks;
  job.always_end = std::max(job.always_begin, job.kv_len - job.sizes.recent);
  // Newest first: those that are recent anyway come before the others, those among the sinks after.
  const int32_t* keep_end = sequence.keep + sequence.num_keep;
  job.keep = std::find_if(sequence.keep, keep_end, [&](int32_t p) { return p < job.always_end; });
  const int32_t* sunk =
      std::find_if(job.keep, keep_end, [&](int32_t p) { return p < job.always_begin; });
  int64_t most = job.sizes.max_keep;
  if (!by_mass) {
    const int32_t ends = job.always_begin + (job.kv_len - job.always_end);
    most = std::clamp<int64_t>(job.sizes.token_budget - ends, 0, most);
  }
  job.num_keep = static_cast<int32_t>(std::min<int64_t>(sunk - job.keep, most));
  job.num_always = job.always_begin + (job.kv_len - job.always_end) + job.num_keep;
  job.counts_bins = HasMass(job.plan->scorer) && job.num_sets == 1 && !by_mass &&
                    job.plan->page == 1 && job.num_keep == 0 && job.plan->merge != Merge::kRank;
  return job;
}

Choice CpuSelection::Choose(const LayerKeys& keys, const StepSequence& sequence, const float* q,
                            ExecutorProfile* profile) {
  Job job = MakeJob(keys, sequence, q);
  TIDAL_CHECK(static_cast<int32_t>(job.state->sets.size()) == job.num_sets,
              "state {} was prepared for {} sets, not {}", sequence.state, job.state->sets.size(),
              job.num_sets);
  Choice choice;
  choice.selected_mass = std::numeric_limits<float>::quiet_NaN();
  choice.fresh = !CanReuse(job);
  job.counts_bins = job.counts_bins && choice.fresh;
  const bool scores_pages =
      job.plan->scorer == Scorer::kPagesMinMax || job.plan->scorer == Scorer::kPagesMeanStd;
  // A set that is used again needs no scores, but to say how much it still holds: a scan that
  // somebody must want.
  const bool measures =
      HasMass(job.plan->scorer) && (choice.fresh || sequence.wants_mass || job.plan->guard > 0);
  if (measures) {
    ScoreTokens(job, profile);
    const Stopwatch stopwatch(&profile->merge_ms);
    MergeHeads(job);
  } else if (scores_pages && choice.fresh) {
    ScorePageBounds(job, profile);
  }
  {
    const Stopwatch stopwatch(&profile->top_k_ms);
    if (choice.fresh) {
      TakeSets(job);
      Keep(job);
    } else {
      ReuseKept(job);
    }
    if (measures) choice.selected_mass = SelectedMass(job);
    ResolveSlots(job);
  }
  choice.sets = job.state->sets;
  return choice;
}

bool CpuSelection::CanReuse(const Job& job) const {
  if (job.plan->refresh_cosine > 1) return false;
  const Kept& kept = job.state->kept[static_cast<size_t>(job.keys->layer)];
  if (kept.kv_len == 0) return false;
  const auto* before = reinterpret_cast<const float*>(kept.query.data());
  double dot = 0;
  double norm_now = 0;
  double norm_before = 0;
  for (int64_t i = 0; i < int64_t{num_heads_} * head_dim_; ++i) {
    const double now = job.q[i];
    const double then = before[i];
    dot += now * then;
    norm_now += now * now;
    norm_before += then * then;
  }
  return dot / std::sqrt(norm_now * norm_before) >= job.plan->refresh_cosine;
}

void CpuSelection::Keep(const Job& job) {
  if (job.plan->refresh_cosine > 1) return;
  Kept& kept = job.state->kept[static_cast<size_t>(job.keys->layer)];
  kept.kv_len = job.kv_len;
  std::copy_n(job.q, int64_t{num_heads_} * head_dim_, reinterpret_cast<float*>(kept.query.data()));
  for (int32_t set = 0; set < job.num_sets; ++set) {
    const int32_t count = job.state->sets[static_cast<size_t>(set)].count;
    kept.counts[static_cast<size_t>(set)] = count;
    std::copy_n(PositionsOf(job, set), count,
                reinterpret_cast<int32_t*>(kept.positions.data()) + set * job.state->capacity);
  }
}

void CpuSelection::ReuseKept(const Job& job) {
  const Kept& kept = job.state->kept[static_cast<size_t>(job.keys->layer)];
  for (int32_t set = 0; set < job.num_sets; ++set) {
    int32_t* positions = PositionsOf(job, set);
    int32_t count = kept.counts[static_cast<size_t>(set)];
    std::copy_n(reinterpret_cast<const int32_t*>(kept.positions.data()) + set * job.state->capacity,
                count, positions);
    for (int32_t pos = kept.kv_len; pos < job.kv_len; ++pos) positions[count++] = pos;
    job.state->sets[static_cast<size_t>(set)].count = count;
  }
}

void CpuSelection::ResolveSlots(const Job& job) {
  for (int32_t set = 0; set < job.num_sets; ++set) {
    SlotSet& chosen = job.state->sets[static_cast<size_t>(set)];
    int32_t* slots = PositionsOf(job, set);
    chosen.slots = slots;
    for (int32_t i = 0; i < chosen.count; ++i) {
      const int32_t pos = slots[i];
      slots[i] = job.sequence->page_table[pos / kPageSize] * kPageSize + pos % kPageSize;
    }
  }
}

// The share of the set's heads' probability, summed over them, that lies at a position.
double CpuSelection::MassOf(const Job& job, int32_t set, int32_t pos) const {
  const int32_t page = pos / kPageSize;
  double mass = 0;
  for (int32_t i = 0; i < job.heads_per_set; ++i) {
    const int32_t head = set * job.heads_per_set + i;
    const float score = ScoresOf(page, head)[pos % kPageSize];
    mass += job.keeps_scores
                ? static_cast<double>(std::exp(score - head_max_[head]) / head_sum_[head])
                : static_cast<double>(score * factors_[int64_t{page} * num_heads_ + head]);
  }
  return mass;
}

float CpuSelection::SelectedMass(const Job& job) const {
  const bool values_are_mass =
      !job.keeps_scores && (job.plan->merge != Merge::kMax || job.heads_per_set == 1);
  double total = 0;
  for (int32_t set = 0; set < job.num_sets; ++set) {
    const int32_t* positions = PositionsOf(job, set);
    const float* values = ValuesOf(set);
    for (int32_t i = 0; i < job.state->sets[static_cast<size_t>(set)].count; ++i) {
      const int32_t pos = positions[i];
      total += values_are_mass ? static_cast<double>(values[pos]) : MassOf(job, set, pos);
    }
  }
  return static_cast<float>(total / num_heads_);
}

}  // namespace tidal
