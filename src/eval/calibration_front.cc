#include "eval/calibration_front.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tuple>
#include <utility>

#include "attention/attention_plan.h"

namespace tidal {

std::string PlanText(const CalibrationPoint& point) {
  return fmt::format("tidal:budget={}:select={}:scope={}:scorer=index{}:below=0", point.budget,
                     fmt::join(point.select, "+"), NameOf(point.scope), point.index_bits);
}

CacheCosts::CacheCosts(const Engine& engine, int32_t num_tokens) {
  const MemoryUse memory = engine.memory();
  num_layers = engine.model().config().num_layers;
  gqa_ratio = engine.model().config().gqa_ratio();
  token_bytes = static_cast<double>(memory.kv_bytes_per_token) / num_layers;
  layer_bytes = token_bytes * num_tokens;
  layer_index_bytes = static_cast<double>(memory.index_bytes_per_token) / num_layers * num_tokens;
}

double CacheCosts::ScanShare(size_t num_selection_layers) const {
  return static_cast<double>(num_selection_layers) * layer_index_bytes / all_bytes();
}

int32_t CacheCosts::MostLayers(double scan_share) const {
  // A share that was meant exactly must not fail for its last bit.
  constexpr double kSlack = 1e-9;
  const double layers = scan_share * all_bytes() / layer_index_bytes;
  return static_cast<int32_t>(std::min<double>(std::floor(layers + kSlack), num_layers));
}

void CacheCosts::Fill(CalibrationPoint* point) const {
  point->scan_bytes = static_cast<double>(point->select.size()) * layer_index_bytes;
  // Under scope head every query head reads its set alone.
  const int32_t times = point->scope == SetScope::kHead ? gqa_ratio : 1;
  point->gather_bytes = num_layers * token_bytes * point->budget * times;
}

const CalibrationPoint* BestPoint(std::span<const CalibrationPoint> points, int32_t budget,
                                  int32_t index_bits, const CalibrationTarget& target,
                                  double all_bytes) {
  const bool by_loss = target.max_kl <= 0;
  const auto is_within = [&](const CalibrationPoint& point) {
    constexpr double kSlack = 1e-9;
    return by_loss ? point.scan_bytes <= (target.max_scan_share + kSlack) * all_bytes
                   : point.kl <= target.max_kl;
  };
  const auto key = [&](const CalibrationPoint& point) {
    const double bytes = point.bytes();
    return by_loss ? std::tuple(point.kl, bytes, point.scope, point.select)
                   : std::tuple(bytes, point.kl, point.scope, point.select);
  };
  const CalibrationPoint* best = nullptr;
  for (const CalibrationPoint& point : points) {
    if (point.budget != budget || point.index_bits != index_bits || !is_within(point)) continue;
    if (best == nullptr || key(point) < key(*best)) best = &point;
  }
  return best;
}

std::vector<CalibrationPoint> FrontOf(std::vector<CalibrationPoint> points) {
  std::sort(points.begin(), points.end(), [](const CalibrationPoint& a, const CalibrationPoint& b) {
    return std::tuple(a.bytes(), a.kl, PlanText(a)) < std::tuple(b.bytes(), b.kl, PlanText(b));
  });
  std::vector<CalibrationPoint> front;
  for (CalibrationPoint& point : points)
    if (front.empty() || point.kl < front.back().kl) front.push_back(std::move(point));
  return front;
}

}  // namespace tidal
