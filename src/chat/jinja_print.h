// Values as text: str, repr and JSON, as Python writes them.
//
// Errors: kInvalidArgument for what JSON cannot hold, and the limits of the Runtime (before the
// text outgrows them). Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_PRINT_H_
#define TIDAL_CHAT_JINJA_PRINT_H_

#include <string>

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_text.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// str(value) and repr(value).
Result<std::string> ToText(Runtime* runtime, const Value& value);
Result<std::string> ToRepr(Runtime* runtime, const Value& value);

// The options of json.dumps.
struct JsonStyle {
  JsonCharset charset = JsonCharset::kUnicode;
  bool multiline = false;  // one element a line, each level indented by `indent`
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
Result<std::string> ToJson(Runtime* runtime, const Value& value, const JsonStyle& style);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_PRINT_H_
