#include "chat/jinja_attributes.h"

#include <algorithm>

#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_text.h"

namespace tidal::jinja {
namespace {

constexpr std::string_view kListMutators[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kDictMutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

bool IsMutator(const Value& object, std::string_view name) {
  const auto listed = [name](std::span<const std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (object.is(Kind::kList)) return listed(kListMutators);
  return object.is(Kind::kDict) && listed(kDictMutators);
}

std::span<const BuiltinEntry> MethodsOf(const Value& object) {
  switch (object.kind()) {
    case Kind::kString:
      return StringMethods();
    case Kind::kList:
      return ListMethods();
    case Kind::kTuple:
      return TupleMethods();
    case Kind::kDict:
      return DictMethods();
    case Kind::kLoop:
      return LoopMethods();
    default:
      return {};
  }
}

// What getattr(object, name) finds; nothing where it raises AttributeError.
Result<std::optional<Value>> FindAttribute(Runtime* runtime, const Value& object,
                                           std::string_view name) {
  if (object.is_undefined()) return UndefinedError(object);
  if (object.is(Kind::kNamespace)) {
    const Value* found = object.name_space().attributes.Find(EncodeStringKey(name));
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (object.is(Kind::kLoop)) {
    TIDAL_ASSIGN_OR_RETURN(std::optional<Value> value, GetLoopAttribute(runtime, object, name));
    if (value) return value;
  }
  if (object.is(Kind::kMacro)) return GetMacroAttribute(runtime, object, name);
  if (object.is(Kind::kTuple) && object.list().is_group) {
    if (name == "grouper") return std::optional<Value>(object.items()[0]);
    if (name == "list") return std::optional<Value>(object.items()[1]);
  }
  if (IsMutator(object, name)) {
    TIDAL_ASSIGN_OR_RETURN(Value unsafe, runtime->NewUndefined(fmt::format(
                                             "a template may not call '{}', which changes a {}",
                                             name, TypeName(object))));
    return std::optional<Value>(std::move(unsafe));
  }
  const BuiltinEntry* method = FindBuiltin(MethodsOf(object), name);
  if (method == nullptr) return std::optional<Value>();
  TIDAL_ASSIGN_OR_RETURN(Value bound, runtime->NewBuiltin(object, method));
  return std::optional<Value>(std::move(bound));
}

Result<Value> NoAttribute(Runtime* runtime, const Value& object, std::string_view name) {
  return runtime->NewUndefined(
      fmt::format("a value of type {} has no attribute {}", TypeName(object), Quote(name)));
}

}  // namespace

const BuiltinEntry* FindBuiltin(std::span<const BuiltinEntry> table, std::string_view name) {
  const auto it = std::lower_bound(
      table.begin(), table.end(), name,
      [](const BuiltinEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != table.end() && it->name == name ? &*it : nullptr;
}

Result<Value> GetOnlyAttribute(Runtime* runtime, const Value& object, std::string_view name) {
  TIDAL_ASSIGN_OR_RETURN(std::optional<Value> found, FindAttribute(runtime, object, name));
  if (found) return *std::move(found);
  return NoAttribute(runtime, object, name);
}

Result<Value> GetAttribute(Runtime* runtime, const Value& object, std::string_view name) {
  TIDAL_ASSIGN_OR_RETURN(std::optional<Value> found, FindAttribute(runtime, object, name));
  if (found) return *std::move(found);
  if (object.is(Kind::kDict)) {
    const Value* item = object.dict().map.Find(EncodeStringKey(name));
    if (item != nullptr) return *item;
  }
  return NoAttribute(runtime, object, name);
}

Result<Value> GetItem(Runtime* runtime, const Value& object, const Value& key) {
  TIDAL_ASSIGN_OR_RETURN(std::optional<Value> item, Subscript(runtime, object, key));
  if (item) return *std::move(item);
  if (key.is_string()) {
    TIDAL_ASSIGN_OR_RETURN(std::optional<Value> found, FindAttribute(runtime, object, key.text()));
    if (found) return *std::move(found);
    return NoAttribute(runtime, object, key.text());
  }
  TIDAL_ASSIGN_OR_RETURN(const std::string printed, ToRepr(runtime, key));
  return runtime->NewUndefined(
      fmt::format("a value of type {} has no element {}", TypeName(object), printed));
}

}  // namespace tidal::jinja
