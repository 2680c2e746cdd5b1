// What each layer of a decoded row read, for --trace.
#ifndef TIDAL_ENGINE_TRACE_H_
#define TIDAL_ENGINE_TRACE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "scheduler/step_batch.h"

namespace tidal {

// One layer of one decoded row.
struct LayerTrace {
  int32_t step = 0;  // decoded rows of the request before this one
  int32_t pos = 0;   // of the row's token
  int32_t layer = 0;
  LayerRole role = LayerRole::kFull;
  double tokens_attended = 0;  // the mean over the sets that are read
  // Of the set that the layer chose; 1 where it reads everything and chooses nothing; NaN in reuse
  // layers and where the scorer gives no probabilities.
  float selected_mass = 1;
  bool chose = false;
  bool fresh = false;  // chose: in this step, not an earlier set with every token since
  // Of a layer that chose: the positions in each of its sets, ascending.
  std::span<const std::vector<int32_t>> positions;
};

// Told once per layer, in order, after the row's step. What the spans point to is reused.
using TraceFn = std::function<void(const LayerTrace&)>;

// Gathers what a step tells its observer, as positions instead of slots. A step that is observed
// is slower and allocates. Not thread-safe.
class TraceCollector : public StepObserver {
 public:
  TraceCollector(int32_t num_layers, int32_t num_pages);

  // Starts a step; the batch is alive until its last Tell.
  void Begin(const StepBatch* batch);
  void OnChosen(int32_t layer, int32_t sequence, bool fresh, float selected_mass,
                std::span<const SlotSet> sets) override;
  // After the step: hands out the layers of a decoded row, batch.sequences[sequence].
  void Tell(int32_t sequence, int32_t step, const TraceFn& trace) const;

 private:
  struct Choice {
    bool made = false;
    bool fresh = false;
    float selected_mass = 1;
    double tokens = 0;
    std::vector<std::vector<int32_t>> positions;
  };
  Choice& ChoiceAt(int32_t sequence, int32_t layer) {
    return choices_[static_cast<size_t>(sequence) * static_cast<size_t>(num_layers_) +
                    static_cast<size_t>(layer)];
  }

  int32_t num_layers_;
  const StepBatch* batch_ = nullptr;
  std::vector<int32_t> page_index_;  // [num_pages], of the sequence at hand: where in its table
  std::vector<Choice> choices_;      // [sequences][num_layers]
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_TRACE_H_
