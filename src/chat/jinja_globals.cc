// The global functions of templates, and the look-up of filters.
#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_strftime.h"

namespace tidal::jinja {
namespace {

// dict(mapping or pairs, **named) of Python.
Status FillMap(Runtime* runtime, const CallArgs& args, MapBuilder* map) {
  if (args.positional.size() > 1) {
    return InvalidArgument("expected at most one positional argument, found {}",
                           args.positional.size());
  }
  if (!args.positional.empty() && args.positional[0].is(Kind::kDict)) {
    for (const OrderedMap::Entry& entry : args.positional[0].dict().map.entries()) {
      TIDAL_RETURN_IF_ERROR(runtime->Tick());
      TIDAL_RETURN_IF_ERROR(map->Set(entry.encoded, entry.key, entry.value));
    }
  } else if (!args.positional.empty()) {
    if (args.positional[0].is_undefined()) return UndefinedError(args.positional[0]);
    TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> items, Drain(runtime, args.positional[0]));
    for (const Value& item : items) {
      TIDAL_ASSIGN_OR_RETURN(std::vector<Value> pair, Drain(runtime, item));
      if (pair.size() != 2)
        return InvalidArgument("expected pairs for a dict, found {} values", pair.size());
      TIDAL_ASSIGN_OR_RETURN(std::string encoded, EncodeKey(runtime, pair[0]));
      TIDAL_RETURN_IF_ERROR(map->Set(std::move(encoded), std::move(pair[0]), std::move(pair[1])));
    }
  }
  for (const auto& [name, value] : args.named) {
    TIDAL_RETURN_IF_ERROR(map->SetNamed(name, value));
  }
  return OkStatus();
}

Result<Value> DictGlobal(Runtime& runtime, const Value& self, const CallArgs& args) {
  MapBuilder map(&runtime);
  TIDAL_RETURN_IF_ERROR(FillMap(&runtime, args, &map));
  return runtime.NewDict(map.Take());
}

Result<Value> NamespaceGlobal(Runtime& runtime, const Value& self, const CallArgs& args) {
  MapBuilder map(&runtime);
  TIDAL_RETURN_IF_ERROR(FillMap(&runtime, args, &map));
  OrderedMap attributes = map.Take();
  for (const OrderedMap::Entry& entry : attributes.entries()) {
    if (entry.key.is_string() && entry.key.text().substr(0, 1) == "_") {
      return InvalidArgument("an attribute of a namespace may not start with '_', found '{}'",
                             entry.key.text());
    }
  }
  return runtime.NewNamespace(std::move(attributes));
}

Result<Value> RaiseExceptionGlobal(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"message"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string message, ToText(&runtime, bound[0]));
  return InvalidArgument("the template refuses this conversation: {}", message);
}

Result<Value> RangeGlobal(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  const size_t count = args.positional.size();
  if (count < 1 || count > 3) {
    return InvalidArgument("expected one to three arguments for range, found {}", count);
  }
  int64_t parts[3] = {0, 0, 1};  // start, stop, step
  for (size_t i = 0; i < count; ++i) {
    TIDAL_ASSIGN_OR_RETURN(parts[count == 1 ? 1 : i], IntArg(args.positional[i], "range"));
  }
  if (parts[2] == 0) return InvalidArgument("expected a step of range other than 0, found 0");
  TIDAL_ASSIGN_OR_RETURN(Value range, runtime.NewRange(parts[0], parts[1], parts[2]));
  constexpr int64_t kMaxRange = 100'000;  // that of Jinja's sandbox
  if (range.range().Length() > kMaxRange) {
    return InvalidArgument("expected a range of at most {} numbers, found {}", kMaxRange,
                           range.range().Length());
  }
  return range;
}

Result<Value> StrftimeNowGlobal(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"format"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view format, TextArg(bound[0], "format"));
  constexpr int64_t kMaxFactor = 12;  // the longest field, %c, for two bytes
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(format.size()) * kMaxFactor));
  return runtime.NewString(FormatTime(runtime.now(), format));
}

constexpr BuiltinEntry kGlobals[] = {
    {"dict", DictGlobal},
    {"namespace", NamespaceGlobal},
    {"raise_exception", RaiseExceptionGlobal},
    {"range", RangeGlobal},
    {"strftime_now", StrftimeNowGlobal},
};

constexpr std::string_view kUnsupportedFilters[] = {
    "filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr",
};

}  // namespace

const BuiltinEntry* FindGlobal(std::string_view name) { return FindBuiltin(kGlobals, name); }

const BuiltinEntry* FindFilter(std::string_view name) {
  for (const auto table : {TextFilters(), SequenceFilters(), SelectionFilters(), ValueFilters()}) {
    const BuiltinEntry* entry = FindBuiltin(table, name);
    if (entry != nullptr) return entry;
  }
  return nullptr;
}

bool IsUnsupportedFilter(std::string_view name) {
  return std::find(std::begin(kUnsupportedFilters), std::end(kUnsupportedFilters), name) !=
         std::end(kUnsupportedFilters);
}

}  // namespace tidal::jinja
