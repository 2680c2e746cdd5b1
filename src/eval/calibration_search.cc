#include "eval/calibration_search.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace tidal {
namespace {

LayerSet AllLayers(int32_t num_layers) {
  LayerSet layers(static_cast<size_t>(num_layers));
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

LayerSet Without(LayerSet set, std::span<const int32_t> layers) {
  std::erase_if(set, [&](int32_t layer) {
    return std::find(layers.begin(), layers.end(), layer) != layers.end();
  });
  return set;
}

LayerSet With(LayerSet set, int32_t layer) {
  set.insert(std::upper_bound(set.begin(), set.end(), layer), layer);
  return set;
}

// What changing one layer did to the loss by few rows, when it was last tried.
struct Trial {
  int32_t layer = 0;
  double change = -std::numeric_limits<double>::infinity();  // not tried yet: before all others
};

// The layers that are left to change, and how promising they are. Most layers do about as well in
// the next round as in the last, so that only the best of them are tried again.
class Trials {
 public:
  explicit Trials(std::span<const int32_t> layers) {
    for (const int32_t layer : layers) trials_.push_back({layer});
  }

  int32_t size() const { return static_cast<int32_t>(trials_.size()); }

  // Tries the most promising layers, where changed(layer) is the set with that layer changed, and
  // returns them, the best first.
  template <typename Changed>
  Result<std::vector<int32_t>> Round(const LayerSet& set, const Changed& changed,
                                     const MeasureSetsFn& measure) {
    Sort(trials_.end());
    std::vector<LayerSet> sets = {set};
    const int32_t count = NumTried(is_first_, size());
    is_first_ = false;
    for (int32_t i = 0; i < count; ++i)
      sets.push_back(changed(trials_[static_cast<size_t>(i)].layer));
    TIDAL_ASSIGN_OR_RETURN(const std::vector<double> losses, measure(sets, LossRows::kFew));
    for (size_t i = 1; i < losses.size(); ++i) trials_[i - 1].change = losses[i] - losses[0];
    Sort(trials_.begin() + count);
    std::vector<int32_t> best;
    for (int32_t i = 0; i < count; ++i) best.push_back(trials_[static_cast<size_t>(i)].layer);
    return best;
  }

  void Remove(std::span<const int32_t> layers) {
    std::erase_if(trials_, [&](const Trial& trial) {
      return std::find(layers.begin(), layers.end(), trial.layer) != layers.end();
    });
  }

  static int32_t NumTried(bool is_first, int32_t num_layers) {
    return is_first ? num_layers : std::min(kTriedLayers, num_layers);
  }

 private:
  void Sort(std::vector<Trial>::iterator end) {
    std::sort(trials_.begin(), end, [](const Trial& a, const Trial& b) {
      return std::tie(a.change, a.layer) < std::tie(b.change, b.layer);
    });
  }

  std::vector<Trial> trials_;
  bool is_first_ = true;
};

// How many layers to drop at once: single ones hardly matter as long as most of them choose.
int32_t StrideOf(int32_t size, int32_t fewest) {
  constexpr int32_t kShare = 6;
  return std::clamp(size / kShare, 1, size - fewest);
}

// The finalists of a round that drops up to `stride` of the layers in `best`: the stride whole,
// half of it, and one layer; of single layers the best few.
std::vector<std::vector<int32_t>> DropFinalists(const std::vector<int32_t>& best, int32_t stride) {
  std::vector<std::vector<int32_t>> finalists;
  const auto first = [&](int32_t count) {
    return std::vector<int32_t>(best.begin(), best.begin() + count);
  };
  for (int32_t count = stride; count > 1; count = (count + 1) / 2) {
    finalists.push_back(first(count));
    if (count == 2) break;
  }
  const size_t singles = stride > 1 ? 1 : static_cast<size_t>(kFinalists);
  for (size_t i = 0; i < std::min(best.size(), singles); ++i) finalists.push_back({best[i]});
  return finalists;
}

// The longest stride that is good enough; else the single layer that is missed least.
size_t ChooseFinalist(const std::vector<std::vector<int32_t>>& finalists,
                      const std::vector<double>& losses, double enough) {
  size_t best = finalists.size();
  for (size_t i = 0; i < finalists.size(); ++i) {
    if (finalists[i].size() > 1) {
      if (losses[i] <= enough) return i;
    } else if (best == finalists.size() || losses[i] < losses[best]) {
      best = i;
    }
  }
  return best;
}

}  // namespace

Result<std::vector<MeasuredSet>> DropLayers(int32_t num_layers, const SearchLimits& limits,
                                            const MeasureSetsFn& measure) {
  TIDAL_CHECK(num_layers >= 1 && limits.fewest >= 1, "{} layers, at least {} of them", num_layers,
              limits.fewest);
  std::vector<MeasuredSet> measured;
  LayerSet set = AllLayers(num_layers);
  TIDAL_ASSIGN_OR_RETURN(const std::vector<double> all, measure({&set, 1}, LossRows::kAll));
  measured.push_back({set, all[0]});
  double loss = all[0];
  Trials trials(std::span<const int32_t>(set).subspan(1));
  while (static_cast<int32_t>(set.size()) > limits.fewest && loss <= limits.hopeless) {
    const auto size = static_cast<int32_t>(set.size());
    TIDAL_ASSIGN_OR_RETURN(const std::vector<int32_t> best, trials.Round(
                                                                set,
                                                                [&](int32_t layer) {
                                                                  return Without(set, {&layer, 1});
                                                                },
                                                                measure));
    const int32_t stride = loss <= limits.enough ? StrideOf(size, limits.fewest) : 1;
    const auto finalists = DropFinalists(best, std::min(stride, static_cast<int32_t>(best.size())));
    std::vector<LayerSet> sets;
    for (const auto& dropped : finalists) sets.push_back(Without(set, dropped));
    TIDAL_ASSIGN_OR_RETURN(const std::vector<double> losses, measure(sets, LossRows::kAll));
    for (size_t i = 0; i < sets.size(); ++i) measured.push_back({sets[i], losses[i]});
    const size_t chosen = ChooseFinalist(finalists, losses, limits.enough);
    trials.Remove(finalists[chosen]);
    set = sets[chosen];
    loss = losses[chosen];
  }
  return measured;
}

Result<std::vector<MeasuredSet>> AddLayers(int32_t num_layers, const SearchLimits& limits,
                                           const MeasureSetsFn& measure) {
  std::vector<MeasuredSet> measured;
  LayerSet set = {0};
  TIDAL_ASSIGN_OR_RETURN(const std::vector<double> first, measure({&set, 1}, LossRows::kAll));
  measured.push_back({set, first[0]});
  double loss = first[0];
  const LayerSet all = AllLayers(num_layers);
  Trials trials(std::span<const int32_t>(all).subspan(1));
  while (static_cast<int32_t>(set.size()) < std::min(limits.most, num_layers) &&
         loss > limits.enough) {
    TIDAL_ASSIGN_OR_RETURN(const std::vector<int32_t> best,
                           trials.Round(
                               set, [&](int32_t layer) { return With(set, layer); }, measure));
    std::vector<LayerSet> sets;
    for (const int32_t layer : std::span(best).first(std::min<size_t>(best.size(), kFinalists)))
      sets.push_back(With(set, layer));
    TIDAL_ASSIGN_OR_RETURN(const std::vector<double> losses, measure(sets, LossRows::kAll));
    for (size_t i = 0; i < sets.size(); ++i) measured.push_back({sets[i], losses[i]});
    const auto least =
        static_cast<size_t>(std::min_element(losses.begin(), losses.end()) - losses.begin());
    trials.Remove({&best[least], 1});
    set = sets[least];
    loss = losses[least];
  }
  return measured;
}

std::vector<MeasuredSet> BestOfEachSize(std::vector<MeasuredSet> sets) {
  std::sort(sets.begin(), sets.end(), [](const MeasuredSet& a, const MeasuredSet& b) {
    const size_t a_size = a.layers.size();
    const size_t b_size = b.layers.size();
    return std::tie(a_size, a.loss, a.layers) < std::tie(b_size, b.loss, b.layers);
  });
  std::vector<MeasuredSet> best;
  for (MeasuredSet& set : sets)
    if (best.empty() || set.loss < best.back().loss) best.push_back(std::move(set));
  return best;
}

SearchCost MostOfSearch(int32_t num_layers, const SearchLimits& limits) {
  SearchCost cost{0, 2};
  int32_t left = num_layers - 1;
  for (int32_t size = num_layers; size > limits.fewest;) {
    // Strides in the first half, single layers from then on: about what happens.
    const int32_t stride = size * 2 > num_layers ? StrideOf(size, limits.fewest) : 1;
    cost.few += 1 + Trials::NumTried(size == num_layers, left);
    cost.all += kFinalists;
    size -= stride;
    left -= stride;
  }
  for (int32_t size = 1; size < std::min(limits.most, num_layers); ++size) {
    cost.few += 1 + Trials::NumTried(size == 1, num_layers - size);
    cost.all += kFinalists;
  }
  return cost;
}

}  // namespace tidal
