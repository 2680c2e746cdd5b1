#include "eval/json_lines.h"

#include <algorithm>
#include <limits>

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// Deeper nesting than any of our formats has is refused before the parser builds it.
constexpr int kMaxDepth = 32;

Json ParseObject(std::string_view line) {
  bool too_deep = false;
  const auto check_depth = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json value = Json::parse(line.begin(), line.end(), check_depth, /*allow_exceptions=*/false);
  return too_deep ? Json(Json::value_t::discarded) : value;
}

Status CheckHas(const Json& object, const char* field) {
  return object.contains(field) ? OkStatus()
                                : InvalidArgument("the field \"{}\" is missing", field);
}

}  // namespace

Status ForEachJsonLine(std::string_view name, std::string_view text,
                       const std::function<Status(const Json&)>& take) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}: line {}", name, number);
    const Json object = ParseObject(line);
    if (!object.is_object()) return InvalidArgument("{}: expected a JSON object", where);
    if (Status status = take(object); !status.ok()) return status.Annotate(where);
  }
  return OkStatus();
}

Result<std::string> JsonText(const Json& object, const char* field) {
  TIDAL_RETURN_IF_ERROR(CheckHas(object, field));
  const Json& value = object[field];
  if (!value.is_string())
    return InvalidArgument("\"{}\" is {}, expected a string", field, value.type_name());
  return value.get<std::string>();
}

Result<std::vector<std::string>> JsonTexts(const Json& object, const char* field) {
  TIDAL_RETURN_IF_ERROR(CheckHas(object, field));
  const Json& value = object[field];
  const auto is_text = [](const Json& item) { return item.is_string(); };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text))
    return InvalidArgument("\"{}\" is not a list of strings", field);
  return value.get<std::vector<std::string>>();
}

Result<int32_t> JsonCount(const Json& object, const char* field, int32_t low) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  TIDAL_RETURN_IF_ERROR(CheckHas(object, field));
  const Json& value = object[field];
  // Numbers beyond 64 bits are floating point to the parser, those beyond 63 unsigned.
  const bool fits = value.is_number_integer() && value <= kMost && value >= int64_t{low};
  if (!fits) return InvalidArgument("\"{}\" is not an integer from {} to {}", field, low, kMost);
  return value.get<int32_t>();
}

}  // namespace tidal
