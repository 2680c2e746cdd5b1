// Reading files of one JSON object a line, with messages that say which line and field is wrong.
#ifndef TIDAL_EVAL_JSON_LINES_H_
#define TIDAL_EVAL_JSON_LINES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace tidal {

// Calls `take` with each line's object; lines of white space are skipped. kInvalidArgument where a
// line is no JSON object; this and what `take` returns is preceded by "NAME: line N".
Status ForEachJsonLine(std::string_view name, std::string_view text,
                       const std::function<Status(const nlohmann::ordered_json&)>& take);

// Fields of an object. kInvalidArgument names the field and the type that was expected.
Result<std::string> JsonText(const nlohmann::ordered_json& object, const char* field);
Result<std::vector<std::string>> JsonTexts(const nlohmann::ordered_json& object, const char* field);
Result<int32_t> JsonCount(const nlohmann::ordered_json& object, const char* field, int32_t low);

}  // namespace tidal

#endif  // TIDAL_EVAL_JSON_LINES_H_
