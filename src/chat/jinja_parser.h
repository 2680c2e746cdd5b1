// Parses a template into its syntax tree.
//
// Threads: a function of its arguments.
#ifndef TIDAL_CHAT_JINJA_PARSER_H_
#define TIDAL_CHAT_JINJA_PARSER_H_

#include <memory>
#include <string_view>

#include "base/status.h"
#include "chat/jinja_ast.h"

namespace tidal::jinja {

// Levels of brackets and blocks that a template may have, whatever its limits say: what the stack
// is sure to hold.
inline constexpr int32_t kMaxTemplateDepth = 200;
// A larger template is refused; real ones have some ten thousand bytes.
inline constexpr size_t kMaxTemplateBytes = 1 << 20;

// Names are bound to slots, and filters and tests to their functions. Errors: kInvalidArgument with
// line and column, for a syntax error or one of the limits; kUnsupported for a tag of Jinja that is
// not there.
Result<std::unique_ptr<TemplateTree>> ParseTemplate(std::string_view source, int32_t max_depth);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_PARSER_H_
