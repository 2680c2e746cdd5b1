#include "chat/jinja_args.h"

#include <algorithm>

namespace tidal::jinja {

Status BindArgs(const CallArgs& args, std::span<const std::string_view> names, size_t required,
                std::span<Value> values) {
  if (args.positional.size() > names.size()) {
    return InvalidArgument("expected at most {} arguments, found {}", names.size(),
                           args.positional.size());
  }
  std::copy(args.positional.begin(), args.positional.end(), values.begin());
  for (const auto& [name, value] : args.named) {
    const auto at =
        static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    if (at == names.size()) return InvalidArgument("there is no parameter named '{}'", name);
    if (!values[at].is_missing()) return InvalidArgument("parameter '{}' is given twice", name);
    values[at] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values[i].is_missing())
      return InvalidArgument("expected a value for parameter '{}'", names[i]);
  }
  return OkStatus();
}

Status RejectNamed(const CallArgs& args) {
  if (args.named.empty()) return OkStatus();
  return InvalidArgument("expected no named arguments, found '{}'", args.named.front().first);
}

Result<int64_t> IntArg(const Value& value, std::string_view what) {
  if (value.is_integer()) return value.integer();
  return TypeError(fmt::format("an integer for '{}'", what), value);
}

Result<int64_t> IntArgOr(const Value& value, std::string_view what, int64_t otherwise) {
  if (value.is_missing()) return otherwise;
  return IntArg(value, what);
}

Result<std::string_view> TextArg(const Value& value, std::string_view what) {
  if (value.is_string()) return value.text();
  return TypeError(fmt::format("a str for '{}'", what), value);
}

}  // namespace tidal::jinja
