#include "cpu/step_reports.h"

#include <cmath>
#include <limits>

namespace tidal {
namespace {

constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

}  // namespace

CpuStepReports::CpuStepReports(int32_t num_layers, int32_t max_sequences)
    : num_layers_(static_cast<size_t>(num_layers)) {
  reports_.reserve(static_cast<size_t>(max_sequences));
  layer_masses_.reserve(static_cast<size_t>(max_sequences) * num_layers_);
}

void CpuStepReports::BeginStep(const StepBatch& batch) {
  reports_.assign(batch.sequences.size(), RowReport());
  layer_masses_.assign(batch.sequences.size() * num_layers_, kUnknown);
  for (size_t i = 0; i < batch.sequences.size(); ++i)
    if (batch.sequences[i].plan != nullptr) reports_[i].selected_mass = kUnknown;
}

void CpuStepReports::AddChoice(int32_t layer, int32_t sequence, float selected_mass) {
  const auto i = static_cast<size_t>(sequence);
  float& least = reports_[i].selected_mass;
  if (std::isnan(least) || selected_mass < least) least = selected_mass;
  layer_masses_[i * num_layers_ + static_cast<size_t>(layer)] = selected_mass;
}

void CpuStepReports::AddAttended(LayerRole role, int32_t sequence, double tokens) {
  RowReport& report = reports_[static_cast<size_t>(sequence)];
  report.tokens_attended[static_cast<size_t>(role)] += tokens;
  ++report.layers[static_cast<size_t>(role)];
}

}  // namespace tidal
