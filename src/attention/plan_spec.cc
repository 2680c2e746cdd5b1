#include "attention/plan_spec.h"

#include <algorithm>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "attention/json_text.h"
#include "attention/plan_keys.h"
#include "attention/plan_rules.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using Keys = std::vector<std::pair<std::string, std::string>>;

constexpr size_t kMaxTextBytes = 1 << 16;

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

Status KeysFromText(std::string_view text, std::string* preset, Keys* keys) {
  size_t end = std::min(text.find(':'), text.size());
  *preset = text.substr(0, end);
  while (end < text.size()) {
    const size_t begin = end + 1;
    end = std::min(text.find(':', begin), text.size());
    const std::string_view pair = text.substr(begin, end - begin);
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos)
      return InvalidArgument("{} has no value, expected key=value", QuotedText(pair));
    keys->emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return OkStatus();
}

// A JSON value as the text form writes it.
Result<std::string> ValueText(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  if (value.is_number()) return value.dump();
  const bool is_list =
      value.is_array() && std::all_of(value.begin(), value.end(),
                                      [](const Json& item) { return item.is_number_integer(); });
  if (!is_list)
    return InvalidArgument("{} is {}, expected a number, a string or an array of layers",
                           QuotedText(key),
                           value.is_array() ? "an array of other values" : value.type_name());
  if (value.empty()) return std::string("none");
  std::string text;
  for (const Json& item : value) text += (text.empty() ? "" : "+") + item.dump();
  return text;
}

Status KeysFromJson(std::string_view text, std::string* preset, Keys* keys) {
  Result<Json> json = ParseJsonText(text);
  if (!json.ok()) return InvalidArgument("{}", json.status().message());
  const auto name = json->find("preset");
  if (name == json->end() || !name->is_string())
    return InvalidArgument("preset is {}, expected one of {}",
                           name == json->end() ? "missing" : name->type_name(), PlanPresetNames());
  *preset = name->get<std::string>();
  for (const auto& [key, value] : json->items()) {
    if (key == "preset") continue;
    TIDAL_ASSIGN_OR_RETURN(std::string value_text, ValueText(key, value));
    keys->emplace_back(key, std::move(value_text));
  }
  return OkStatus();
}

// Where the plan that starts at `begin` ends: at a comma outside braces and strings, or at the end.
size_t EndOfPlan(std::string_view text, size_t begin) {
  const bool is_json = Trimmed(text.substr(begin)).starts_with('{');
  int depth = 0;
  bool in_string = false;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (is_json && c == '"') {
      in_string = true;
    } else if (is_json && (c == '{' || c == '}')) {
      depth += c == '{' ? 1 : -1;
    } else if (c == ',' && depth <= 0) {
      return i;
    }
  }
  return text.size();
}

Status CheckKeys(const std::string& preset_name, const Keys& keys) {
  const PlanPreset* const preset = FindPlanPreset(preset_name);
  if (preset == nullptr)
    return InvalidArgument("unknown preset {}, expected one of {}", QuotedText(preset_name),
                           PlanPresetNames());
  PlanSettings settings = SettingsOf(*preset);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto& [key, value] = keys[i];
    TIDAL_RETURN_IF_ERROR(SetPlanKey(key, value, &settings));
    for (size_t j = 0; j < i; ++j) {
      if (keys[j].first == key)
        return InvalidArgument("{} is given twice, as {} and {}: keep one", key,
                               QuotedText(keys[j].second), QuotedText(value));
    }
  }
  return CheckPlanKeys(*preset, settings, keys);
}

}  // namespace

Result<PlanSpec> PlanSpec::Parse(std::string_view text) {
  if (text.size() > kMaxTextBytes)
    return InvalidArgument("attention plan: the text has {} bytes, expected at most {}",
                           text.size(), kMaxTextBytes);
  PlanSpec spec;
  spec.text_ = Trimmed(text);
  const bool is_json = spec.text_.starts_with('{');
  Status status = is_json ? KeysFromJson(spec.text_, &spec.preset_, &spec.keys_)
                          : KeysFromText(spec.text_, &spec.preset_, &spec.keys_);
  if (status.ok()) status = CheckKeys(spec.preset_, spec.keys_);
  if (!status.ok()) return status.Annotate("attention plan " + QuotedText(spec.text_));
  return spec;
}

Result<std::vector<PlanSpec>> PlanSpec::ParseList(std::string_view text) {
  if (text.size() > kMaxTextBytes)
    return InvalidArgument("attention plans: the text has {} bytes, expected at most {}",
                           text.size(), kMaxTextBytes);
  std::vector<PlanSpec> specs;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = EndOfPlan(text, begin);
    TIDAL_ASSIGN_OR_RETURN(PlanSpec spec, Parse(text.substr(begin, end - begin)));
    specs.push_back(std::move(spec));
    begin = end + 1;
  }
  return specs;
}

}  // namespace tidal
