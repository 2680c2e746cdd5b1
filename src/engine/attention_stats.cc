#include "engine/attention_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tidal {

void AttentionStats::AddTokens(const RowReport& report) {
  for (int role = 0; role < kNumLayerRoles; ++role) {
    tokens_attended[role] += report.tokens_attended[role];
    layers[role] += report.layers[role];
  }
}

void AttentionStats::AddFullRow(const RowReport& report, bool forced_by_guard) {
  AddTokens(report);
  ++full_rows;
  if (forced_by_guard) ++guard_rows;
}

void AttentionStats::AddSparseRow(const RowReport& report) {
  AddTokens(report);
  ++sparse_rows;
  const auto mass = static_cast<double>(report.selected_mass);
  if (std::isnan(mass)) return;
  ++mass_rows;
  mass_sum += mass;
  mass_least = std::min(mass_least, mass);
}

void AttentionStats::Add(const AttentionStats& other) {
  full_rows += other.full_rows;
  sparse_rows += other.sparse_rows;
  guard_rows += other.guard_rows;
  for (int role = 0; role < kNumLayerRoles; ++role) {
    tokens_attended[role] += other.tokens_attended[role];
    layers[role] += other.layers[role];
  }
  mass_rows += other.mass_rows;
  mass_sum += other.mass_sum;
  mass_least = std::min(mass_least, other.mass_least);
  const int64_t rows = correction.rows + other.correction.rows;
  if (rows > 0) {
    correction.kl_mean = (correction.kl_mean * static_cast<double>(correction.rows) +
                          other.correction.kl_mean * static_cast<double>(other.correction.rows)) /
                         static_cast<double>(rows);
  }
  correction.kl_max = std::max(correction.kl_max, other.correction.kl_max);
  correction.runs += other.correction.runs;
  correction.rows = rows;
}

double AttentionStats::MeanTokensAttended(LayerRole role) const {
  const auto i = static_cast<size_t>(role);
  return layers[i] == 0 ? 0 : tokens_attended[i] / static_cast<double>(layers[i]);
}

double AttentionStats::MeanSelectedMass() const {
  if (sparse_rows == 0) return 1;
  return mass_rows == 0 ? std::numeric_limits<double>::quiet_NaN()
                        : mass_sum / static_cast<double>(mass_rows);
}

double AttentionStats::LeastSelectedMass() const {
  if (sparse_rows == 0) return 1;
  return mass_rows == 0 ? std::numeric_limits<double>::quiet_NaN() : mass_least;
}

}  // namespace tidal
