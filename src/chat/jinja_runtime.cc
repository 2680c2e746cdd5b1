#include "chat/jinja_runtime.h"

#include "base/math.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// All living values and unfinished output together, in units of the largest single one, and what
// even few values take.
constexpr int64_t kLiveFactor = 4;
constexpr int64_t kLiveBase = 1 << 20;
constexpr int64_t kBytesPerEntry = sizeof(OrderedMap::Entry) + 64;  // and its place in the index

int64_t MapBytes(const OrderedMap& map) {
  int64_t bytes = 0;
  for (const OrderedMap::Entry& entry : map.entries()) {
    bytes += kBytesPerEntry + static_cast<int64_t>(entry.encoded.size());
  }
  return bytes;
}

int32_t MapHeight(const OrderedMap& map) {
  int32_t height = 0;
  for (const OrderedMap::Entry& entry : map.entries()) {
    height = std::max({height, entry.key.height(), entry.value.height()});
  }
  return height + 1;
}

}  // namespace

Runtime::~Runtime() {
  for (const Value& value : namespaces_) {
    // What a namespace held may hold other namespaces, but those are in the list too and so stay
    // until the end: no destructor recurses through a chain of them.
    const auto entries = value.name_space().attributes.Release();
  }
}

Status Runtime::StepsExceeded() const {
  return InvalidArgument(
      "the template took more than {} steps (max_steps); it loops for too long, or for ever",
      limits_.max_steps);
}

Status Runtime::CheckSize(int64_t bytes) const {
  if (bytes >= 0 && bytes <= limits_.max_output_bytes) return OkStatus();
  return InvalidArgument(
      "the template builds a text or list of more than {} bytes (max_output_bytes)",
      limits_.max_output_bytes);
}

Status Runtime::Charge(int64_t bytes) {
  account_.live_bytes += bytes;
  const int64_t allowed = limits_.max_output_bytes * kLiveFactor + kLiveBase;
  if (account_.live_bytes <= allowed) return OkStatus();
  return InvalidArgument(
      "the template keeps more than {} bytes of values at once ({} x max_output_bytes)", allowed,
      kLiveFactor);
}

Result<Value> Runtime::Adopt(Kind kind, Object* object, int64_t bytes) {
  Value value(kind, object);
  constexpr int64_t kObjectBytes = 96;  // about what an empty object and its allocation take
  object->account = &account_;
  object->charged_bytes = bytes + kObjectBytes;
  TIDAL_RETURN_IF_ERROR(Charge(object->charged_bytes));
  if (object->height > kMaxValueHeight) {
    return InvalidArgument("the template nests lists or dicts more than {} levels deep",
                           kMaxValueHeight);
  }
  return value;
}

Result<Value> Runtime::NewString(std::string text, Markup markup) {
  const auto bytes = static_cast<int64_t>(text.size());
  TIDAL_RETURN_IF_ERROR(CheckSize(bytes));
  TIDAL_RETURN_IF_ERROR(TickCopy(static_cast<size_t>(bytes)));
  auto* object = new StringObject;
  object->text = std::move(text);
  object->markup = markup == Markup::kYes;
  return Adopt(Kind::kString, object, bytes);
}

Result<Value> Runtime::NewItems(Kind kind, std::vector<Value> items) {
  const auto bytes = static_cast<int64_t>(items.size() * sizeof(Value));
  TIDAL_RETURN_IF_ERROR(CheckSize(bytes));
  TIDAL_RETURN_IF_ERROR(TickCopy(static_cast<size_t>(bytes)));
  auto* object = new ListObject;
  for (const Value& item : items) object->height = std::max(object->height, item.height());
  ++object->height;
  object->items = std::move(items);
  return Adopt(kind, object, bytes);
}

Result<Value> Runtime::NewGroup(Value key, Value list) {
  std::vector<Value> pair;
  pair.push_back(std::move(key));
  pair.push_back(std::move(list));
  TIDAL_ASSIGN_OR_RETURN(Value value, NewTuple(std::move(pair)));
  static_cast<ListObject*>(value.object())->is_group = true;
  return value;
}

Result<Value> Runtime::NewDict(OrderedMap map) {
  const int64_t bytes = MapBytes(map);
  TIDAL_RETURN_IF_ERROR(CheckSize(bytes));
  TIDAL_RETURN_IF_ERROR(TickCopy(static_cast<size_t>(bytes)));
  auto* object = new DictObject;
  object->height = MapHeight(map);
  object->map = std::move(map);
  return Adopt(Kind::kDict, object, bytes);
}

Result<Value> Runtime::NewRange(int64_t start, int64_t stop, int64_t step) {
  auto* object = new RangeObject;
  object->start = start;
  object->stop = stop;
  object->step = step;
  return Adopt(Kind::kRange, object, 0);
}

Result<Value> Runtime::NewIterator(std::vector<Value> items, Status failure,
                                   std::string_view type_name) {
  const auto bytes = static_cast<int64_t>(items.size() * sizeof(Value));
  TIDAL_RETURN_IF_ERROR(CheckSize(bytes));
  auto* object = new IteratorObject;
  for (const Value& item : items) object->height = std::max(object->height, item.height());
  ++object->height;
  object->items = std::move(items);
  object->failure = std::move(failure);
  object->type_name = type_name;
  return Adopt(Kind::kIterator, object, bytes);
}

Result<Value> Runtime::NewView(Value dict, DictViewObject::Part part) {
  auto* object = new DictViewObject;
  object->height = dict.height() + 1;
  object->dict = std::move(dict);
  object->part = part;
  return Adopt(Kind::kDictView, object, 0);
}

Result<Value> Runtime::NewNamespace(OrderedMap attributes) {
  auto* object = new NamespaceObject;
  const int64_t bytes = MapBytes(attributes);
  object->attributes = std::move(attributes);
  TIDAL_ASSIGN_OR_RETURN(Value value, Adopt(Kind::kNamespace, object, bytes));
  namespaces_.push_back(value);
  return value;
}

Result<Value> Runtime::NewBuiltin(Value self, const BuiltinEntry* entry) {
  auto* object = new BuiltinObject;
  object->height = self.height() + 1;
  object->self = std::move(self);
  object->entry = entry;
  return Adopt(Kind::kBuiltin, object, 0);
}

Result<Value> Runtime::NewUndefined(std::string message) {
  auto* object = new UndefinedObject;
  const auto bytes = static_cast<int64_t>(message.size());
  object->message = std::move(message);
  return Adopt(Kind::kUndefined, object, bytes);
}

Status Runtime::SetAttribute(NamespaceObject* object, std::string_view name, Value value) {
  std::string encoded = "s" + std::string(name);
  if (object->attributes.Find(encoded) == nullptr) {
    const int64_t bytes = kBytesPerEntry + static_cast<int64_t>(2 * name.size());
    object->charged_bytes += bytes;
    TIDAL_RETURN_IF_ERROR(Charge(bytes));
  }
  TIDAL_ASSIGN_OR_RETURN(Value key, NewString(std::string(name)));
  object->attributes.Set(std::move(encoded), std::move(key), std::move(value));
  return OkStatus();
}

Status MapBuilder::Set(std::string encoded, Value key, Value value) {
  if (!Has(encoded)) {
    const int64_t bytes = kBytesPerEntry + static_cast<int64_t>(encoded.size());
    bytes_ += bytes;
    TIDAL_RETURN_IF_ERROR(runtime_->Charge(bytes));
    TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(bytes_));
  }
  map_.Set(std::move(encoded), std::move(key), std::move(value));
  return OkStatus();
}

Status MapBuilder::SetNamed(std::string_view name, Value value) {
  TIDAL_ASSIGN_OR_RETURN(Value key, runtime_->NewString(std::string(name)));
  return Set("s" + std::string(name), std::move(key), std::move(value));
}

OrderedMap MapBuilder::Take() {
  runtime_->GiveBack(std::exchange(bytes_, 0));
  return std::exchange(map_, {});
}

Status NativeCall::CheckDepth() const {
  if (runtime_->native_depth_ <= runtime_->limits_.max_depth) return OkStatus();
  return InvalidArgument("the template's filters nest more than {} levels deep (max_depth)",
                         runtime_->limits_.max_depth);
}

Result<Cursor> Cursor::Over(const Value& iterable) {
  switch (iterable.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kIterator:
    case Kind::kDictView: {
      Cursor cursor;
      cursor.source_ = iterable;
      return cursor;
    }
    default:
      return InvalidArgument("expected something to iterate over, found a value of type {}",
                             TypeName(iterable));
  }
}

int64_t Cursor::KnownLength() const {
  switch (source_.kind()) {
    case Kind::kString:
      return source_.string().Length();
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(source_.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(source_.dict().map.size());
    case Kind::kDictView:
      return static_cast<int64_t>(source_.view().dict.dict().map.size());
    case Kind::kRange:
      return source_.range().Length();
    case Kind::kIterator:
      return -1;
    default:
      return 0;
  }
}

Result<bool> Cursor::Next(Runtime* runtime, Value* item) {
  TIDAL_RETURN_IF_ERROR(runtime->Tick());
  switch (source_.kind()) {
    case Kind::kString: {
      const std::string_view text = source_.text();
      if (next_ >= text.size()) return false;
      const size_t begin = next_;
      DecodeUtf8(text, &next_);
      TIDAL_ASSIGN_OR_RETURN(*item,
                             runtime->NewString(std::string(text.substr(begin, next_ - begin))));
      return true;
    }
    case Kind::kList:
    case Kind::kTuple:
      if (next_ >= source_.items().size()) return false;
      *item = source_.items()[next_++];
      return true;
    case Kind::kDict:
      if (next_ >= source_.dict().map.size()) return false;
      *item = source_.dict().map.entries()[next_++].key;
      return true;
    case Kind::kRange:
      if (static_cast<int64_t>(next_) >= source_.range().Length()) return false;
      *item = source_.range().At(static_cast<int64_t>(next_++));
      return true;
    case Kind::kDictView: {
      const DictViewObject& view = source_.view();
      const auto& entries = view.dict.dict().map.entries();
      if (next_ >= entries.size()) return false;
      const OrderedMap::Entry& entry = entries[next_++];
      if (view.part == DictViewObject::Part::kItems) {
        TIDAL_ASSIGN_OR_RETURN(*item, runtime->NewTuple({entry.key, entry.value}));
      } else {
        *item = view.part == DictViewObject::Part::kKeys ? entry.key : entry.value;
      }
      return true;
    }
    case Kind::kIterator: {
      IteratorObject& iterator = source_.iterator();
      if (iterator.next >= iterator.items.size()) {
        const Status failure = std::exchange(iterator.failure, OkStatus());
        if (!failure.ok()) return failure;
        return false;
      }
      *item = std::move(iterator.items[iterator.next++]);
      return true;
    }
    default:
      return false;
  }
}

Result<std::vector<Value>> Drain(Runtime* runtime, const Value& iterable) {
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(iterable));
  std::vector<Value> items;
  for (Value item;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(runtime, &item));
    if (!more) return items;
    items.push_back(std::move(item));
    TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(items.size() * sizeof(Value))));
  }
}

Status UndefinedError(const Value& undefined) {
  return InvalidArgument("{}", undefined.undefined().message);
}

Status TypeError(std::string_view expected, const Value& found) {
  if (found.is_undefined()) return UndefinedError(found);
  return InvalidArgument("expected {}, found a value of type {}", expected, TypeName(found));
}

}  // namespace tidal::jinja
