// The values of a template: Python's None, bool, int (64 bits here), float, str, list, tuple, dict,
// range, the iterators and views that filters and methods return, and Jinja's undefined, namespace,
// loop and macro.
//
// Values are handles with a reference count that is not atomic: all values of one rendering belong
// to its thread, and die before its Runtime. Lists, tuples, dicts and strings never change once
// made, as in the sandbox that chat templates are written for, so they cannot form cycles;
// namespaces can, and the Runtime breaks those.
#ifndef TIDAL_CHAT_JINJA_VALUE_H_
#define TIDAL_CHAT_JINJA_VALUE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tidal::jinja {

enum class Kind : uint8_t {
  kMissing,  // no value at all: an argument that was not given, a variable before its assignment
  kNone,
  kBool,
  kInt,
  kFloat,
  // From here on with an object behind them.
  kUndefined,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kIterator,
  kDictView,
  kNamespace,
  kLoop,
  kMacro,
  kBuiltin,
};

// Bytes held by living objects of one rendering.
struct MemoryAccount {
  int64_t live_bytes = 0;
};

struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() {
    if (account != nullptr) account->live_bytes -= charged_bytes;
  }

  uint32_t references = 0;
  int32_t height = 0;  // levels of values below; bounded, so that recursion over a value is
  MemoryAccount* account = nullptr;
  int64_t charged_bytes = 0;
};

struct StringObject;
struct ListObject;
struct DictObject;
struct RangeObject;
struct IteratorObject;
struct DictViewObject;
struct NamespaceObject;
struct BuiltinObject;
struct UndefinedObject;

class Value {
 public:
  Value() = default;  // kMissing
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value) {
    Value result(Kind::kBool);
    result.payload_.integer = value ? 1 : 0;
    return result;
  }
  static Value Int(int64_t value) {
    Value result(Kind::kInt);
    result.payload_.integer = value;
    return result;
  }
  static Value Float(double value) {
    Value result(Kind::kFloat);
    result.payload_.floating = value;
    return result;
  }
  // Takes one more reference. REQUIRES: kind has an object behind it, and object is of that kind.
  Value(Kind kind, Object* object) : kind_(kind) {
    payload_.object = object;
    ++object->references;
  }

  Value(const Value& other) : kind_(other.kind_), payload_(other.payload_) {
    if (has_object()) ++payload_.object->references;
  }
  Value(Value&& other) noexcept : kind_(other.kind_), payload_(other.payload_) {
    other.kind_ = Kind::kMissing;
  }
  Value& operator=(const Value& other) {
    Value copy(other);
    return *this = std::move(copy);
  }
  Value& operator=(Value&& other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(payload_, other.payload_);
    return *this;
  }
  ~Value() {
    if (has_object() && --payload_.object->references == 0) delete payload_.object;
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_missing() const { return kind_ == Kind::kMissing; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  // bool is an int in Python.
  bool is_integer() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integer() || kind_ == Kind::kFloat; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  // REQUIRES for each: the kind it is named after.
  bool boolean() const { return payload_.integer != 0; }
  int64_t integer() const { return payload_.integer; }  // 0 or 1 for a bool
  double floating() const { return payload_.floating; }
  double as_double() const {
    return kind_ == Kind::kFloat ? payload_.floating : static_cast<double>(payload_.integer);
  }
  std::string_view text() const;
  bool is_markup() const;  // false for what is no string
  const std::vector<Value>& items() const;
  const StringObject& string() const;
  const ListObject& list() const;
  const DictObject& dict() const;
  const RangeObject& range() const;
  IteratorObject& iterator() const;
  const DictViewObject& view() const;
  NamespaceObject& name_space() const;
  const BuiltinObject& builtin() const;
  const UndefinedObject& undefined() const;
  Object* object() const { return payload_.object; }

  int32_t height() const { return has_object() ? payload_.object->height : 0; }
  bool SameObject(const Value& other) const {
    return kind_ == other.kind_ && has_object() && payload_.object == other.payload_.object;
  }

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  bool has_object() const { return kind_ >= Kind::kUndefined; }

  union Payload {
    int64_t integer = 0;
    double floating;
    Object* object;
  };

  Kind kind_ = Kind::kMissing;
  Payload payload_;
};

// A hash map that keeps the order of insertion. Keys are looked up by their encoding (EncodeKey),
// which is the same text exactly for keys that are equal in Python.
class OrderedMap {
 public:
  struct Entry {
    std::string encoded;
    Value key;
    Value value;
  };

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  // Null where there is none.
  const Value* Find(std::string_view encoded) const;
  // A key that is there keeps its place and its first spelling, as in Python.
  void Set(std::string encoded, Value key, Value value);
  // Gives up all entries.
  std::vector<Entry> Release();

 private:
  static constexpr size_t kLinearSize = 8;  // up to here a scan is as fast as hashing

  size_t FindIndex(std::string_view encoded) const;

  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;  // empty up to kLinearSize entries
};

struct StringObject : Object {
  std::string text;
  bool markup = false;  // marked as safe HTML
  // In code points; -1 before it is counted.
  mutable int64_t length = -1;

  int64_t Length() const;
  bool IsSingleByte() const { return Length() == static_cast<int64_t>(text.size()); }
};

// Of kList and kTuple.
struct ListObject : Object {
  std::vector<Value> items;
  bool is_group = false;  // a pair of the filter groupby, with the attributes grouper and list
};

struct DictObject : Object {
  OrderedMap map;
};

struct RangeObject : Object {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;

  int64_t Length() const;
  // REQUIRES: 0 <= index < Length().
  Value At(int64_t index) const { return Value::Int(start + index * step); }
};

// What map, select, reverse and the like return: it can be read once. Its items are computed when
// it is made; an error on the way is raised where reading reaches it.
struct IteratorObject : Object {
  std::vector<Value> items;
  size_t next = 0;
  Status failure;
  std::string_view type_name = "generator";
};

struct DictViewObject : Object {
  enum class Part : uint8_t { kKeys, kValues, kItems };
  Value dict;
  Part part = Part::kKeys;
};

struct NamespaceObject : Object {
  OrderedMap attributes;
};

struct UndefinedObject : Object {
  std::string message;  // why it is undefined: "'tools' is undefined"
};

class Runtime;

// The arguments of a call, in the order they were written.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

using BuiltinFn = Result<Value> (*)(Runtime& runtime, const Value& self, const CallArgs& args);

// A function, method, filter or test of ours. For a global function, self is kMissing.
struct BuiltinEntry {
  std::string_view name;
  BuiltinFn function;
};

// Of kBuiltin: a global function or a method bound to its object.
struct BuiltinObject : Object {
  Value self;
  const BuiltinEntry* entry = nullptr;
};

// As type(value).__name__ in Python.
std::string_view TypeName(const Value& value);

inline std::string_view Value::text() const { return string().text; }
inline const std::vector<Value>& Value::items() const { return list().items; }
inline bool Value::is_markup() const { return is_string() && string().markup; }
inline const StringObject& Value::string() const {
  return *static_cast<const StringObject*>(payload_.object);
}
inline const ListObject& Value::list() const {
  return *static_cast<const ListObject*>(payload_.object);
}
inline const DictObject& Value::dict() const {
  return *static_cast<const DictObject*>(payload_.object);
}
inline const RangeObject& Value::range() const {
  return *static_cast<const RangeObject*>(payload_.object);
}
inline IteratorObject& Value::iterator() const {
  return *static_cast<IteratorObject*>(payload_.object);
}
inline const DictViewObject& Value::view() const {
  return *static_cast<const DictViewObject*>(payload_.object);
}
inline NamespaceObject& Value::name_space() const {
  return *static_cast<NamespaceObject*>(payload_.object);
}
inline const BuiltinObject& Value::builtin() const {
  return *static_cast<const BuiltinObject*>(payload_.object);
}
inline const UndefinedObject& Value::undefined() const {
  return *static_cast<const UndefinedObject*>(payload_.object);
}

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_VALUE_H_
