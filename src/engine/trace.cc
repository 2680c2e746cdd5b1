#include "engine/trace.h"

#include <algorithm>
#include <limits>

#include "base/math.h"

namespace tidal {

TraceCollector::TraceCollector(int32_t num_layers, int32_t num_pages)
    : num_layers_(num_layers), page_index_(static_cast<size_t>(num_pages)) {}

void TraceCollector::Begin(const StepBatch* batch) {
  batch_ = batch;
  choices_.assign(batch->sequences.size() * static_cast<size_t>(num_layers_), Choice());
}

void TraceCollector::OnChosen(int32_t layer, int32_t sequence, bool fresh, float selected_mass,
                              std::span<const SlotSet> sets) {
  const StepSequence& entry = batch_->sequences[static_cast<size_t>(sequence)];
  for (int32_t i = 0; i < CeilDiv(entry.kv_len, kPageSize); ++i)
    page_index_[static_cast<size_t>(entry.page_table[i])] = i;
  Choice& choice = ChoiceAt(sequence, layer);
  choice.made = true;
  choice.fresh = fresh;
  choice.selected_mass = selected_mass;
  for (const SlotSet& set : sets) {
    std::vector<int32_t>& positions = choice.positions.emplace_back();
    positions.reserve(static_cast<size_t>(set.count));
    for (const int32_t slot : std::span(set.slots, static_cast<size_t>(set.count))) {
      const int32_t page = page_index_[static_cast<size_t>(slot / kPageSize)];
      positions.push_back(page * kPageSize + slot % kPageSize);
    }
    std::sort(positions.begin(), positions.end());
    choice.tokens += static_cast<double>(positions.size());
  }
  if (!sets.empty()) choice.tokens /= static_cast<double>(sets.size());
}

void TraceCollector::Tell(int32_t sequence, int32_t step, const TraceFn& trace) const {
  const StepSequence& entry = batch_->sequences[static_cast<size_t>(sequence)];
  const Choice* row =
      choices_.data() + static_cast<size_t>(sequence) * static_cast<size_t>(num_layers_);
  double set_tokens = 0;
  for (int32_t layer = 0; layer < num_layers_; ++layer) {
    const Choice& choice = row[layer];
    if (choice.made) set_tokens = choice.tokens;
    LayerTrace line;
    line.step = step;
    line.pos = entry.kv_len - 1;
    line.layer = layer;
    line.role = entry.plan == nullptr ? LayerRole::kFull : entry.plan->Role(layer);
    line.tokens_attended =
        line.role == LayerRole::kFull ? static_cast<double>(entry.kv_len) : set_tokens;
    line.chose = choice.made;
    line.fresh = choice.fresh;
    if (choice.made)
      line.selected_mass = choice.selected_mass;
    else if (line.role != LayerRole::kFull)
      line.selected_mass = std::numeric_limits<float>::quiet_NaN();
    line.positions = choice.positions;
    trace(line);
  }
}

}  // namespace tidal
