#include "cli/calibrate_output.h"

#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMegabyte = 1e6;

double Percent(double bytes, const CalibrationResult& result) {
  return 100 * bytes / result.all_bytes;
}

std::string TargetText(const CalibrationTarget& target) {
  return target.max_kl > 0
             ? fmt::format("the fewest bytes with a KL of at most {:.4g} nats", target.max_kl)
             : fmt::format("the least KL with at most {:.3g} % scanned",
                           100 * target.max_scan_share);
}

// "0+3+9", or "all".
std::string LayersText(const CalibrationPoint& point, const CalibrationResult& result) {
  if (point.select.size() == static_cast<size_t>(result.num_layers)) return "all";
  return fmt::format("{}", fmt::join(point.select, "+"));
}

std::string EstimateText(const std::optional<Estimate>& estimate) {
  if (!estimate) return "-";
  if (std::isnan(estimate->low)) return fmt::format("{:.4f}", estimate->value);
  return fmt::format("{:.4f} [{:.4f}, {:.4f}]", estimate->value, estimate->low, estimate->high);
}

bool IsChosen(const CalibrationPoint& point, const CalibrationResult& result) {
  for (const CalibratedPlan& plan : result.plans)
    if (PlanText(plan.point) == PlanText(point)) return true;
  return false;
}

std::string FrontLines(const CalibrationResult& result) {
  std::string lines = fmt::format(
      "\nKL against what a step reads of the cache (* is chosen)\n  {:>8}  {:>6}  {:>6}  {:>6}  "
      "{:>4}  {:<6}  {:>8}  layers that choose\n",
      "MB", "read", "scan", "budget", "bits", "scope", "KL");
  for (const CalibrationPoint& point : FrontOf(result.points)) {
    lines +=
        fmt::format("{} {:>8.3f}  {:>5.1f}%  {:>5.1f}%  {:>6}  {:>4}  {:<6}  {:>8.5f}  {}\n",
                    IsChosen(point, result) ? '*' : ' ', point.bytes() / kMegabyte,
                    Percent(point.bytes(), result), Percent(point.scan_bytes, result), point.budget,
                    point.index_bits, NameOf(point.scope), point.kl, LayersText(point, result));
  }
  return lines;
}

std::string PlanLines(const CalibratedPlan& plan, const CalibrationRequest& request,
                      const CalibrationResult& result) {
  const CalibrationPoint& point = plan.point;
  std::string lines = fmt::format(
      "\nbudget {}: {} of {} layers choose ({}), scope {}, {} bits{}\n  reads           {:.1f} % "
      "of "
      "the cache, {:.1f} % to choose\n  KL              {:.4f}",
      point.budget, point.select.size(), result.num_layers, LayersText(point, result),
      NameOf(point.scope), point.index_bits,
      plan.meets_target ? "" : "; no fewer are within the target", Percent(point.bytes(), result),
      Percent(point.scan_bytes, result), point.kl);
  if (plan.held_out_kl) {
    lines += fmt::format("; on held-out texts {}", EstimateText(plan.held_out_kl));
    lines += fmt::format("\n  every layer     {} there, choosing as many tokens",
                         EstimateText(plan.every_layer_kl));
    if (request.target.max_kl > 0 && plan.meets_target &&
        plan.held_out_kl->value > request.target.max_kl)
      lines += "\n  note            above the target on held-out texts: a lower one leaves room";
  }
  lines += '\n';
  if (!plan.below) return lines;
  const int32_t longest = result.speeds.back().context;
  return lines + (*plan.below <= longest
                      ? fmt::format("  faster          from {} tokens on\n", *plan.below)
                      : fmt::format("  faster          at no context up to {}\n", longest));
}

Json PointJson(const CalibrationPoint& point) {
  return {{"budget", point.budget},
          {"scope", NameOf(point.scope)},
          {"index_bits", point.index_bits},
          {"select", point.select},
          {"kl", Rounded(point.kl, 9)},
          {"extra_nats", Rounded(point.extra_nats, 9)},
          {"scan_bytes", Rounded(point.scan_bytes, 0)},
          {"gather_bytes", Rounded(point.gather_bytes, 0)}};
}

Json EstimateJson(const std::optional<Estimate>& estimate) {
  if (!estimate) return nullptr;
  return {{"value", estimate->value}, {"low", estimate->low}, {"high", estimate->high}};
}

Json NamesOf(const std::vector<EvalDocument>& texts) {
  Json names = Json::array();
  for (const EvalDocument& text : texts) names.push_back(text.name);
  return names;
}

Json SpeedsJson(const CalibrationResult& result) {
  Json list = Json::array();
  for (const ContextSpeed& speed : result.speeds) {
    Json plans = Json::array();
    for (const double tokens_per_s : speed.tokens_per_s) plans.push_back(Rounded(tokens_per_s, 3));
    list.push_back({{"context", speed.context},
                    {"full", Rounded(speed.full_tokens_per_s, 3)},
                    {"plans", std::move(plans)}});
  }
  return list;
}

}  // namespace

std::string CalibrationTable(const std::string& model, const CalibrationRequest& request,
                             const CalibrationResult& result) {
  std::string table = fmt::format(
      "{}: {}\ncontext of {} tokens, {} texts of {} decoded tokens to choose by, {} of {} to check "
      "with\nfull attention reads {:.1f} MB of the cache in a step\n",
      model, TargetText(request.target), request.prefill, request.texts.size(), request.decode,
      request.held_out.size(), request.held_out_decode, result.all_bytes / kMegabyte);
  table += FrontLines(result);
  for (const CalibratedPlan& plan : result.plans) table += PlanLines(plan, request, result);
  return table;
}

Json CalibrationJson(const std::string& model, const CalibrationRequest& request,
                     const CalibrationResult& result) {
  Json json = {{"model", model},
               {"prefill", request.prefill},
               {"decode", request.decode},
               {"held_out_decode", request.held_out_decode},
               {"texts", NamesOf(request.texts)},
               {"held_out", NamesOf(request.held_out)}};
  const bool by_loss = request.target.max_kl > 0;
  json["target"] = by_loss ? Json{{"max_kl", Rounded(request.target.max_kl, 9)}}
                           : Json{{"max_scan", Rounded(request.target.max_scan_share, 9)}};
  json["index_bits"] = result.index_bits;
  json["full_bytes"] = Rounded(result.all_bytes, 0);
  json["recommended"] = result.recommended;
  json["plans"] = Json::array();
  for (const CalibratedPlan& plan : result.plans) {
    Json entry = PointJson(plan.point);
    entry["meets_target"] = plan.meets_target;
    entry["held_out_kl"] = EstimateJson(plan.held_out_kl);
    entry["held_out_extra_nats"] = EstimateJson(plan.held_out_extra_nats);
    entry["every_layer_kl"] = EstimateJson(plan.every_layer_kl);
    entry["below"] = plan.below ? Json(*plan.below) : Json();
    json["plans"].push_back(std::move(entry));
  }
  json["front"] = Json::array();
  for (const CalibrationPoint& point : FrontOf(result.points))
    json["front"].push_back(PointJson(point));
  json["speeds"] = SpeedsJson(result);
  return json;
}

std::vector<MeasuredEntry> SidecarEntries(const CalibrationRequest& request,
                                          const CalibrationResult& result) {
  std::vector<MeasuredEntry> entries;
  for (const CalibratedPlan& plan : result.plans) {
    const CalibrationPoint& point = plan.point;
    MeasuredEntry measured;
    SidecarEntry& entry = measured.entry;
    entry.preset = "tidal";
    entry.budget = point.budget;
    entry.below = plan.below;
    entry.select = point.select;
    entry.scope = point.scope;
    entry.scorer = point.index_bits == 2 ? Scorer::kIndex2 : Scorer::kIndex4;
    measured.measurement = {
        .scan_share = point.scan_bytes / result.all_bytes,
        .kl = plan.held_out_kl ? plan.held_out_kl->value : point.kl,
        .extra_nats = plan.held_out_extra_nats ? plan.held_out_extra_nats->value : point.extra_nats,
        .calibrated_on =
            fmt::format("{} texts at {} tokens, checked with {} others", request.texts.size(),
                        request.prefill, request.held_out.size())};
    entries.push_back(std::move(measured));
  }
  return entries;
}

}  // namespace tidal
