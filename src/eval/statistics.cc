#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// SplitMix64: small, and the same everywhere, which the library's distributions are not.
class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  // 0 .. count - 1.
  int32_t Below(int32_t count) {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    // The high half times the count: as even as 32 bits allow.
    return static_cast<int32_t>(((z >> 32) * static_cast<uint64_t>(count)) >> 32);
  }

 private:
  uint64_t state_;
};

}  // namespace

double Quantile(std::vector<double>* values, double q) {
  TIDAL_CHECK(!values->empty() && q >= 0 && q <= 1, "quantile {} of {} values", q, values->size());
  const double at = q * static_cast<double>(values->size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(at);
  const auto low = values->begin() + below;
  std::nth_element(values->begin(), low, values->end());
  const double share = at - static_cast<double>(below);
  if (share == 0) return *low;
  const double next = *std::min_element(low + 1, values->end());
  return *low + share * (next - *low);
}

Estimate Bootstrap(int32_t num_units, uint64_t seed, const UnitStatistic& statistic,
                   int resamples) {
  std::vector<int32_t> units(static_cast<size_t>(num_units));
  std::iota(units.begin(), units.end(), 0);
  Estimate estimate{statistic(units), kNaN, kNaN};
  if (num_units < 2) return estimate;
  Draws draws(seed);
  std::vector<double> values;
  for (int i = 0; i < resamples; ++i) {
    for (int32_t& unit : units) unit = draws.Below(num_units);
    values.push_back(statistic(units));
  }
  constexpr double kTail = 0.025;
  estimate.low = Quantile(&values, kTail);
  estimate.high = Quantile(&values, 1 - kTail);
  return estimate;
}

RocCurve RocOf(std::span<const float> scores, std::span<const uint8_t> bad) {
  TIDAL_CHECK(scores.size() == bad.size(), "{} scores, {} labels", scores.size(), bad.size());
  RocCurve roc;
  roc.rows = static_cast<int64_t>(scores.size());
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  const auto num_bad = static_cast<double>(std::count(bad.begin(), bad.end(), 1));
  const double num_good = static_cast<double>(scores.size()) - num_bad;
  if (num_bad == 0 || num_good == 0) return roc;
  std::vector<RocPoint> all = {{static_cast<double>(scores[order[0]]), 0, 0}};
  double area = 0;
  double found_bad = 0;
  double found_good = 0;
  for (size_t i = 0; i < order.size();) {
    const float score = scores[order[i]];
    double tied_bad = 0;
    double tied_good = 0;
    for (; i < order.size() && scores[order[i]] == score; ++i)
      (bad[order[i]] != 0 ? tied_bad : tied_good) += 1;
    area += tied_good * (found_bad + tied_bad / 2);
    found_bad += tied_bad;
    found_good += tied_good;
    all.push_back({static_cast<double>(score), found_good / num_good, found_bad / num_bad});
  }
  roc.auc = area / (num_bad * num_good);
  const size_t stride =
      static_cast<size_t>(CeilDiv(static_cast<int64_t>(all.size()) - 1, kRocPoints - 1));
  for (size_t i = 0; i + 1 < all.size(); i += stride) roc.points.push_back(all[i]);
  roc.points.push_back(all.back());
  return roc;
}

void PartMeans::Add(size_t row, size_t num_rows, double value) {
  const size_t part = row * sums_.size() / num_rows;
  sums_[part] += value;
  ++counts_[part];
}

std::vector<double> PartMeans::Means() const {
  std::vector<double> means;
  for (size_t part = 0; part < sums_.size(); ++part)
    means.push_back(counts_[part] == 0 ? std::nan("") : sums_[part] / counts_[part]);
  return means;
}

}  // namespace tidal
