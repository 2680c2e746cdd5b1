// Filters that convert or inspect one value.
#include <cmath>

#include "chat/jinja_args.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_number.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"

namespace tidal::jinja {
namespace {

Result<Value> AbsFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (self.is(Kind::kFloat)) return Value::Float(std::fabs(self.floating()));
  if (!self.is_integer()) return TypeError("a number for abs", self);
  return self.integer() < 0 ? Negate(self) : Plus(self);
}

Result<Value> AttrFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"name"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view name, TextArg(bound[0], "name"));
  return GetOnlyAttribute(&runtime, self, name);
}

Result<Value> DefaultFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"default_value", "boolean"}));
  if (!self.is_undefined() && !(IsTrue(bound[1]) && !IsTrue(self))) return self;
  if (!bound[0].is_missing()) return bound[0];
  return runtime.NewString("");
}

Result<Value> FloatFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"default"}));
  if (self.is_number()) return Value::Float(self.as_double());
  if (self.is_undefined()) return UndefinedError(self);
  if (self.is_string()) {
    TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
    const std::optional<double> parsed = ParseFloat(self.text());
    if (parsed) return Value::Float(*parsed);
  }
  return bound[0].is_missing() ? Value::Float(0) : bound[0];
}

// int(value) for a float: towards zero.
Result<Value> TruncateFloat(double value) {
  int64_t whole = 0;
  if (!DoubleToInt(std::trunc(value), &whole)) {
    return InvalidArgument("expected a float within 64 bits for int, found {}", value);
  }
  return Value::Int(whole);
}

Result<Value> IntFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"default", "base"}));
  const Value fallback = bound[0].is_missing() ? Value::Int(0) : bound[0];
  if (self.is_undefined()) return UndefinedError(self);
  if (self.is_integer()) return Value::Int(self.integer());
  if (self.is(Kind::kFloat)) {
    return std::isnan(self.floating()) ? fallback : TruncateFloat(self.floating());
  }
  if (!self.is_string()) return fallback;
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
  int64_t base = 10;
  if (!bound[1].is_missing()) base = bound[1].is_integer() ? bound[1].integer() : -1;
  if (base == 0 || (base >= 2 && base <= 36)) {
    int64_t value = 0;
    const IntParse parse = ParseInt(self.text(), static_cast<int>(base), &value);
    if (parse == IntParse::kOk) return Value::Int(value);
    if (parse == IntParse::kTooLarge) {
      return InvalidArgument("expected an integer of at most 64 bits for int");
    }
  }
  // "42.9" is 42.
  const std::optional<double> parsed = ParseFloat(self.text());
  if (!parsed || !std::isfinite(*parsed)) return fallback;
  return TruncateFloat(*parsed);
}

Result<Value> ItemsFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (self.is_undefined()) return runtime.NewIterator({}, OkStatus());
  if (!self.is(Kind::kDict)) return runtime.NewIterator({}, TypeError("a dict for items", self));
  TIDAL_ASSIGN_OR_RETURN(const Value view, runtime.NewView(self, DictViewObject::Part::kItems));
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Drain(&runtime, view));
  return runtime.NewIterator(std::move(items), OkStatus());
}

Result<Value> LengthFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const int64_t length, Length(self));
  return Value::Int(length);
}

// round(x, precision) of Python, for an integer with a negative precision: to the nearest multiple,
// halves to even.
Result<Value> RoundInteger(int64_t value, int64_t precision) {
  if (precision >= 0) return Value::Int(value);
  if (precision < -18) return Value::Int(0);
  int64_t unit = 1;
  for (int64_t i = 0; i < -precision; ++i) unit *= 10;
  const int64_t rest = ((value % unit) + unit) % unit;
  const int64_t below = value - rest;
  const bool up = rest > unit - rest || (rest == unit - rest && (below / unit) % 2 != 0);
  int64_t rounded = below;
  if (up && __builtin_add_overflow(below, unit, &rounded)) {
    return InvalidArgument("expected a rounded integer of at most 64 bits");
  }
  return Value::Int(rounded);
}

Result<Value> RoundFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"precision", "method"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t precision, IntArgOr(bound[0], "precision", 0));
  std::string_view method = "common";
  if (!bound[1].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(method, TextArg(bound[1], "method"));
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return InvalidArgument("expected the rounding method common, ceil or floor, found '{}'",
                           method);
  }
  if (!self.is_number()) return TypeError("a number to round", self);
  if (method == "common") {
    if (self.is_integer()) return RoundInteger(self.integer(), precision);
    if (!std::isfinite(self.floating())) return self;
    return Value::Float(RoundDecimal(self.floating(), precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = self.as_double() * scale;
  if (!std::isfinite(scaled) || scale == 0) {
    return InvalidArgument("expected a number that can be rounded to {} digits, found {}",
                           precision, self.as_double());
  }
  // Adding 0 drops the sign of a zero, as passing through Python's integers does.
  return Value::Float(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / scale);
}

Status ReadIndent(const Runtime& runtime, const Value& indent, JsonStyle* style) {
  if (indent.is_missing() || indent.is_none()) return OkStatus();
  style->multiline = true;
  style->item_separator = ",";
  if (indent.is_string()) {
    style->indent = indent.text();
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(const int64_t width, IntArg(indent, "indent"));
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(std::max<int64_t>(width, 0)));
  style->indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  return OkStatus();
}

// As transformers defines it for chat templates, not as in Jinja: no HTML escapes, and the options
// of json.dumps.
Result<Value> TojsonFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound,
                         Bind(args, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  if (IsTrue(bound[0])) style.charset = JsonCharset::kAscii;
  TIDAL_RETURN_IF_ERROR(ReadIndent(runtime, bound[1], &style));
  if (!bound[2].is_missing() && !bound[2].is_none()) {
    TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> separators, Drain(&runtime, bound[2]));
    if (separators.size() != 2) {
      return InvalidArgument("expected two separators for tojson, found {}", separators.size());
    }
    TIDAL_ASSIGN_OR_RETURN(style.item_separator, TextArg(separators[0], "separators"));
    TIDAL_ASSIGN_OR_RETURN(style.key_separator, TextArg(separators[1], "separators"));
  }
  style.sort_keys = IsTrue(bound[3]);
  TIDAL_ASSIGN_OR_RETURN(std::string text, ToJson(&runtime, self, style));
  return runtime.NewString(std::move(text));
}

constexpr BuiltinEntry kValueFilters[] = {
    {"abs", AbsFilter},     {"attr", AttrFilter},       {"count", LengthFilter},
    {"d", DefaultFilter},   {"default", DefaultFilter}, {"float", FloatFilter},
    {"int", IntFilter},     {"items", ItemsFilter},     {"length", LengthFilter},
    {"round", RoundFilter}, {"tojson", TojsonFilter},
};

}  // namespace

std::span<const BuiltinEntry> ValueFilters() { return kValueFilters; }

}  // namespace tidal::jinja
