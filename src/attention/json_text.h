// Reading JSON that comes from outside: bounded, without exceptions, and strict.
#ifndef TIDAL_ATTENTION_JSON_TEXT_H_
#define TIDAL_ATTENTION_JSON_TEXT_H_

#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace tidal {

// The value of a JSON text. kCorrupt, saying what is wrong at which byte: not JSON, a key that an
// object has twice, more than 32 levels.
Result<nlohmann::ordered_json> ParseJsonText(std::string_view text);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_JSON_TEXT_H_
