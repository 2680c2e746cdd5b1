// Arguments of the functions, filters, tests and methods that are ours: bound to parameters as
// Python does, and checked.
//
// Errors: kInvalidArgument where Python raises TypeError. Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_ARGS_H_
#define TIDAL_CHAT_JINJA_ARGS_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// Fills values[i] from the argument for names[i], kMissing where there is none; the first
// `required` must be given.
Status BindArgs(const CallArgs& args, std::span<const std::string_view> names, size_t required,
                std::span<Value> values);

// The same with the number of parameters known: TIDAL_ASSIGN_OR_RETURN(auto bound, Bind(args, 1,
// {"old", "new"})).
template <size_t N>
Result<std::array<Value, N>> Bind(const CallArgs& args, size_t required,
                                  const std::string_view (&names)[N]) {
  std::array<Value, N> values;
  TIDAL_RETURN_IF_ERROR(BindArgs(args, names, required, values));
  return values;
}

// For functions without keywords in Python.
Status RejectNamed(const CallArgs& args);
inline Status RejectArgs(const CallArgs& args) { return BindArgs(args, {}, 0, {}); }

// The argument as a type; `what` names the parameter. An int parameter takes a bool, as in Python.
Result<int64_t> IntArg(const Value& value, std::string_view what);
Result<int64_t> IntArgOr(const Value& value, std::string_view what, int64_t otherwise);
// The view lives as long as `value`.
Result<std::string_view> TextArg(const Value& value, std::string_view what);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_ARGS_H_
