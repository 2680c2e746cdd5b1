// The arithmetic half of jinja_ops.h.
#include <cmath>
#include <cstring>

#include "base/math.h"
#include "chat/jinja_format.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_text.h"

namespace tidal::jinja {
namespace {

std::string_view Symbol(BinaryOp op) {
  constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSymbols[static_cast<size_t>(op)];
}

Status TypesError(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  return InvalidArgument("expected operands that {} can combine, found types {} and {}", Symbol(op),
                         TypeName(a), TypeName(b));
}

Status OverflowError(BinaryOp op, int64_t a, int64_t b) {
  return InvalidArgument("expected an integer of at most 64 bits, found {} {} {}", a, Symbol(op),
                         b);
}

Status ZeroDivision(BinaryOp op) {
  return InvalidArgument("expected a divisor other than 0 for {}, found 0", Symbol(op));
}

Result<Value> AddText(Runtime* runtime, const Value& a, const Value& b) {
  // Where one side is safe HTML, the other is escaped and the result is safe.
  const bool markup = a.is_markup() || b.is_markup();
  const auto bytes = static_cast<int64_t>(a.text().size() + b.text().size());
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(bytes));
  std::string text;
  text.reserve(static_cast<size_t>(bytes));
  for (const Value* part : {&a, &b}) {
    text += markup && !part->is_markup() ? EscapeHtml(part->text()) : std::string(part->text());
  }
  return runtime->NewString(std::move(text), markup ? Markup::kYes : Markup::kNo);
}

Result<Value> AddItems(Runtime* runtime, const Value& a, const Value& b) {
  std::vector<Value> items;
  items.reserve(a.items().size() + b.items().size());
  items.insert(items.end(), a.items().begin(), a.items().end());
  items.insert(items.end(), b.items().begin(), b.items().end());
  return a.is(Kind::kList) ? runtime->NewList(std::move(items))
                           : runtime->NewTuple(std::move(items));
}

Result<Value> Repeat(Runtime* runtime, const Value& sequence, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const bool is_text = sequence.is_string();
  const auto unit = static_cast<int64_t>(is_text ? sequence.text().size()
                                                 : sequence.items().size() * sizeof(Value));
  int64_t bytes = 0;
  if (!CheckedMul(unit, count, &bytes)) bytes = INT64_MAX;
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(bytes));
  if (unit == 0) count = 0;
  if (is_text) {
    std::string text;
    text.reserve(static_cast<size_t>(bytes));
    for (int64_t i = 0; i < count; ++i) text += sequence.text();
    return runtime->NewString(std::move(text), sequence.is_markup() ? Markup::kYes : Markup::kNo);
  }
  std::vector<Value> items;
  items.reserve(sequence.items().size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    items.insert(items.end(), sequence.items().begin(), sequence.items().end());
  }
  return sequence.is(Kind::kList) ? runtime->NewList(std::move(items))
                                  : runtime->NewTuple(std::move(items));
}

// Quotient towards minus infinity; the remainder has the sign of b. REQUIRES: b != 0, no overflow.
void FloorDivide(int64_t a, int64_t b, int64_t* quotient, int64_t* remainder) {
  *quotient = a / b;
  *remainder = a % b;
  if (*remainder != 0 && (*remainder < 0) != (b < 0)) {
    --*quotient;
    *remainder += b;
  }
}

Result<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0)
      return InvalidArgument("expected a base other than 0 for a negative power, found 0");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  int64_t square = base;
  for (int64_t left = exponent; left > 0; left >>= 1) {
    if ((left & 1) != 0 && !CheckedMul(result, square, &result)) {
      return OverflowError(BinaryOp::kPow, base, exponent);
    }
    if (left > 1 && !CheckedMul(square, square, &square)) {
      return OverflowError(BinaryOp::kPow, base, exponent);
    }
  }
  return Value::Int(result);
}

Result<Value> IntegerBinary(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool fits = true;
  switch (op) {
    case BinaryOp::kAdd:
      fits = CheckedAdd(a, b, &result);
      break;
    case BinaryOp::kSub:
      fits = !__builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOp::kMul:
      fits = CheckedMul(a, b, &result);
      break;
    case BinaryOp::kDiv:
      if (b == 0) return ZeroDivision(op);
      // Wide enough for both integers where the machine has it, so that they are not rounded first.
      return Value::Float(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) return ZeroDivision(op);
      if (b == -1)
        return op == BinaryOp::kMod ? Value::Int(0) : IntegerBinary(BinaryOp::kSub, 0, a);
      int64_t remainder = 0;
      FloorDivide(a, b, &result, &remainder);
      return Value::Int(op == BinaryOp::kMod ? remainder : result);
    }
    case BinaryOp::kPow:
      return IntegerPower(a, b);
  }
  if (!fits) return OverflowError(op, a, b);
  return Value::Int(result);
}

// Python's float // and %: the remainder has the sign of b, the quotient is whole.
double FloorDivideFloat(double a, double b, double* remainder) {
  *remainder = std::fmod(a, b);
  double quotient = (a - *remainder) / b;
  if (*remainder != 0) {
    if ((b < 0) != (*remainder < 0)) {
      *remainder += b;
      quotient -= 1;
    }
  } else {
    *remainder = std::copysign(0.0, b);
  }
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Result<Value> FloatPower(double a, double b) {
  if (a == 0 && b < 0) {
    return InvalidArgument("expected a base other than 0 for a negative power, found 0");
  }
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    return InvalidArgument("expected a base of at least 0 for a fractional power, found {}", a);
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    return InvalidArgument("expected a power within the range of a float, found {} ** {}", a, b);
  }
  return Value::Float(result);
}

Result<Value> FloatBinary(BinaryOp op, double a, double b) {
  double remainder = 0;
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kDiv:
      if (b == 0) return ZeroDivision(op);
      return Value::Float(a / b);
    case BinaryOp::kFloorDiv:
      if (b == 0) return ZeroDivision(op);
      return Value::Float(FloorDivideFloat(a, b, &remainder));
    case BinaryOp::kMod:
      if (b == 0) return ZeroDivision(op);
      FloorDivideFloat(a, b, &remainder);
      return Value::Float(remainder);
    case BinaryOp::kPow:
      break;
  }
  return FloatPower(a, b);
}

}  // namespace

Result<Value> Binary(Runtime* runtime, BinaryOp op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return IntegerBinary(op, a.integer(), b.integer());
    return FloatBinary(op, a.as_double(), b.as_double());
  }
  const bool a_is_sequence = a.is_string() || a.is_sequence();
  const bool b_is_sequence = b.is_string() || b.is_sequence();
  if (op == BinaryOp::kAdd && a_is_sequence && a.kind() == b.kind()) {
    return a.is_string() ? AddText(runtime, a, b) : AddItems(runtime, a, b);
  }
  if (op == BinaryOp::kMul && a_is_sequence && b.is_integer()) {
    return Repeat(runtime, a, b.integer());
  }
  if (op == BinaryOp::kMul && b_is_sequence && a.is_integer()) {
    return Repeat(runtime, b, a.integer());
  }
  if (op == BinaryOp::kMod && a.is_string()) return FormatPercent(runtime, a, b);
  return TypesError(op, a, b);
}

Result<Value> Negate(const Value& value) {
  if (value.is_integer()) return IntegerBinary(BinaryOp::kSub, 0, value.integer());
  if (value.is(Kind::kFloat)) return Value::Float(-value.floating());
  return TypeError("a number to negate", value);
}

Result<Value> Plus(const Value& value) {
  if (value.is_integer()) return Value::Int(value.integer());
  if (value.is(Kind::kFloat)) return value;
  return TypeError("a number after +", value);
}

}  // namespace tidal::jinja
