// The tests: `value is name`.
#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// A test without arguments that only looks at the value.
template <bool (*kHolds)(const Value&)>
Result<Value> PlainTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  return Value::Bool(kHolds(self));
}

// A test of the value's text.
template <bool (*kHolds)(std::string_view)>
Result<Value> TextTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(text.size()));
  return Value::Bool(kHolds(text));
}

template <CompareOp kOp>
Result<Value> CompareTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"other"}));
  TIDAL_ASSIGN_OR_RETURN(const bool holds, Compare(&runtime, kOp, self, bound[0]));
  return Value::Bool(holds);
}

bool IsBoolean(const Value& value) { return value.is(Kind::kBool); }
bool IsCallable(const Value& value) {
  return value.is(Kind::kBuiltin) || value.is(Kind::kMacro) || value.is(Kind::kLoop) ||
         value.is_undefined();
}
bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsEscaped(const Value& value) { return value.is_markup(); }
bool IsFalseConstant(const Value& value) { return value.is(Kind::kBool) && !value.boolean(); }
bool IsTrueConstant(const Value& value) { return value.is(Kind::kBool) && value.boolean(); }
bool IsFloat(const Value& value) { return value.is(Kind::kFloat); }
bool IsInteger(const Value& value) { return value.is(Kind::kInt); }
bool IsIterable(const Value& value) { return value.is(Kind::kLoop) || Cursor::Over(value).ok(); }
bool IsMapping(const Value& value) { return value.is(Kind::kDict); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsString(const Value& value) { return value.is_string(); }
bool IsSequence(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is(Kind::kDict) ||
         value.is(Kind::kRange) || value.is_undefined();
}

Result<bool> HasRemainder(Runtime* runtime, const Value& value, const Value& divisor,
                          int64_t rest) {
  TIDAL_ASSIGN_OR_RETURN(const Value found, Binary(runtime, BinaryOp::kMod, value, divisor));
  return Equals(runtime, found, Value::Int(rest));
}

template <int64_t kRest>
Result<Value> ParityTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const bool holds, HasRemainder(&runtime, self, Value::Int(2), kRest));
  return Value::Bool(holds);
}

Result<Value> DivisiblebyTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"num"}));
  TIDAL_ASSIGN_OR_RETURN(const bool holds, HasRemainder(&runtime, self, bound[0], 0));
  return Value::Bool(holds);
}

Result<Value> InTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"seq"}));
  TIDAL_ASSIGN_OR_RETURN(const bool holds, Contains(&runtime, bound[0], self));
  return Value::Bool(holds);
}

Result<Value> SameasTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"other"}));
  const Value& other = bound[0];
  if (self.SameObject(other)) return Value::Bool(true);
  if (self.kind() != other.kind()) return Value::Bool(false);
  if (self.is_none()) return Value::Bool(true);
  return Value::Bool(self.is_integer() && self.integer() == other.integer());
}

template <const BuiltinEntry* (*kFind)(std::string_view)>
Result<Value> NameTest(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  // Names are looked up as keys, so a value that cannot be one is an error.
  TIDAL_RETURN_IF_ERROR(EncodeKey(&runtime, self).status());
  return Value::Bool(self.is_string() && kFind(self.text()) != nullptr);
}

constexpr BuiltinEntry kTests[] = {
    {"!=", CompareTest<CompareOp::kNotEqual>},
    {"<", CompareTest<CompareOp::kLess>},
    {"<=", CompareTest<CompareOp::kLessEqual>},
    {"==", CompareTest<CompareOp::kEqual>},
    {">", CompareTest<CompareOp::kGreater>},
    {">=", CompareTest<CompareOp::kGreaterEqual>},
    {"boolean", PlainTest<IsBoolean>},
    {"callable", PlainTest<IsCallable>},
    {"defined", PlainTest<IsDefined>},
    {"divisibleby", DivisiblebyTest},
    {"eq", CompareTest<CompareOp::kEqual>},
    {"equalto", CompareTest<CompareOp::kEqual>},
    {"escaped", PlainTest<IsEscaped>},
    {"even", ParityTest<0>},
    {"false", PlainTest<IsFalseConstant>},
    {"filter", NameTest<FindFilter>},
    {"float", PlainTest<IsFloat>},
    {"ge", CompareTest<CompareOp::kGreaterEqual>},
    {"greaterthan", CompareTest<CompareOp::kGreater>},
    {"gt", CompareTest<CompareOp::kGreater>},
    {"in", InTest},
    {"integer", PlainTest<IsInteger>},
    {"iterable", PlainTest<IsIterable>},
    {"le", CompareTest<CompareOp::kLessEqual>},
    {"lessthan", CompareTest<CompareOp::kLess>},
    {"lower", TextTest<IsLowerText>},
    {"lt", CompareTest<CompareOp::kLess>},
    {"mapping", PlainTest<IsMapping>},
    {"ne", CompareTest<CompareOp::kNotEqual>},
    {"none", PlainTest<IsNone>},
    {"number", PlainTest<IsNumber>},
    {"odd", ParityTest<1>},
    {"sameas", SameasTest},
    {"sequence", PlainTest<IsSequence>},
    {"string", PlainTest<IsString>},
    {"test", NameTest<FindTest>},
    {"true", PlainTest<IsTrueConstant>},
    {"undefined", PlainTest<IsUndefined>},
    {"upper", TextTest<IsUpperText>},
};

}  // namespace

const BuiltinEntry* FindTest(std::string_view name) {
  const auto* it = std::lower_bound(
      std::begin(kTests), std::end(kTests), name,
      [](const BuiltinEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != std::end(kTests) && it->name == name ? it : nullptr;
}

}  // namespace tidal::jinja
