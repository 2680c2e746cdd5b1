#include "chat/jinja_ops.h"

#include <cmath>

#include "base/math.h"
#include "chat/jinja_find.h"
#include "chat/jinja_number.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

std::string_view Symbol(CompareOp op) {
  constexpr std::string_view kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  return kSymbols[static_cast<size_t>(op)];
}

// -1, 0 or 1; 2 where one is NaN.
int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  }
  if (a.is_integer()) return CompareIntDouble(a.integer(), b.floating());
  if (b.is_integer()) {
    const int reversed = CompareIntDouble(b.integer(), a.floating());
    return reversed == 2 ? 2 : -reversed;
  }
  const double x = a.floating();
  const double y = b.floating();
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

bool Holds(CompareOp op, int order) {
  switch (op) {
    case CompareOp::kEqual:
      return order == 0;
    case CompareOp::kNotEqual:
      return order != 0;
    case CompareOp::kLess:
      return order == -1;
    case CompareOp::kLessEqual:
      return order == -1 || order == 0;
    case CompareOp::kGreater:
      return order == 1;
    case CompareOp::kGreaterEqual:
      break;
  }
  return order == 1 || order == 0;
}

Result<bool> ItemsEqual(Runtime* runtime, const Value& a, const Value& b) {
  if (a.items().size() != b.items().size()) return false;
  for (size_t i = 0; i < a.items().size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(runtime, a.items()[i], b.items()[i]));
    if (!equal) return false;
  }
  return true;
}

Result<bool> DictsEqual(Runtime* runtime, const OrderedMap& a, const OrderedMap& b) {
  if (a.size() != b.size()) return false;
  for (const OrderedMap::Entry& entry : a.entries()) {
    const Value* other = b.Find(entry.encoded);
    if (other == nullptr) return false;
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(runtime, entry.value, *other));
    if (!equal) return false;
  }
  return true;
}

// Views of keys are sets; other views are only equal to themselves.
bool KeysEqual(const DictViewObject& a, const DictViewObject& b) {
  constexpr auto kKeys = DictViewObject::Part::kKeys;
  if (a.part != kKeys || b.part != kKeys) return false;
  const OrderedMap& x = a.dict.dict().map;
  const OrderedMap& y = b.dict.dict().map;
  return x.size() == y.size() &&
         std::all_of(x.entries().begin(), x.entries().end(), [&y](const OrderedMap::Entry& entry) {
           return y.Find(entry.encoded) != nullptr;
         });
}

bool RangesEqual(const RangeObject& a, const RangeObject& b) {
  const int64_t length = a.Length();
  if (length != b.Length()) return false;
  return length == 0 || (a.start == b.start && (length == 1 || a.step == b.step));
}

// Lists and tuples order by their first difference.
Result<bool> CompareItems(Runtime* runtime, CompareOp op, const Value& a, const Value& b) {
  const auto& x = a.items();
  const auto& y = b.items();
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(runtime, x[i], y[i]));
    if (!equal) return Compare(runtime, op, x[i], y[i]);
  }
  return Holds(op, x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0);
}

Status AppendTupleKey(Runtime* runtime, const Value& tuple, std::string* out) {
  *out += fmt::format("t{}:", tuple.items().size());
  for (const Value& item : tuple.items()) {
    TIDAL_ASSIGN_OR_RETURN(const std::string encoded, EncodeKey(runtime, item));
    *out += fmt::format("{}:{}", encoded.size(), encoded);
    TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(out->size())));
  }
  return OkStatus();
}

// What `container in` scans for: an equal item, in order.
Result<bool> ContainsByScan(Runtime* runtime, const Value& container, const Value& item) {
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(container));
  for (Value element;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(runtime, &element));
    if (!more) return false;
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(runtime, element, item));
    if (equal) return true;
  }
}

}  // namespace

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kNone:
    case Kind::kUndefined:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.floating() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.items().empty();
    case Kind::kDict:
      return value.dict().map.size() != 0;
    case Kind::kDictView:
      return value.view().dict.dict().map.size() != 0;
    case Kind::kRange:
      return value.range().Length() != 0;
    case Kind::kIterator:
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kMacro:
    case Kind::kBuiltin:
      break;
  }
  return true;
}

Result<int64_t> Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kDictView:
      return Cursor::Over(value)->KnownLength();
    default:
      return TypeError("something with a length", value);
  }
}

Result<bool> Equals(Runtime* runtime, const Value& a, const Value& b) {
  TIDAL_RETURN_IF_ERROR(runtime->Tick());
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  if (a.SameObject(b)) return true;
  switch (a.kind()) {
    case Kind::kNone:
    case Kind::kUndefined:
      return true;
    case Kind::kString:
      TIDAL_RETURN_IF_ERROR(runtime->TickCopy(a.text().size()));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return ItemsEqual(runtime, a, b);
    case Kind::kDict:
      return DictsEqual(runtime, a.dict().map, b.dict().map);
    case Kind::kRange:
      return RangesEqual(a.range(), b.range());
    case Kind::kDictView:
      TIDAL_RETURN_IF_ERROR(runtime->Tick(static_cast<int64_t>(a.view().dict.dict().map.size())));
      return KeysEqual(a.view(), b.view());
    case Kind::kBuiltin:
      return a.builtin().entry == b.builtin().entry &&
             (a.builtin().self.is_missing() || a.builtin().self.SameObject(b.builtin().self));
    default:
      return false;
  }
}

Result<bool> Compare(Runtime* runtime, CompareOp op, const Value& a, const Value& b) {
  if (op == CompareOp::kEqual || op == CompareOp::kNotEqual) {
    TIDAL_ASSIGN_OR_RETURN(const bool equal, Equals(runtime, a, b));
    return equal == (op == CompareOp::kEqual);
  }
  TIDAL_RETURN_IF_ERROR(runtime->Tick());
  if (a.is_number() && b.is_number()) return Holds(op, CompareNumbers(a, b));
  if (a.is_string() && b.is_string()) {
    TIDAL_RETURN_IF_ERROR(runtime->TickCopy(std::min(a.text().size(), b.text().size())));
    const int order = a.text().compare(b.text());  // UTF-8 sorts as its code points do
    return Holds(op, order < 0 ? -1 : order > 0 ? 1 : 0);
  }
  if (a.is_sequence() && a.kind() == b.kind()) return CompareItems(runtime, op, a, b);
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  return InvalidArgument("expected two values that can be ordered by {}, found types {} and {}",
                         Symbol(op), TypeName(a), TypeName(b));
}

Result<bool> Contains(Runtime* runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString: {
      if (!item.is_string()) return TypeError("a str to look for in a str", item);
      TIDAL_RETURN_IF_ERROR(runtime->TickScan(container.text().size()));
      return FindText(container.text(), item.text(), 0) != std::string_view::npos;
    }
    case Kind::kDict: {
      TIDAL_ASSIGN_OR_RETURN(const std::string encoded, EncodeKey(runtime, item));
      return container.dict().map.Find(encoded) != nullptr;
    }
    case Kind::kDictView: {
      if (container.view().part != DictViewObject::Part::kKeys) break;
      return Contains(runtime, container.view().dict, item);
    }
    case Kind::kRange: {
      if (!item.is_number()) return false;
      int64_t whole = item.is_integer() ? item.integer() : 0;
      if (!item.is_integer() && !DoubleToInt(item.floating(), &whole)) return false;
      const RangeObject& range = container.range();
      const int64_t length = range.Length();
      if (length == 0) return false;
      const int64_t last = range.At(length - 1).integer();
      if (whole < std::min(range.start, last) || whole > std::max(range.start, last)) return false;
      const uint64_t distance = static_cast<uint64_t>(whole) - static_cast<uint64_t>(range.start);
      const uint64_t forward = range.step > 0 ? distance : ~distance + 1;
      const uint64_t stride = range.step > 0 ? static_cast<uint64_t>(range.step)
                                             : ~static_cast<uint64_t>(range.step) + 1;
      return forward % stride == 0;
    }
    default:
      break;
  }
  return ContainsByScan(runtime, container, item);
}

Result<std::string> EncodeKey(Runtime* runtime, const Value& key) {
  TIDAL_RETURN_IF_ERROR(runtime->Tick());
  switch (key.kind()) {
    case Kind::kString:
      TIDAL_RETURN_IF_ERROR(runtime->TickCopy(key.text().size()));
      return EncodeStringKey(key.text());
    case Kind::kBool:
    case Kind::kInt:
      return fmt::format("n{}", key.integer());
    case Kind::kFloat: {
      int64_t whole = 0;
      if (DoubleToInt(key.floating(), &whole)) return fmt::format("n{}", whole);
      return "f" + FormatFloat(key.floating());
    }
    case Kind::kNone:
      return std::string("N");
    case Kind::kUndefined:
      return std::string("U");
    case Kind::kTuple: {
      std::string out;
      TIDAL_RETURN_IF_ERROR(AppendTupleKey(runtime, key, &out));
      return out;
    }
    case Kind::kRange:
      return fmt::format("r{}:{}:{}", key.range().start, key.range().stop, key.range().step);
    case Kind::kDictView:
      if (key.view().part != DictViewObject::Part::kValues) break;
      return fmt::format("p{}", static_cast<const void*>(key.object()));
    case Kind::kList:
    case Kind::kDict:
    case Kind::kMissing:
      break;
    default:
      return fmt::format("p{}", static_cast<const void*>(key.object()));
  }
  return TypeError("a value that can be a key", key);
}

}  // namespace tidal::jinja
