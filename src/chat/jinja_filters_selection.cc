// Filters that apply a filter or a test to every item.
//
// Jinja computes their items when these are read; here they are computed at once, and what fails on
// the way is kept in the iterator and raised where reading gets there.
#include "chat/jinja_args.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {
namespace {

// One item in; kMissing out where it is to be left out.
using ItemFn = Result<Value> (*)(Runtime& runtime, const Value& item, const void* context);

Status CollectItems(Runtime& runtime, const Value& self, ItemFn function, const void* context,
                    std::vector<Value>* out) {
  const NativeCall call(&runtime);  // the filter may be map again
  TIDAL_RETURN_IF_ERROR(call.CheckDepth());
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  for (Value item;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(&runtime, &item));
    if (!more) return OkStatus();
    TIDAL_ASSIGN_OR_RETURN(Value result, function(runtime, item, context));
    if (result.is_missing()) continue;
    out->push_back(std::move(result));
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out->size() * sizeof(Value))));
  }
}

Result<Value> MakeIterator(Runtime& runtime, const Value& self, ItemFn function,
                           const void* context) {
  std::vector<Value> items;
  Status failure = CollectItems(runtime, self, function, context, &items);
  return runtime.NewIterator(std::move(items), std::move(failure));
}

// The filter or test that an argument names.
Result<const BuiltinEntry*> FindNamed(const Value& name, std::string_view what,
                                      const BuiltinEntry* (*find)(std::string_view)) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view text, TextArg(name, what));
  const BuiltinEntry* entry = find(text);
  if (entry != nullptr) return entry;
  if (find == FindFilter && IsUnsupportedFilter(text)) {
    return Unsupported("the filter '{}' is not supported", text);
  }
  return InvalidArgument("there is no {} named '{}'", what, text);
}

// The arguments without the first `count`.
CallArgs DropFirst(const CallArgs& args, size_t count) {
  CallArgs rest;
  rest.named = args.named;
  for (size_t i = count; i < args.positional.size(); ++i) {
    rest.positional.push_back(args.positional[i]);
  }
  return rest;
}

struct MapContext {
  const BuiltinEntry* filter = nullptr;
  CallArgs args;
  AttributePath path;  // where there is no filter
  Value fallback;
};

Result<MapContext> MakeMapContext(const CallArgs& args) {
  MapContext context;
  const bool by_attribute = args.positional.empty() && !args.named.empty();
  if (!by_attribute) {
    if (args.positional.empty())
      return InvalidArgument("expected a filter or an attribute for map");
    TIDAL_ASSIGN_OR_RETURN(context.filter, FindNamed(args.positional[0], "filter", FindFilter));
    context.args = DropFirst(args, 1);
    return context;
  }
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"attribute", "default"}));
  TIDAL_ASSIGN_OR_RETURN(context.path, AttributePath::Make(bound[0]));
  context.fallback = bound[1];
  return context;
}

Result<Value> MapItem(Runtime& runtime, const Value& item, const void* context) {
  const auto& map = *static_cast<const MapContext*>(context);
  if (map.filter != nullptr) return map.filter->function(runtime, item, map.args);
  return map.path.Get(&runtime, item, map.fallback);
}

Result<Value> MapFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  if (!IsTrue(self)) return runtime.NewIterator({}, OkStatus());
  TIDAL_RETURN_IF_ERROR(runtime.Tick(static_cast<int64_t>(args.positional.size())));
  Result<MapContext> context = MakeMapContext(args);
  if (!context.ok()) return runtime.NewIterator({}, context.status());
  return MakeIterator(runtime, self, MapItem, &*context);
}

struct SelectContext {
  const BuiltinEntry* test = nullptr;  // null: whether the value counts as true
  CallArgs args;
  AttributePath path;
  bool keep = true;  // what the test gives for the items that stay
};

enum class Subject : bool { kItem, kAttribute };

Result<SelectContext> MakeSelectContext(const CallArgs& args, Subject subject, bool keep) {
  SelectContext context;
  context.keep = keep;
  const size_t offset = subject == Subject::kAttribute ? 1 : 0;
  if (args.positional.size() < offset) return InvalidArgument("expected the name of an attribute");
  if (subject == Subject::kAttribute) {
    TIDAL_ASSIGN_OR_RETURN(context.path, AttributePath::Make(args.positional[0]));
  }
  if (args.positional.size() > offset) {
    TIDAL_ASSIGN_OR_RETURN(context.test, FindNamed(args.positional[offset], "test", FindTest));
    context.args = DropFirst(args, offset + 1);
  }
  return context;
}

Result<Value> SelectItem(Runtime& runtime, const Value& item, const void* context) {
  const auto& select = *static_cast<const SelectContext*>(context);
  TIDAL_ASSIGN_OR_RETURN(Value value, select.path.Get(&runtime, item));
  if (select.test != nullptr) {
    TIDAL_ASSIGN_OR_RETURN(value, select.test->function(runtime, value, select.args));
  }
  return IsTrue(value) == select.keep ? item : Value();
}

Result<Value> Select(Runtime& runtime, const Value& self, const CallArgs& args, Subject subject,
                     bool keep) {
  if (!IsTrue(self)) return runtime.NewIterator({}, OkStatus());
  TIDAL_RETURN_IF_ERROR(runtime.Tick(static_cast<int64_t>(args.positional.size())));
  Result<SelectContext> context = MakeSelectContext(args, subject, keep);
  if (!context.ok()) return runtime.NewIterator({}, context.status());
  return MakeIterator(runtime, self, SelectItem, &*context);
}

Result<Value> RejectFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Select(runtime, self, args, Subject::kItem, false);
}
Result<Value> RejectattrFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Select(runtime, self, args, Subject::kAttribute, false);
}
Result<Value> SelectFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Select(runtime, self, args, Subject::kItem, true);
}
Result<Value> SelectattrFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Select(runtime, self, args, Subject::kAttribute, true);
}

constexpr BuiltinEntry kSelectionFilters[] = {
    {"map", MapFilter},       {"reject", RejectFilter},         {"rejectattr", RejectattrFilter},
    {"select", SelectFilter}, {"selectattr", SelectattrFilter},
};

}  // namespace

std::span<const BuiltinEntry> SelectionFilters() { return kSelectionFilters; }

}  // namespace tidal::jinja
