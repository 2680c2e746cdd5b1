// The JSON text of a sidecar.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "attention/json_text.h"
#include "attention/sidecar.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// Digits enough for people; what a file says of a measurement is not computed with.
double Rounded(double value) {
  constexpr double kScale = 1e6;
  return std::round(value * kScale) / kScale;
}

Json EntryJson(const SidecarEntry& entry, const SidecarMeasurement& measured) {
  Json json = {{"preset", entry.preset}, {"budget", entry.budget}};
  if (entry.below) json["below"] = *entry.below;
  json["select"] = entry.select;
  json["full"] = entry.full;
  if (entry.scope) json["scope"] = NameOf(*entry.scope);
  if (entry.scorer) json["scorer"] = NameOf(*entry.scorer);
  if (!entry.headmap.empty()) json["headmap"] = entry.headmap;
  json["scan"] = Rounded(measured.scan_share);
  json["kl"] = Rounded(measured.kl);
  json["extra_nats"] = Rounded(measured.extra_nats);
  json["calibrated_on"] = measured.calibrated_on;
  return json;
}

// The plans of an existing file that serve other presets, as they are.
std::vector<Json> OtherPlans(std::string_view existing, std::string_view model_hash,
                             std::string_view preset) {
  std::vector<Json> others;
  const Result<Json> json = ParseJsonText(existing);
  if (!json.ok() || !json->is_object() || !json->contains("plans") ||
      json->value("model_hash", Json()) != Json(model_hash))
    return others;
  for (const Json& plan : (*json)["plans"]) {
    if (plan.is_object() && plan.value("preset", Json()) != Json(preset)) others.push_back(plan);
  }
  return others;
}

}  // namespace

std::string SidecarText(std::string_view model_hash, std::span<const MeasuredEntry> entries,
                        std::string_view existing) {
  TIDAL_CHECK(!entries.empty(), "a sidecar without plans");
  std::vector<Json> plans = OtherPlans(existing, model_hash, entries.front().entry.preset);
  for (const MeasuredEntry& measured : entries)
    plans.push_back(EntryJson(measured.entry, measured.measurement));
  // A plan a line: short enough to read, and changes show as lines.
  std::string text =
      fmt::format("{{\"format\": 1,\n \"model_hash\": \"{}\",\n \"plans\": [\n", model_hash);
  for (size_t i = 0; i < plans.size(); ++i)
    text += fmt::format("  {}{}\n", plans[i].dump(-1, ' ', false, Json::error_handler_t::replace),
                        i + 1 < plans.size() ? "," : "");
  return text + " ]}\n";
}

}  // namespace tidal
