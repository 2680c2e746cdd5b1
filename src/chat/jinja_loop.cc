#include "chat/jinja_loop.h"

#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {
namespace {

Result<Value> LoopCycle(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  if (args.positional.empty()) return InvalidArgument("expected values for loop.cycle, found none");
  const auto count = static_cast<int64_t>(args.positional.size());
  return args.positional[static_cast<size_t>(std::max<int64_t>(AsLoop(self).index0, 0) % count)];
}

Result<Value> LoopChanged(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  LoopObject& loop = AsLoop(self);
  TIDAL_ASSIGN_OR_RETURN(Value values, runtime.NewTuple(args.positional));
  bool same = false;
  if (!loop.last_changed.is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(same, Equals(&runtime, loop.last_changed, values));
  }
  if (!same && loop.source != nullptr) loop.last_changed = std::move(values);
  return Value::Bool(!same);
}

constexpr BuiltinEntry kLoopMethods[] = {
    {"changed", LoopChanged},
    {"cycle", LoopCycle},
};

}  // namespace

Result<bool> LoopObject::Advance(Value* item) {
  if (!ahead.empty()) {
    *item = std::move(ahead.back());
    ahead.pop_back();
  } else {
    if (source == nullptr) return false;
    TIDAL_ASSIGN_OR_RETURN(const bool more, source->Next(item));
    if (!more) return false;
  }
  ++index0;
  previous = std::move(current);
  current = *item;
  return true;
}

Result<const Value*> LoopObject::Peek() {
  if (ahead.empty()) {
    Value item;
    if (source == nullptr) return nullptr;
    TIDAL_ASSIGN_OR_RETURN(const bool more, source->Next(&item));
    if (!more) return nullptr;
    ahead.push_back(std::move(item));
  }
  return &ahead.back();
}

Result<int64_t> LoopObject::Length(Runtime* runtime) {
  if (length >= 0) return length;
  if (source != nullptr) length = source->KnownLength();
  if (length >= 0) return length;
  // Read all that is left; `ahead` has the next item last.
  std::vector<Value> rest;
  for (Value item; source != nullptr;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, source->Next(&item));
    if (!more) break;
    rest.push_back(std::move(item));
    TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(rest.size() * sizeof(Value))));
  }
  std::reverse(rest.begin(), rest.end());
  rest.insert(rest.end(), ahead.begin(), ahead.end());
  ahead = std::move(rest);
  length = index0 + 1 + static_cast<int64_t>(ahead.size());
  return length;
}

void LoopObject::Detach() {
  source = nullptr;
  outer = nullptr;
  last_changed = Value();
}

std::span<const BuiltinEntry> LoopMethods() { return kLoopMethods; }

Result<std::optional<Value>> GetLoopAttribute(Runtime* runtime, const Value& loop_value,
                                              std::string_view name) {
  LoopObject& loop = AsLoop(loop_value);
  using Found = std::optional<Value>;
  if (name == "index") return Found(Value::Int(loop.index0 + 1));
  if (name == "index0") return Found(Value::Int(loop.index0));
  if (name == "first") return Found(Value::Bool(loop.index0 == 0));
  if (name == "depth") return Found(Value::Int(loop.depth0 + 1));
  if (name == "depth0") return Found(Value::Int(loop.depth0));
  if (name == "last" || name == "nextitem") {
    TIDAL_ASSIGN_OR_RETURN(const Value* next, loop.Peek());
    if (name == "last") return Found(Value::Bool(next == nullptr));
    if (next != nullptr) return Found(*next);
    TIDAL_ASSIGN_OR_RETURN(Value none, runtime->NewUndefined("there is no next item"));
    return Found(std::move(none));
  }
  if (name == "previtem") {
    if (loop.index0 != 0) return Found(loop.previous);
    TIDAL_ASSIGN_OR_RETURN(Value none, runtime->NewUndefined("there is no previous item"));
    return Found(std::move(none));
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    TIDAL_ASSIGN_OR_RETURN(const int64_t length, loop.Length(runtime));
    if (name == "length") return Found(Value::Int(length));
    return Found(Value::Int(length - loop.index0 - (name == "revindex0" ? 1 : 0)));
  }
  return Found();
}

}  // namespace tidal::jinja
