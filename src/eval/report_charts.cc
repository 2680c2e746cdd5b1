#include "eval/report_charts.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>

#include "eval/html_text.h"
#include "eval/svg_chart.h"

namespace tidal::report {
namespace {

constexpr double kMegabyte = 1e6;

ChartSeries* SeriesNamed(const std::string& name, int color, std::vector<ChartSeries>* list) {
  for (ChartSeries& series : *list)
    if (series.name == name) return &series;
  list->push_back({.name = name, .color = color});
  return &list->back();
}

std::string LossLabel(const Json& plan) {
  const Estimate kl = EstimateAt(plan, "kl");
  return fmt::format("{}: KL {} ({} to {}), {} MB a step", Text(plan, "plan"),
                     ShortFigure(kl.value), ShortFigure(kl.low), ShortFigure(kl.high),
                     ShortFigure(CacheBytes(At(plan, "speed")) / kMegabyte));
}

// One point per plan at what `x_of` makes of it, joined by method.
template <typename XOf>
void AddLossPoints(const Json& run, MethodColors* colors, const XOf& x_of, Chart* chart) {
  for (const Json& plan : Array(run, "plans")) {
    const double x = x_of(plan);
    if (std::isnan(x)) continue;
    const std::string method = MethodOf(plan);
    const Estimate kl = EstimateAt(plan, "kl");
    SeriesNamed(method, colors->ColorOf(method), &chart->series)
        ->points.push_back({x, kl.value, kl.low, kl.high, LossLabel(plan)});
  }
}

// Of each method the plan with the smallest budget, where methods differ most: a line for every
// plan would be too many.
std::vector<const Json*> SmallestOfMethods(const Json& run) {
  std::vector<const Json*> smallest;
  for (const Json& plan : Array(run, "plans")) {
    const std::string method = MethodOf(plan);
    const auto found = std::find_if(smallest.begin(), smallest.end(),
                                    [&](const Json* other) { return MethodOf(*other) == method; });
    if (found == smallest.end())
      smallest.push_back(&plan);
    else if (Number(plan, "budget") < Number(**found, "budget"))
      *found = &plan;
  }
  return smallest;
}

std::string LengthName(double length) {
  const auto tokens = static_cast<int64_t>(length);
  return tokens >= 1024 && tokens % 1024 == 0 ? fmt::format("{}K", tokens / 1024)
                                              : fmt::format("{}", tokens);
}

// The cells of one task and plan, by depth and length.
struct Grid {
  std::map<double, size_t> depths;
  std::map<double, size_t> lengths;
  std::vector<const Json*> cells;
};

HeatMap HeatMapOf(const Grid& grid, const std::string& title) {
  HeatMap map;
  map.title = title;
  map.row_title = "depth, %";
  map.column_title = "length, tokens";
  for (const auto& [depth, row] : grid.depths)
    map.rows.push_back(fmt::format("{:.0f}", 100 * depth));
  for (const auto& [length, column] : grid.lengths) map.columns.push_back(LengthName(length));
  map.values.assign(map.rows.size(), std::vector<double>(map.columns.size(), kNoValue));
  for (const Json* cell : grid.cells)
    map.values[grid.depths.at(Number(*cell, "depth"))][grid.lengths.at(Number(*cell, "length"))] =
        Number(*cell, "score");
  return map;
}

void NumberKeys(std::map<double, size_t>* keys) {
  size_t next = 0;
  for (auto& [key, number] : *keys) number = next++;
}

std::string PlanName(const Json& run, double index) {
  const Json& plans = Array(run, "plans");
  const bool is_known = index >= 0 && index < static_cast<double>(plans.size());
  if (!is_known || !plans[static_cast<size_t>(index)].is_string()) return "?";
  return plans[static_cast<size_t>(index)].get<std::string>();
}

void AddSpeedPoint(const std::string& name, int color, const Json& speed, Chart* chart) {
  const double context = Number(speed, "context");
  const double tokens_per_s = Number(speed, "tokens_per_s");
  if (std::isnan(context) || std::isnan(tokens_per_s)) return;
  SeriesNamed(name, color, &chart->series)
      ->points.push_back({context, tokens_per_s, kNoValue, kNoValue,
                          fmt::format("{}: {} tokens/s at {}", name, ShortFigure(tokens_per_s),
                                      LengthName(context))});
}

}  // namespace

int MethodColors::ColorOf(const std::string& method) {
  const auto found = std::find(methods_.begin(), methods_.end(), method);
  const auto color = static_cast<int>(found - methods_.begin());
  if (found == methods_.end()) methods_.push_back(method);
  return color;
}

std::string MethodOf(const Json& plan) {
  const std::string text = Text(plan, "plan");
  if (text.starts_with('{')) return Text(plan, "preset");
  std::string method;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(':', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (!part.starts_with("budget=")) method += (method.empty() ? "" : ":") + part;
    begin = end + 1;
  }
  return method;
}

std::string FrontChart(const Json& run, MethodColors* colors) {
  Chart chart;
  chart.title = "Loss against bytes";
  chart.note =
      "Down and left is better. Bytes of the cache that one decode step reads: keys or index "
      "scanned, K and V gathered or read in full.";
  chart.x = {"MB of the cache read per step", AxisScale::kLog10};
  chart.y = {"KL to full attention, nats", AxisScale::kLog10};
  AddLossPoints(
      run, colors, [](const Json& plan) { return CacheBytes(At(plan, "speed")) / kMegabyte; },
      &chart);
  const double full = CacheBytes(At(run, "full_speed")) / kMegabyte;
  if (!std::isnan(full)) chart.rules.push_back({full, "full attention"});
  return SvgChart(chart);
}

std::string BudgetChart(const Json& run, MethodColors* colors) {
  Chart chart;
  chart.title = "Loss against budget";
  chart.x = {"tokens per set", AxisScale::kLog2};
  chart.y = {"KL to full attention, nats", AxisScale::kLog10};
  AddLossPoints(
      run, colors, [](const Json& plan) { return Number(plan, "budget"); }, &chart);
  return SvgChart(chart);
}

std::string MassChart(const Json& run, MethodColors* colors) {
  Chart chart;
  chart.title = "Selected mass per layer";
  chart.note =
      "Share of attention probability inside the set, in the layers that choose. Of each method "
      "the smallest budget.";
  chart.x = {"layer", AxisScale::kLinear};
  chart.y = {"selected mass", AxisScale::kLinear};
  for (const Json* plan : SmallestOfMethods(run)) {
    ChartSeries series{.name = Text(*plan, "plan"), .color = colors->ColorOf(MethodOf(*plan))};
    const Json& mass = Array(*plan, "layer_mass");
    for (size_t layer = 0; layer < mass.size(); ++layer) {
      if (!mass[layer].is_number()) continue;
      const auto value = mass[layer].get<double>();
      series.points.push_back(
          {static_cast<double>(layer), value, kNoValue, kNoValue,
           fmt::format("{}, layer {}: {}", series.name, layer, ShortFigure(value))});
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return SvgChart(chart);
}

std::string GuardChart(const Json& run, MethodColors* colors) {
  Chart chart;
  chart.title = "Does selected mass tell bad tokens?";
  chart.note =
      "Bad: a KL above the 95th percentile. The diagonal is chance; the area under a curve is 1 "
      "where mass tells all, 0.5 where it tells nothing. Of each method the smallest budget.";
  chart.x = {"good rows taken for bad", AxisScale::kLinear};
  chart.y = {"bad rows found", AxisScale::kLinear};
  for (const Json* plan : SmallestOfMethods(run)) {
    const Json& guard = At(*plan, "guard");
    ChartSeries series{.name = fmt::format("{} (area {})", Text(*plan, "plan"),
                                           ShortFigure(Number(guard, "auc"), 2)),
                       .color = colors->ColorOf(MethodOf(*plan)),
                       .dotted = false};
    for (const Json& point : Array(guard, "points"))
      if (point.is_array() && point.size() == 3 && point[1].is_number() && point[2].is_number())
        series.points.push_back({.x = point[1].get<double>(), .y = point[2].get<double>()});
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return "";
  chart.series.push_back({.name = "chance",
                          .color = 2 * kChartColors - 1,
                          .dotted = false,
                          .points = {{.x = 0, .y = 0}, {.x = 1, .y = 1}}});
  return SvgChart(chart);
}

std::string FreeRunChart(const Json& run) {
  Chart chart;
  chart.title = "Loss along text of its own";
  chart.note = "Means over windows of the tokens up to the mark.";
  chart.x = {"generated tokens", AxisScale::kLinear};
  chart.y = {"KL to full attention, nats", AxisScale::kLog10};
  for (const Json& plan : Array(run, "plans")) {
    ChartSeries series{.name = Text(plan, "plan"), .color = static_cast<int>(chart.series.size())};
    const Json& along = Array(plan, "kl_along");
    for (size_t part = 0; part < along.size(); ++part) {
      if (!along[part].is_number()) continue;
      const double tokens = Number(run, "generate") * static_cast<double>(part + 1) /
                            static_cast<double>(along.size());
      const auto kl = along[part].get<double>();
      series.points.push_back(
          {tokens, kl, kNoValue, kNoValue,
           fmt::format("{}, up to {:.0f} tokens: KL {}", series.name, tokens, ShortFigure(kl))});
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return SvgChart(chart);
}

std::string SpeedChart(const std::vector<const Json*>& runs, MethodColors* colors) {
  Chart chart;
  chart.title = "Speed against context";
  chart.note = "Of each method the smallest budget.";
  chart.x = {"tokens in the cache", AxisScale::kLog2};
  chart.y = {"decoded tokens per second", AxisScale::kLinear};
  for (const Json* run : runs) {
    AddSpeedPoint("full", colors->ColorOf("full"), At(*run, "full_speed"), &chart);
    for (const Json* plan : SmallestOfMethods(*run)) {
      const std::string name = Text(*plan, "plan");
      if (name != "full")
        AddSpeedPoint(name, colors->ColorOf(MethodOf(*plan)), At(*plan, "speed"), &chart);
    }
  }
  return SvgChart(chart);
}

std::string NeedleGrids(const Json& run) {
  std::vector<std::pair<std::string, Grid>> grids;
  for (const Json& cell : Array(run, "cells")) {
    if (std::isnan(Number(cell, "depth")) || std::isnan(Number(cell, "length"))) continue;
    const std::string title =
        fmt::format("{}, {}: score, %", Text(cell, "task"), PlanName(run, Number(cell, "plan")));
    auto found = std::find_if(grids.begin(), grids.end(),
                              [&](const auto& entry) { return entry.first == title; });
    if (found == grids.end()) found = grids.insert(grids.end(), {title, {}});
    found->second.depths.emplace(Number(cell, "depth"), 0);
    found->second.lengths.emplace(Number(cell, "length"), 0);
    found->second.cells.push_back(&cell);
  }
  std::string html;
  for (auto& [title, grid] : grids) {
    NumberKeys(&grid.depths);
    NumberKeys(&grid.lengths);
    html += SvgHeatMap(HeatMapOf(grid, title));
  }
  return html;
}

}  // namespace tidal::report
