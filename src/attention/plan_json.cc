// PlanJson: a resolved plan as JSON.
#include <nlohmann/json.hpp>

#include "attention/plan_keys.h"
#include "attention/plan_spec.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

Json LayersJson(const std::vector<uint8_t>& marks) {
  Json layers = Json::array();
  for (size_t layer = 0; layer < marks.size(); ++layer)
    if (marks[layer] != 0) layers.push_back(layer);
  if (layers.empty()) return "none";
  return layers.size() == marks.size() ? Json("all") : layers;
}

Json AmountJson(const TokenAmount& amount) {
  if (amount.unit == TokenAmount::Unit::kTokens) return static_cast<int64_t>(amount.value);
  return AmountText(amount);
}

Json ToJson(const AttentionPlan& plan) {
  Json json;
  json["preset"] = plan.preset;
  if (plan.is_full()) {
    json["full"] = "all";
    json["select"] = "none";
    return json;
  }
  json["full"] = LayersJson(plan.reads_all);
  json["select"] = LayersJson(plan.selects);
  json["scorer"] = NameOf(plan.scorer);
  json["scope"] = NameOf(plan.scope);
  json["merge"] = NameOf(plan.merge);
  if (plan.mass > 0) {
    json["mass"] = plan.mass;
  } else {
    json["budget"] = AmountJson(plan.budget);
  }
  json["floor"] = plan.floor;
  json["ceil"] = plan.ceil;
  json["sinks"] = plan.sinks;
  json["recent"] = AmountJson(plan.recent);
  json["keep"] = plan.keep_newlines ? "newline" : "none";
  json["page"] = plan.page;
  json["refresh"] = RefreshText(plan.refresh_cosine);
  if (plan.correct.when == Correction::When::kRows) {
    json["correct"] = plan.correct.rows;
  } else {
    json["correct"] = CorrectionText(plan.correct);
  }
  json["guard"] = plan.guard;
  json["below"] = plan.below;
  if (!plan.headmap.empty()) {
    Json maps = Json::array();
    for (const std::vector<int32_t>& map : plan.headmap)
      if (!map.empty()) maps.push_back(map);
    json["headmap"] = std::move(maps);
  }
  for (const auto& [first, variant] : plan.variants) {
    Json variant_json = ToJson(variant);
    variant_json["from"] = first;
    json["variants"].push_back(std::move(variant_json));
  }
  return json;
}

}  // namespace

std::string PlanJson(const AttentionPlan& plan) { return ToJson(plan).dump(); }

}  // namespace tidal
