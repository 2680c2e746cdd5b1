#include "chat/jinja_value.h"

#include "chat/jinja_unicode.h"

namespace tidal::jinja {

size_t OrderedMap::FindIndex(std::string_view encoded) const {
  if (entries_.size() <= kLinearSize) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].encoded == encoded) return i;
    }
    return entries_.size();
  }
  const auto it = index_.find(std::string(encoded));
  return it == index_.end() ? entries_.size() : it->second;
}

const Value* OrderedMap::Find(std::string_view encoded) const {
  const size_t i = FindIndex(encoded);
  return i < entries_.size() ? &entries_[i].value : nullptr;
}

void OrderedMap::Set(std::string encoded, Value key, Value value) {
  const size_t i = FindIndex(encoded);
  if (i < entries_.size()) {
    entries_[i].value = std::move(value);
    return;
  }
  entries_.push_back({std::move(encoded), std::move(key), std::move(value)});
  if (entries_.size() <= kLinearSize) return;
  for (size_t j = index_.size(); j < entries_.size(); ++j) index_[entries_[j].encoded] = j;
}

std::vector<OrderedMap::Entry> OrderedMap::Release() {
  index_.clear();
  return std::exchange(entries_, {});
}

int64_t StringObject::Length() const {
  if (length < 0) length = CountCodePoints(text);
  return length;
}

int64_t RangeObject::Length() const {
  // The ends are 64-bit, so their distance needs one bit more.
  const auto distance = static_cast<uint64_t>(stop) - static_cast<uint64_t>(start);
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const uint64_t width = step > 0 ? distance : ~distance + 1;
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : ~static_cast<uint64_t>(step) + 1;
  const uint64_t count = (width - 1) / stride + 1;
  return static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX));
}

std::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
      return "missing";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kString:
      return value.is_markup() ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return value.iterator().type_name;
    case Kind::kDictView:
      switch (value.view().part) {
        case DictViewObject::Part::kKeys:
          return "dict_keys";
        case DictViewObject::Part::kValues:
          return "dict_values";
        case DictViewObject::Part::kItems:
          break;
      }
      return "dict_items";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kMacro:
      return "Macro";
    case Kind::kBuiltin:
      return "builtin_function_or_method";
  }
  return "object";
}

}  // namespace tidal::jinja
