// Filters over lists and other iterables.
#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {
namespace {

// Parameters of the filters that order by an attribute.
CaseRule ReadCaseRule(const Value& case_sensitive) {
  return IsTrue(case_sensitive) ? CaseRule::kKeep : CaseRule::kIgnore;
}

struct KeyedItem {
  Value key;
  Value item;
};

// Ascending by key, or descending; equal keys keep their order both ways.
Status SortByKey(Runtime* runtime, bool reverse, std::vector<KeyedItem>* items) {
  return StableSort(items, [runtime, reverse](const KeyedItem& a, const KeyedItem& b) {
    return reverse ? Compare(runtime, CompareOp::kLess, b.key, a.key)
                   : Compare(runtime, CompareOp::kLess, a.key, b.key);
  });
}

std::vector<Value> TakeItems(std::vector<KeyedItem>* keyed) {
  std::vector<Value> items;
  items.reserve(keyed->size());
  for (KeyedItem& entry : *keyed) items.push_back(std::move(entry.item));
  return items;
}

Result<Value> BatchFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"linecount", "fill_with"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t size, IntArg(bound[0], "linecount"));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (Value& item : items) {
    if (static_cast<int64_t>(batch.size()) == size) {
      TIDAL_ASSIGN_OR_RETURN(Value list, runtime.NewList(std::exchange(batch, {})));
      batches.push_back(std::move(list));
    }
    batch.push_back(std::move(item));
  }
  if (!batch.empty()) {
    const bool fill = !bound[1].is_missing() && !bound[1].is_none();
    const int64_t missing = size - static_cast<int64_t>(batch.size());
    if (fill && missing > 0) {
      TIDAL_RETURN_IF_ERROR(runtime.CheckSize(size > INT64_MAX / 64 ? -1 : size * 16));
      batch.insert(batch.end(), static_cast<size_t>(missing), bound[1]);
    }
    TIDAL_ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(batch)));
    batches.push_back(std::move(list));
  }
  return runtime.NewIterator(std::move(batches), OkStatus());
}

Result<Value> SliceFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"slices", "fill_with"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t slices, IntArg(bound[0], "slices"));
  TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> items, Drain(&runtime, self));
  if (slices == 0) {
    return runtime.NewIterator({}, InvalidArgument("expected at least one slice, found 0"));
  }
  const bool fill = !bound[1].is_missing() && !bound[1].is_none();
  std::vector<Value> columns;
  auto at = items.begin();
  const auto size = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < slices; ++i) {
    TIDAL_RETURN_IF_ERROR(runtime.Tick());
    const bool extra = i < size % slices;
    const auto end = at + size / slices + (extra ? 1 : 0);
    std::vector<Value> column(at, end);
    at = end;
    if (fill && !extra) column.push_back(bound[1]);
    TIDAL_ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(column)));
    columns.push_back(std::move(list));
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(columns.size() * sizeof(Value))));
  }
  return runtime.NewIterator(std::move(columns), OkStatus());
}

Result<Value> DictsortFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"case_sensitive", "by", "reverse"}));
  if (!self.is(Kind::kDict)) return TypeError("a dict for dictsort", self);
  bool by_value = false;
  if (!bound[1].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(const std::string_view by, TextArg(bound[1], "by"));
    if (by != "key" && by != "value") {
      return InvalidArgument("expected dictsort by 'key' or 'value', found '{}'", by);
    }
    by_value = by == "value";
  }
  std::vector<KeyedItem> keyed;
  for (const OrderedMap::Entry& entry : self.dict().map.entries()) {
    KeyedItem item;
    TIDAL_ASSIGN_OR_RETURN(item.item, runtime.NewTuple({entry.key, entry.value}));
    TIDAL_ASSIGN_OR_RETURN(
        item.key, FoldCase(&runtime, ReadCaseRule(bound[0]), by_value ? entry.value : entry.key));
    keyed.push_back(std::move(item));
  }
  TIDAL_RETURN_IF_ERROR(SortByKey(&runtime, IsTrue(bound[2]), &keyed));
  return runtime.NewList(TakeItems(&keyed));
}

Result<Value> FirstFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  Value item;
  TIDAL_ASSIGN_OR_RETURN(const bool found, cursor.Next(&runtime, &item));
  if (found) return item;
  return runtime.NewUndefined("there is no first item: the sequence is empty");
}

// Whether Python's reversed() takes it.
bool IsReversible(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kDictView:
      return true;
    default:
      return false;
  }
}

Result<Value> LastFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (!IsReversible(self)) return TypeError("a sequence that can be read backwards", self);
  TIDAL_ASSIGN_OR_RETURN(const int64_t length, Length(self));
  if (length == 0) return runtime.NewUndefined("there is no last item: the sequence is empty");
  if (self.is_sequence()) return self.items().back();
  if (self.is(Kind::kRange)) return self.range().At(length - 1);
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  return std::move(items.back());
}

Result<Value> ReverseFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (self.is_string()) return Slice(&runtime, self, Value(), Value(), Value::Int(-1));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  std::reverse(items.begin(), items.end());
  if (!IsReversible(self)) return runtime.NewList(std::move(items));
  return runtime.NewIterator(std::move(items), OkStatus(), "reversed");
}

Result<Value> ListFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  return runtime.NewList(std::move(items));
}

Result<Value> Extreme(Runtime& runtime, const Value& self, const CallArgs& args, CompareOp better) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"case_sensitive", "attribute"}));
  TIDAL_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Make(bound[1]));
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  KeyedItem best;
  for (KeyedItem next;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(&runtime, &next.item));
    if (!more) break;
    TIDAL_ASSIGN_OR_RETURN(Value key, path.Get(&runtime, next.item));
    TIDAL_ASSIGN_OR_RETURN(next.key, FoldCase(&runtime, ReadCaseRule(bound[0]), std::move(key)));
    bool replace = best.item.is_missing();
    if (!replace) {
      TIDAL_ASSIGN_OR_RETURN(replace, Compare(&runtime, better, next.key, best.key));
    }
    if (replace) best = next;
  }
  if (!best.item.is_missing()) return best.item;
  return runtime.NewUndefined("there is no smallest or largest item: the sequence is empty");
}

Result<Value> MinFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Extreme(runtime, self, args, CompareOp::kLess);
}

Result<Value> MaxFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Extreme(runtime, self, args, CompareOp::kGreater);
}

Result<Value> SortFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound,
                         Bind(args, 0, {"reverse", "case_sensitive", "attribute"}));
  TIDAL_ASSIGN_OR_RETURN(const std::vector<AttributePath> paths, AttributePath::MakeList(bound[2]));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  std::vector<KeyedItem> keyed;
  for (Value& item : items) {
    std::vector<Value> keys;
    for (const AttributePath& path : paths) {
      TIDAL_ASSIGN_OR_RETURN(Value key, path.Get(&runtime, item));
      TIDAL_ASSIGN_OR_RETURN(key, FoldCase(&runtime, ReadCaseRule(bound[1]), std::move(key)));
      keys.push_back(std::move(key));
    }
    TIDAL_ASSIGN_OR_RETURN(Value key, runtime.NewList(std::move(keys)));
    keyed.push_back({std::move(key), std::move(item)});
  }
  TIDAL_RETURN_IF_ERROR(SortByKey(&runtime, IsTrue(bound[0]), &keyed));
  return runtime.NewList(TakeItems(&keyed));
}

Result<Value> GroupbyFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound,
                         Bind(args, 1, {"attribute", "default", "case_sensitive"}));
  TIDAL_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Make(bound[0]));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, self));
  std::vector<KeyedItem> keyed;
  for (Value& item : items) {
    TIDAL_ASSIGN_OR_RETURN(Value key, path.Get(&runtime, item, bound[1]));
    TIDAL_ASSIGN_OR_RETURN(key, FoldCase(&runtime, ReadCaseRule(bound[2]), std::move(key)));
    keyed.push_back({std::move(key), std::move(item)});
  }
  TIDAL_RETURN_IF_ERROR(SortByKey(&runtime, false, &keyed));
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    std::vector<Value> members;
    size_t end = begin;
    for (; end < keyed.size(); ++end) {
      TIDAL_ASSIGN_OR_RETURN(const bool same, Equals(&runtime, keyed[begin].key, keyed[end].key));
      if (!same) break;
      members.push_back(keyed[end].item);
    }
    end = std::max(end, begin + 1);  // a NaN is not even equal to itself
    // The group is named by its first member, in that one's case.
    TIDAL_ASSIGN_OR_RETURN(Value name, path.Get(&runtime, keyed[begin].item, bound[1]));
    TIDAL_ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(members)));
    TIDAL_ASSIGN_OR_RETURN(Value group, runtime.NewGroup(std::move(name), std::move(list)));
    groups.push_back(std::move(group));
    begin = end;
  }
  return runtime.NewList(std::move(groups));
}

Result<Value> SumFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"attribute", "start"}));
  TIDAL_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Make(bound[0]));
  if (bound[1].is_string()) return TypeError("numbers or lists to sum", bound[1]);
  Value sum = bound[1].is_missing() ? Value::Int(0) : bound[1];
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  for (Value item;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(&runtime, &item));
    if (!more) return sum;
    TIDAL_ASSIGN_OR_RETURN(const Value value, path.Get(&runtime, item));
    TIDAL_ASSIGN_OR_RETURN(sum, Binary(&runtime, BinaryOp::kAdd, sum, value));
  }
}

Result<Value> UniqueFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"case_sensitive", "attribute"}));
  TIDAL_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Make(bound[1]));
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  std::vector<Value> kept;
  MapBuilder seen(&runtime);
  for (Value item;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(&runtime, &item));
    if (!more) return runtime.NewIterator(std::move(kept), OkStatus());
    TIDAL_ASSIGN_OR_RETURN(Value key, path.Get(&runtime, item));
    TIDAL_ASSIGN_OR_RETURN(key, FoldCase(&runtime, ReadCaseRule(bound[0]), std::move(key)));
    Result<std::string> encoded = EncodeKey(&runtime, key);
    if (!encoded.ok()) return runtime.NewIterator(std::move(kept), encoded.status());
    if (seen.Has(*encoded)) continue;
    TIDAL_RETURN_IF_ERROR(seen.Set(std::move(encoded).value(), Value(), Value()));
    kept.push_back(std::move(item));
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(kept.size() * sizeof(Value))));
  }
}

constexpr BuiltinEntry kSequenceFilters[] = {
    {"batch", BatchFilter},     {"dictsort", DictsortFilter}, {"first", FirstFilter},
    {"groupby", GroupbyFilter}, {"last", LastFilter},         {"list", ListFilter},
    {"max", MaxFilter},         {"min", MinFilter},           {"reverse", ReverseFilter},
    {"slice", SliceFilter},     {"sort", SortFilter},         {"sum", SumFilter},
    {"unique", UniqueFilter},
};

}  // namespace

std::span<const BuiltinEntry> SequenceFilters() { return kSequenceFilters; }

}  // namespace tidal::jinja
