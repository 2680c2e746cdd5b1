// Variables of a rendering from JSON.
//
// Threads: a function of its arguments.
#ifndef TIDAL_CHAT_JINJA_JSON_H_
#define TIDAL_CHAT_JINJA_JSON_H_

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// A copy of `json` as a value, in the same order. It belongs to no Runtime and does not count
// against its limits. Errors: kInvalidArgument for nesting beyond kMaxValueHeight, an integer
// beyond 64 bits, or binary data.
Result<Value> FromJson(const nlohmann::ordered_json& json);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_JSON_H_
