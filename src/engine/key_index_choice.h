// Which layers of the cache get a key index. It is the cache's property, fixed at load.
#ifndef TIDAL_ENGINE_KEY_INDEX_CHOICE_H_
#define TIDAL_ENGINE_KEY_INDEX_CHOICE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "executor/options.h"

namespace tidal {

struct KeyIndexChoice {
  std::vector<uint8_t> layers;  // [num_layers], nonzero: it has one; empty: none has
  int32_t bits = 4;             // of a code

  int32_t num_layers() const;
  bool Has(int32_t layer) const {
    return !layers.empty() && layers[static_cast<size_t>(layer)] != 0;
  }
};

// `bits` 0 and kAuto take what the known plans select by (those that differ in bits: 4), or every
// layer and 4 bits where no plan is known.
KeyIndexChoice ChooseKeyIndex(IndexLayers layers, int32_t bits, int32_t num_layers,
                              std::span<const AttentionPlan> known_plans);

// The first layer in which the plan, or a variant of it, selects by an index that is not there; -1
// where there is none.
int32_t FirstLayerWithoutIndex(const AttentionPlan& plan, const KeyIndexChoice& index);

}  // namespace tidal

#endif  // TIDAL_ENGINE_KEY_INDEX_CHOICE_H_
