// The subscripts and slices of jinja_ops.h.
#include <algorithm>
#include <cstdlib>

#include "base/math.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// The element of a sequence of `length` that index names, counted from the end where negative; -1
// for none.
int64_t ResolveIndex(int64_t index, int64_t length) {
  if (index < 0) index += length;
  return index >= 0 && index < length ? index : -1;
}

// Code points are found by walking, unless each is known to be one byte.
Status TickIndexing(Runtime* runtime, const StringObject& string) {
  if (string.length >= 0 && string.IsSingleByte()) return OkStatus();
  return runtime->TickScan(string.text.size());
}

Result<std::optional<Value>> SubscriptString(Runtime* runtime, const Value& object, int64_t index) {
  const StringObject& string = object.string();
  TIDAL_RETURN_IF_ERROR(TickIndexing(runtime, string));
  const int64_t at = ResolveIndex(index, string.Length());
  if (at < 0) return std::optional<Value>();
  size_t begin = static_cast<size_t>(at);
  if (!string.IsSingleByte()) begin = CodePointOffset(string.text, at);
  size_t end = begin;
  DecodeUtf8(string.text, &end);
  TIDAL_ASSIGN_OR_RETURN(Value value,
                         runtime->NewString(string.text.substr(begin, end - begin),
                                            string.markup ? Markup::kYes : Markup::kNo));
  return std::optional<Value>(std::move(value));
}

}  // namespace

Result<std::optional<Value>> Subscript(Runtime* runtime, const Value& object, const Value& key) {
  TIDAL_RETURN_IF_ERROR(runtime->Tick());
  if (object.is_undefined()) return UndefinedError(object);
  if (object.is(Kind::kDict)) {
    if (key.is(Kind::kList) || key.is(Kind::kDict) || key.is(Kind::kDictView)) {
      return std::optional<Value>();
    }
    TIDAL_ASSIGN_OR_RETURN(const std::string encoded, EncodeKey(runtime, key));
    const Value* found = object.dict().map.Find(encoded);
    return found != nullptr ? std::optional<Value>(*found) : std::optional<Value>();
  }
  if (!key.is_integer()) return std::optional<Value>();
  if (object.is_string()) return SubscriptString(runtime, object, key.integer());
  if (object.is_sequence()) {
    const int64_t at = ResolveIndex(key.integer(), static_cast<int64_t>(object.items().size()));
    if (at >= 0) return std::optional<Value>(object.items()[static_cast<size_t>(at)]);
  } else if (object.is(Kind::kRange)) {
    const int64_t at = ResolveIndex(key.integer(), object.range().Length());
    if (at >= 0) return std::optional<Value>(object.range().At(at));
  }
  return std::optional<Value>();
}

namespace {

// One part of a slice: `otherwise` where it is left out.
Status ReadSlicePart(const Value& part, int64_t otherwise, int64_t* out) {
  if (part.is_missing() || part.is_none()) {
    *out = otherwise;
  } else if (part.is_integer()) {
    *out = part.integer();
  } else {
    return TypeError("an integer or none in a slice", part);
  }
  return OkStatus();
}

// Clamps as Python does: to [0, length] going up, to [-1, length - 1] going down.
int64_t ClampSlice(int64_t index, int64_t length, int64_t step) {
  if (index < 0) {
    index += length;
    if (index < 0) return step < 0 ? -1 : 0;
  } else if (index >= length) {
    return step < 0 ? length - 1 : length;
  }
  return index;
}

struct SliceBounds {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
  int64_t count = 0;
};

Result<SliceBounds> ResolveSlice(const Value& start, const Value& stop, const Value& step,
                                 int64_t length) {
  SliceBounds bounds;
  TIDAL_RETURN_IF_ERROR(ReadSlicePart(step, 1, &bounds.step));
  if (bounds.step == 0) return InvalidArgument("expected a slice step other than 0, found 0");
  // A longer step reaches nothing more, and this one cannot overflow.
  bounds.step = std::max<int64_t>(bounds.step, -INT64_MAX);
  const bool down = bounds.step < 0;
  TIDAL_RETURN_IF_ERROR(ReadSlicePart(start, down ? INT64_MAX : 0, &bounds.start));
  bounds.start = ClampSlice(bounds.start, length, bounds.step);
  const bool open = stop.is_missing() || stop.is_none();
  TIDAL_RETURN_IF_ERROR(ReadSlicePart(stop, 0, &bounds.stop));
  bounds.stop = open ? (down ? -1 : length) : ClampSlice(bounds.stop, length, bounds.step);
  const int64_t span = down ? bounds.start - bounds.stop : bounds.stop - bounds.start;
  if (span > 0) bounds.count = (span - 1) / (down ? -bounds.step : bounds.step) + 1;
  return bounds;
}

Result<Value> SliceString(Runtime* runtime, const StringObject& string, const SliceBounds& bounds) {
  const Markup markup = string.markup ? Markup::kYes : Markup::kNo;
  const std::string_view text = string.text;
  if (bounds.step == 1) {
    size_t begin = static_cast<size_t>(bounds.start);
    size_t end = static_cast<size_t>(bounds.start + bounds.count);
    if (!string.IsSingleByte()) {
      begin = CodePointOffset(text, bounds.start);
      end = begin + CodePointOffset(text.substr(begin), bounds.count);
    }
    return runtime->NewString(std::string(text.substr(begin, end - begin)), markup);
  }
  // The chosen code points from left to right; going down, these are then turned round.
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  const bool down = bounds.step < 0;
  int64_t wanted = down ? bounds.start + (bounds.count - 1) * bounds.step : bounds.start;
  int64_t left = bounds.count;
  std::string out;
  for (size_t pos = 0, index = 0; left > 0 && pos < text.size(); ++index) {
    const size_t begin = pos;
    DecodeUtf8(text, &pos);
    if (static_cast<int64_t>(index) != wanted) continue;
    out += text.substr(begin, pos - begin);
    if (--left > 0) wanted += std::abs(bounds.step);
  }
  if (down) out = ReverseCodePoints(out);
  return runtime->NewString(std::move(out), markup);
}

Result<Value> SliceRange(Runtime* runtime, const RangeObject& range, const SliceBounds& bounds) {
  const auto element = [&range](int64_t index, int64_t* out) {
    return CheckedMul(index, range.step, out) && CheckedAdd(*out, range.start, out);
  };
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 0;
  if (!element(bounds.start, &start) || !element(bounds.stop, &stop) ||
      !CheckedMul(range.step, bounds.step, &step)) {
    return InvalidArgument("expected a slice of a range that fits in 64 bits");
  }
  return runtime->NewRange(start, stop, step);
}

}  // namespace

Result<Value> Slice(Runtime* runtime, const Value& object, const Value& start, const Value& stop,
                    const Value& step) {
  if (object.is_undefined()) return UndefinedError(object);
  const bool sliceable = object.is_string() || object.is_sequence() || object.is(Kind::kRange);
  if (!sliceable) return TypeError("a str, list, tuple or range to slice", object);
  TIDAL_ASSIGN_OR_RETURN(const int64_t length, Length(object));
  TIDAL_ASSIGN_OR_RETURN(const SliceBounds bounds, ResolveSlice(start, stop, step, length));
  if (object.is_string()) {
    TIDAL_RETURN_IF_ERROR(TickIndexing(runtime, object.string()));
    return SliceString(runtime, object.string(), bounds);
  }
  if (object.is(Kind::kRange)) return SliceRange(runtime, object.range(), bounds);
  std::vector<Value> items;
  for (int64_t i = 0; i < bounds.count; ++i) {
    items.push_back(object.items()[static_cast<size_t>(bounds.start + i * bounds.step)]);
  }
  return object.is(Kind::kList) ? runtime->NewList(std::move(items))
                                : runtime->NewTuple(std::move(items));
}

}  // namespace tidal::jinja
