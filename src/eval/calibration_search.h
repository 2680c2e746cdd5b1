// Which layers should choose: greedy searches over sets of layers, led by measured losses alone.
// They know no model and no engine.
//
// Layer 0 is in every set: the layers before the first that chooses have to read everything, which
// costs more than choosing does. All results depend on the losses only, and equal losses go to the
// smaller layer.
#ifndef TIDAL_EVAL_CALIBRATION_SEARCH_H_
#define TIDAL_EVAL_CALIBRATION_SEARCH_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "base/status.h"

namespace tidal {

using LayerSet = std::vector<int32_t>;  // those that choose, ascending

struct MeasuredSet {
  LayerSet layers;
  double loss = 0;  // by all rows
};

// What a loss is the mean of: a few rows tell what is hopeless, all of them decide.
enum class LossRows : uint8_t { kFew, kAll };

// The losses of sets, in their order. Its error ends the search and is handed on. Asked for what it
// has given before, it should remember.
using MeasureSetsFn =
    std::function<Result<std::vector<double>>(std::span<const LayerSet> sets, LossRows rows)>;

struct SearchLimits {
  int32_t fewest = 1;  // layers that dropping ends with
  int32_t most = 1;    // layers that adding ends with
  // Adding ends with a set that loses at most this; dropping goes in strides where it does.
  double enough = 0;
  // Dropping ends with a set that loses more than this.
  double hopeless = std::numeric_limits<double>::infinity();
};

// A round tries at most so many layers by few rows, those that did best when they were last tried,
// and of these so many by all rows.
inline constexpr int32_t kTriedLayers = 12;
inline constexpr int32_t kFinalists = 3;

// From every layer, drops those whose choices are missed least. Every set that was measured by all
// rows, in order. REQUIRES: at least one layer.
Result<std::vector<MeasuredSet>> DropLayers(int32_t num_layers, const SearchLimits& limits,
                                            const MeasureSetsFn& measure);
// From layer 0 alone, adds those whose choices help most.
Result<std::vector<MeasuredSet>> AddLayers(int32_t num_layers, const SearchLimits& limits,
                                           const MeasureSetsFn& measure);

// Of each size the set with the least loss, but for sets that lose no less than a smaller one; by
// ascending size.
std::vector<MeasuredSet> BestOfEachSize(std::vector<MeasuredSet> sets);

// How many sets both searches measure, at most.
struct SearchCost {
  int64_t few = 0;
  int64_t all = 0;
};
SearchCost MostOfSearch(int32_t num_layers, const SearchLimits& limits);

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_SEARCH_H_
