// The methods of list, tuple and dict that do not change them.
#include "chat/jinja_args.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {
namespace {

Result<Value> SequenceCount(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"value"}));
  int64_t count = 0;
  for (const Value& item : self.items()) {
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(&runtime, item, bound[0]));
    if (equal) ++count;
  }
  return Value::Int(count);
}

Result<Value> SequenceIndex(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"value", "start", "stop"}));
  const auto length = static_cast<int64_t>(self.items().size());
  int64_t ends[2] = {0, length};
  for (size_t i = 0; i < 2; ++i) {
    TIDAL_ASSIGN_OR_RETURN(ends[i], IntArgOr(bound[i + 1], "start or stop", ends[i]));
    if (ends[i] < 0) ends[i] = std::max<int64_t>(ends[i] + length, 0);
  }
  for (int64_t i = ends[0]; i < std::min(ends[1], length); ++i) {
    TIDAL_ASSIGN_OR_RETURN(const bool equal,
                           Equals(&runtime, self.items()[static_cast<size_t>(i)], bound[0]));
    if (equal) return Value::Int(i);
  }
  return InvalidArgument("expected the value to look for to be there, found it nowhere");
}

Result<Value> ListCopy(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  return self;  // lists do not change, so a copy cannot be told from the list
}

Result<Value> DictCopy(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  return self;
}

Result<Value> DictGet(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"key", "default"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string encoded, EncodeKey(&runtime, bound[0]));
  const Value* found = self.dict().map.Find(encoded);
  if (found != nullptr) return *found;
  return bound[1].is_missing() ? Value::None() : bound[1];
}

template <DictViewObject::Part kPart>
Result<Value> DictView(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  return runtime.NewView(self, kPart);
}

constexpr BuiltinEntry kListMethods[] = {
    {"copy", ListCopy},
    {"count", SequenceCount},
    {"index", SequenceIndex},
};

constexpr BuiltinEntry kTupleMethods[] = {
    {"count", SequenceCount},
    {"index", SequenceIndex},
};

constexpr BuiltinEntry kDictMethods[] = {
    {"copy", DictCopy},
    {"get", DictGet},
    {"items", DictView<DictViewObject::Part::kItems>},
    {"keys", DictView<DictViewObject::Part::kKeys>},
    {"values", DictView<DictViewObject::Part::kValues>},
};

}  // namespace

std::span<const BuiltinEntry> ListMethods() { return kListMethods; }
std::span<const BuiltinEntry> TupleMethods() { return kTupleMethods; }
std::span<const BuiltinEntry> DictMethods() { return kDictMethods; }

}  // namespace tidal::jinja
