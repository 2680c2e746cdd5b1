// From values to sets: the always-kept tokens and the best of the others.
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/math.h"
#include "cpu/selection.h"

namespace tidal {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void CpuSelection::TakeSets(const Job& job) {
  if (job.plan->merge == Merge::kRank && HasMass(job.plan->scorer)) {
    TakeByRank(job);
    return;
  }
  pool_->ParallelFor(job.num_sets, 1, [&](int64_t begin, int64_t end, int thread) {
    for (auto set = static_cast<int32_t>(begin); set < end; ++set) {
      int32_t count = 0;
      if (job.plan->scorer == Scorer::kNone) {
        count = AddAlways(job, nullptr, 0, PositionsOf(job, set));
      } else if (job.plan->page > 1) {
        count = TakePages(job, set, thread);
      } else {
        count = TakeTokens(job, set, thread);
      }
      job.state->sets[static_cast<size_t>(set)].count = count;
    }
  });
}

// Always-kept tokens and `chosen` (ascending, none of them always kept), ascending, to `positions`.
int32_t CpuSelection::AddAlways(const Job& job, const int32_t* chosen, int32_t num_chosen,
                                int32_t* positions) {
  int32_t count = 0;
  for (int32_t pos = 0; pos < job.always_begin; ++pos) positions[count++] = pos;
  std::copy_n(chosen, num_chosen, positions + count);
  count += num_chosen;
  if (job.num_keep > 0) {
    std::copy_n(job.keep, job.num_keep, positions + count);
    count += job.num_keep;
    std::sort(positions + job.always_begin, positions + count);
  }
  for (int32_t pos = job.always_end; pos < job.kv_len; ++pos) positions[count++] = pos;
  return count;
}

int32_t CpuSelection::TakeTokens(const Job& job, int32_t set, int thread) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  float* values = ValuesOf(set);
  // Kept tokens between the ends must not be chosen again.
  for (int32_t i = 0; i < job.num_keep; ++i) {
    scratch.saved[static_cast<size_t>(i)] = values[job.keep[i]];
    values[job.keep[i]] = -kInfinity;
  }
  const ValueRange range = {values, job.always_begin, job.always_end};
  int32_t* chosen = scratch.chosen.data();
  int32_t num_chosen = 0;
  if (job.plan->mass > 0) {
    for (int32_t i = 0; i < job.num_keep; ++i)
      values[job.keep[i]] = scratch.saved[static_cast<size_t>(i)];
    num_chosen = TakeByMass(job, set, thread, chosen);
  } else {
    const int32_t free = job.always_end - job.always_begin - job.num_keep;
    const int32_t wanted = std::clamp(job.sizes.token_budget - job.num_always, 0, free);
    if (!job.counts_bins) CountIntoBins(range, scratch.top_k.bins.data());
    num_chosen = TopK(kernels_.selection, range, wanted, &scratch.top_k, chosen);
    for (int32_t i = 0; i < job.num_keep; ++i)
      values[job.keep[i]] = scratch.saved[static_cast<size_t>(i)];
  }
  return AddAlways(job, chosen, num_chosen, PositionsOf(job, set));
}

int32_t CpuSelection::TakeByMass(const Job& job, int32_t set, int thread, int32_t* chosen) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  const double scale = 1.0 / job.heads_per_set;
  MassTarget target = {.share = job.plan->mass,
                       .have = 0,
                       .size = job.num_always,
                       .floor = job.plan->floor,
                       .ceil = job.plan->ceil,
                       .scale = scale};
  const auto add = [&](int32_t pos) { target.have += MassOf(job, set, pos) * scale; };
  for (int32_t pos = 0; pos < job.always_begin; ++pos) add(pos);
  for (int32_t pos = job.always_end; pos < job.kv_len; ++pos) add(pos);
  for (int32_t i = 0; i < job.num_keep; ++i) add(job.keep[i]);
  float* values = ValuesOf(set);
  const ValueRange range = {values, job.always_begin, job.always_end};
  if (job.num_keep == 0 && (job.plan->merge != Merge::kMax || job.heads_per_set == 1))
    return TopMass(kernels_.selection, range, target, &scratch.top_k, chosen);
  // Ranked by another value than is summed: all of them in order.
  for (int32_t i = 0; i < job.num_keep; ++i) {
    scratch.saved[static_cast<size_t>(i)] = values[job.keep[i]];
    values[job.keep[i]] = -kInfinity;
  }
  const int32_t free = range.end - range.begin - job.num_keep;
  const int32_t sorted =
      TopKSorted(kernels_.selection, range, std::max(free, 0), &scratch.top_k, chosen);
  for (int32_t i = 0; i < job.num_keep; ++i)
    values[job.keep[i]] = scratch.saved[static_cast<size_t>(i)];
  int32_t count = 0;
  for (; count < sorted; ++count) {
    const int32_t size = target.size + count;
    if (target.have >= target.share && size >= target.floor) break;
    if (target.ceil != 0 && size >= target.ceil) break;
    add(chosen[count]);
  }
  std::sort(chosen, chosen + count);
  return count;
}

int32_t CpuSelection::TakePages(const Job& job, int32_t set, int thread) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  const int32_t page = job.plan->page;
  float* units = UnitValuesOf(job, set);
  if (HasMass(job.plan->scorer)) {
    const float* values = ValuesOf(set);
    for (int32_t unit = 0; unit < job.num_units; ++unit) {
      const int32_t end = std::min((unit + 1) * page, job.kv_len);
      units[unit] = *std::max_element(values + unit * page, values + end);
    }
  }
  // First come those that hold an always-kept token or the current one.
  for (int32_t pos = 0; pos < job.always_begin; ++pos) units[pos / page] = kInfinity;
  for (int32_t pos = job.always_end; pos < job.kv_len; ++pos) units[pos / page] = kInfinity;
  for (int32_t i = 0; i < job.num_keep; ++i) units[job.keep[i] / page] = kInfinity;
  units[job.num_units - 1] = kInfinity;
  const ValueRange range = {units, 0, job.num_units};
  CountIntoBins(range, scratch.top_k.bins.data());
  int32_t* chosen = scratch.chosen.data();
  const int32_t num_chosen = TopK(kernels_.selection, range,
                                  std::min(job.sizes.pages, job.num_units), &scratch.top_k, chosen);
  int32_t* positions = PositionsOf(job, set);
  int32_t count = 0;
  for (int32_t i = 0; i < num_chosen; ++i) {
    const int32_t end = std::min((chosen[i] + 1) * page, job.kv_len);
    for (int32_t pos = chosen[i] * page; pos < end; ++pos) positions[count++] = pos;
  }
  return count;
}

// Every head ranks the tokens by its own score; then rank by rank over a set's heads.
void CpuSelection::TakeByRank(const Job& job) {
  auto* ranks = reinterpret_cast<int32_t*>(rank_memory_.data());
  const int32_t free = job.always_end - job.always_begin - job.num_keep;
  const int32_t wanted = std::clamp(job.sizes.token_budget - job.num_always, 0, free);
  pool_->ParallelFor(num_heads_, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t head = begin; head < end; ++head) {
      float* values = ValuesOf(head);
      for (int32_t i = 0; i < job.num_keep; ++i) values[job.keep[i]] = -kInfinity;
      const int32_t count =
          TopKSorted(kernels_.selection, {values, job.always_begin, job.always_end}, wanted,
                     &scratch_[static_cast<size_t>(thread)].top_k, ranks + head * max_tokens_);
      std::fill(ranks + head * max_tokens_ + count, ranks + head * max_tokens_ + wanted, -1);
    }
  });
  for (int32_t set = 0; set < job.num_sets; ++set)
    job.state->sets[static_cast<size_t>(set)].count = WalkRanks(job, set, wanted);
}

int32_t CpuSelection::WalkRanks(const Job& job, int32_t set, int32_t wanted) {
  const auto* ranks = reinterpret_cast<const int32_t*>(rank_memory_.data());
  Scratch& scratch = scratch_[0];
  int32_t* chosen = scratch.chosen.data();
  int32_t count = 0;
  for (int32_t rank = 0; rank < wanted && count < wanted; ++rank) {
    for (int32_t i = 0; i < job.heads_per_set && count < wanted; ++i) {
      const int64_t head = set * job.heads_per_set + i;
      const int32_t pos = ranks[head * max_tokens_ + rank];
      if (pos < 0 || scratch.is_taken[static_cast<size_t>(pos)] != 0) continue;
      scratch.is_taken[static_cast<size_t>(pos)] = 1;
      chosen[count++] = pos;
    }
  }
  for (int32_t i = 0; i < count; ++i) scratch.is_taken[static_cast<size_t>(chosen[i])] = 0;
  std::sort(chosen, chosen + count);
  return AddAlways(job, chosen, count, PositionsOf(job, set));
}

}  // namespace tidal
