// What one rendering may spend, and the makers of values that account for it.
//
// Threads: a Runtime belongs to one thread. It must outlive the values it makes.
#ifndef TIDAL_CHAT_JINJA_RUNTIME_H_
#define TIDAL_CHAT_JINJA_RUNTIME_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "chat/chat_template.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// Levels of lists and dicts in each other. Comparing, printing and freeing a value recurse this
// deep.
inline constexpr int32_t kMaxValueHeight = 200;

enum class Markup : bool { kNo, kYes };

class Runtime {
 public:
  Runtime(const TemplateLimits& limits, const TemplateTime& now) : limits_(limits), now_(now) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const TemplateLimits& limits() const { return limits_; }
  const TemplateTime& now() const { return now_; }

  // Counts work against max_steps; an error once it is spent.
  Status Tick(int64_t steps = 1) {
    steps_ += steps;
    return steps_ <= limits_.max_steps ? OkStatus() : StepsExceeded();
  }
  // Bytes that are copied or compared, walked through, or converted one by one: a step takes about
  // as long for each.
  Status TickCopy(size_t bytes) { return Tick(static_cast<int64_t>(bytes / 1024)); }
  Status TickScan(size_t bytes) { return Tick(static_cast<int64_t>(bytes / 128)); }
  Status TickConvert(size_t bytes) { return Tick(static_cast<int64_t>(bytes / 16)); }
  // Ask before building a string or list of so many bytes.
  Status CheckSize(int64_t bytes) const;
  // Counts bytes that are not a value's, such as rendered text, until they are given back.
  Status Charge(int64_t bytes);
  void GiveBack(int64_t bytes) { account_.live_bytes -= bytes; }

  // Each maker gives an error at a limit: of one value's size, of all living values, of nesting.
  Result<Value> NewString(std::string text, Markup markup = Markup::kNo);
  Result<Value> NewList(std::vector<Value> items) {
    return NewItems(Kind::kList, std::move(items));
  }
  Result<Value> NewTuple(std::vector<Value> items) {
    return NewItems(Kind::kTuple, std::move(items));
  }
  Result<Value> NewGroup(Value key, Value list);
  Result<Value> NewDict(OrderedMap map);
  Result<Value> NewRange(int64_t start, int64_t stop, int64_t step);
  Result<Value> NewIterator(std::vector<Value> items, Status failure,
                            std::string_view type_name = "generator");
  Result<Value> NewView(Value dict, DictViewObject::Part part);
  Result<Value> NewNamespace(OrderedMap attributes);
  Result<Value> NewBuiltin(Value self, const BuiltinEntry* entry);
  Result<Value> NewUndefined(std::string message);
  // Takes over `object` (made by new); `bytes` is what it holds beside itself.
  Result<Value> Adopt(Kind kind, Object* object, int64_t bytes);

  // Sets an attribute; `name` has no leading underscore.
  Status SetAttribute(NamespaceObject* object, std::string_view name, Value value);

 private:
  Status StepsExceeded() const;
  Result<Value> NewItems(Kind kind, std::vector<Value> items);

  const TemplateLimits limits_;
  const TemplateTime now_;
  friend class NativeCall;

  int64_t steps_ = 0;
  int32_t native_depth_ = 0;
  MemoryAccount account_;
  std::vector<Value> namespaces_;  // all of them, to break their cycles at the end
};

// A dict in the making; what it holds is counted from the start.
class MapBuilder {
 public:
  explicit MapBuilder(Runtime* runtime) : runtime_(runtime) {}
  ~MapBuilder() { runtime_->GiveBack(bytes_); }
  MapBuilder(const MapBuilder&) = delete;
  MapBuilder& operator=(const MapBuilder&) = delete;

  bool Has(std::string_view encoded) const { return map_.Find(encoded) != nullptr; }
  Status Set(std::string encoded, Value key, Value value);
  // For a str as the key.
  Status SetNamed(std::string_view name, Value value);
  // What was built; the builder is empty afterwards.
  OrderedMap Take();

 private:
  Runtime* runtime_;
  OrderedMap map_;
  int64_t bytes_ = 0;
};

// Counts a level of functions that call each other (a filter that applies a filter) for as long as
// it lives.
class NativeCall {
 public:
  explicit NativeCall(Runtime* runtime) : runtime_(runtime) { ++runtime_->native_depth_; }
  ~NativeCall() { --runtime_->native_depth_; }
  NativeCall(const NativeCall&) = delete;
  NativeCall& operator=(const NativeCall&) = delete;

  Status CheckDepth() const;

 private:
  Runtime* runtime_;
};

// Reads an iterable one item at a time.
class Cursor {
 public:
  Cursor() = default;  // over nothing
  // Errors: kInvalidArgument where it cannot be iterated.
  static Result<Cursor> Over(const Value& iterable);

  // False at the end. Errors: those of an iterator, and of the limits.
  Result<bool> Next(Runtime* runtime, Value* item);
  // The number of items where it is known without reading them, -1 otherwise.
  int64_t KnownLength() const;

 private:
  Value source_;
  size_t next_ = 0;
};

// All remaining items.
Result<std::vector<Value>> Drain(Runtime* runtime, const Value& iterable);

// The error that using an undefined value gives.
Status UndefinedError(const Value& undefined);
// "expected ..., found a value of type ..." for an operation; names an undefined value.
Status TypeError(std::string_view expected, const Value& found);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_RUNTIME_H_
