// Statistics of evaluations: quantiles, intervals by bootstrap, ROC curves.
// Deterministic: the same numbers and seed give the same result on every machine.
#ifndef TIDAL_EVAL_STATISTICS_H_
#define TIDAL_EVAL_STATISTICS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tidal {

// A value with its 95 % interval. `low` and `high` are NaN where there are fewer than two units to
// draw from.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

// The q-quantile (0 <= q <= 1) with linear interpolation between order statistics. REQUIRES: not
// empty. Reorders `values`.
double Quantile(std::vector<double>* values, double q);

// Draws `num_units` units with replacement, `resamples` times, and gives the 95 % interval
// (percentile method) of what `statistic` makes of each draw; value is that of all units once.
// Units are what is independent: documents, or windows where there is only one document. The draws
// depend on num_units and the seed alone, so that several statistics of one evaluation are paired.
using UnitStatistic = std::function<double(std::span<const int32_t> units)>;
inline constexpr int kResamples = 1000;
Estimate Bootstrap(int32_t num_units, uint64_t seed, const UnitStatistic& statistic,
                   int resamples = kResamples);

// A classifier that says "bad" where its score is at most a threshold.
struct RocPoint {
  double threshold = 0;
  double false_positive_rate = 0;
  double true_positive_rate = 0;
};
struct RocCurve {
  // A row is bad where its kl is above this: the 95th percentile of all.
  double bad_kl = 0;
  double auc = 0.5;              // 1: predicts perfectly, 0.5: not at all
  std::vector<RocPoint> points;  // from (0, 0) to (1, 1); at most kRocPoints
  int64_t rows = 0;
};
inline constexpr int kRocPoints = 101;

// ROC of "score is low" against "is bad". AUC by ranks, ties count half. REQUIRES: equal sizes.
// 0.5 and no points where all or none are bad.
RocCurve RocOf(std::span<const float> scores, std::span<const uint8_t> bad);

// Means over equal parts of texts, from their beginnings to their ends.
class PartMeans {
 public:
  explicit PartMeans(int32_t num_parts)
      : sums_(static_cast<size_t>(num_parts)), counts_(static_cast<size_t>(num_parts)) {}

  // The value of row `row` of a text that has, or could have had, `num_rows`. REQUIRES: row <
  // num_rows.
  void Add(size_t row, size_t num_rows, double value);
  // [num_parts]; NaN for a part without a value.
  std::vector<double> Means() const;

 private:
  std::vector<double> sums_;
  std::vector<double> counts_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_STATISTICS_H_
