// The expressions of the interpreter.
#include "chat/jinja_attributes.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_interpreter_scopes.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"

namespace tidal::jinja {

Result<Value> Interpreter::Eval(const Expr& expr) {
  const DepthScope depth(&depth_);
  TIDAL_RETURN_IF_ERROR(CheckDepth(expr.pos));
  TIDAL_RETURN_IF_ERROR(Locate(expr.pos, runtime_->Tick()));
  switch (expr.kind) {
    case ExprKind::kLiteral:
      return EvalLiteral(static_cast<const LiteralExpr&>(expr));
    case ExprKind::kName:
      return EvalName(static_cast<const NameExpr&>(expr));
    case ExprKind::kList:
    case ExprKind::kTuple:
      return EvalItems(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kDict:
      return EvalDict(static_cast<const DictExpr&>(expr));
    case ExprKind::kNot:
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return EvalUnary(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kArithmetic:
      return EvalArithmetic(static_cast<const ArithmeticExpr&>(expr));
    case ExprKind::kConcat:
      return EvalConcat(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kCompare:
      return EvalCompare(static_cast<const CompareExpr&>(expr));
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return EvalLogic(static_cast<const ItemsExpr&>(expr));
    case ExprKind::kConditional:
      return EvalConditional(static_cast<const ConditionalExpr&>(expr));
    case ExprKind::kPostfix:
      break;
  }
  const auto& chain = static_cast<const PostfixExpr&>(expr);
  TIDAL_ASSIGN_OR_RETURN(Value base, Eval(*chain.base));
  return EvalPostfix(chain, std::move(base));
}

Result<Value> Interpreter::EvalLiteral(const LiteralExpr& expr) {
  if (!expr.value.is_missing()) return expr.value;
  Value& cached = literals_[static_cast<size_t>(expr.index)];
  if (cached.is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(cached, Locate(expr.pos, runtime_->NewString(expr.text)));
  }
  return cached;
}

Result<Value> Interpreter::EvalName(const NameExpr& expr) {
  const Value& value = SlotOf(expr.ref);
  if (!value.is_missing()) return value;
  return Locate(expr.pos, runtime_->NewUndefined(fmt::format("'{}' is undefined", expr.name)));
}

Result<Value> Interpreter::EvalItems(const ItemsExpr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) {
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*item));
    items.push_back(std::move(value));
  }
  return Locate(expr.pos, expr.kind == ExprKind::kList ? runtime_->NewList(std::move(items))
                                                       : runtime_->NewTuple(std::move(items)));
}

Result<Value> Interpreter::EvalDict(const DictExpr& expr) {
  MapBuilder map(runtime_);
  for (const auto& [key_expr, value_expr] : expr.entries) {
    TIDAL_ASSIGN_OR_RETURN(Value key, Eval(*key_expr));
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*value_expr));
    TIDAL_ASSIGN_OR_RETURN(std::string encoded, Locate(key_expr->pos, EncodeKey(runtime_, key)));
    TIDAL_RETURN_IF_ERROR(
        Locate(key_expr->pos, map.Set(std::move(encoded), std::move(key), std::move(value))));
  }
  return Locate(expr.pos, runtime_->NewDict(map.Take()));
}

Result<Value> Interpreter::EvalUnary(const ItemsExpr& expr) {
  TIDAL_ASSIGN_OR_RETURN(const Value value, Eval(*expr.items[0]));
  if (expr.kind == ExprKind::kNot) return Value::Bool(!IsTrue(value));
  return Locate(expr.pos, expr.kind == ExprKind::kNegate ? Negate(value) : Plus(value));
}

Result<Value> Interpreter::EvalArithmetic(const ArithmeticExpr& expr) {
  TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*expr.first));
  for (const ArithmeticExpr::Step& step : expr.steps) {
    TIDAL_ASSIGN_OR_RETURN(const Value operand, Eval(*step.operand));
    TIDAL_ASSIGN_OR_RETURN(value, Locate(step.pos, Binary(runtime_, step.op, value, operand)));
  }
  return value;
}

Result<Value> Interpreter::EvalConcat(const ItemsExpr& expr) {
  // All values first: text in the making is not counted, so it must not wait for an operand that
  // nests.
  std::vector<Value> values;
  values.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) {
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*item));
    values.push_back(std::move(value));
  }
  std::string text;
  for (const Value& value : values) {
    TIDAL_ASSIGN_OR_RETURN(const std::string part, Locate(expr.pos, ToText(runtime_, value)));
    text += part;
    TIDAL_RETURN_IF_ERROR(Locate(expr.pos, runtime_->CheckSize(static_cast<int64_t>(text.size()))));
  }
  return Locate(expr.pos, runtime_->NewString(std::move(text)));
}

Result<Value> Interpreter::EvalCompare(const CompareExpr& expr) {
  TIDAL_ASSIGN_OR_RETURN(Value left, Eval(*expr.first));
  for (const CompareExpr::Step& step : expr.steps) {
    TIDAL_ASSIGN_OR_RETURN(Value right, Eval(*step.operand));
    const bool is_membership = step.membership != CompareExpr::Membership::kNone;
    TIDAL_ASSIGN_OR_RETURN(
        const bool result,
        Locate(step.pos, is_membership ? Contains(runtime_, right, left)
                                       : Compare(runtime_, step.op, left, right)));
    if (result == (step.membership == CompareExpr::Membership::kNotIn)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

// The first value that decides, or the last.
Result<Value> Interpreter::EvalLogic(const ItemsExpr& expr) {
  for (size_t i = 0; i + 1 < expr.items.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*expr.items[i]));
    if (IsTrue(value) == (expr.kind == ExprKind::kOr)) return value;
  }
  return Eval(*expr.items.back());
}

Result<Value> Interpreter::EvalConditional(const ConditionalExpr& expr) {
  TIDAL_ASSIGN_OR_RETURN(const Value condition, Eval(*expr.condition));
  if (IsTrue(condition)) return Eval(*expr.then);
  if (expr.otherwise != nullptr) return Eval(*expr.otherwise);
  return Locate(expr.pos, runtime_->NewUndefined(
                              "the condition of an inline if is false and it has no else"));
}

Result<Value> Interpreter::EvalPostfix(const PostfixExpr& expr, Value base) {
  for (const PostfixExpr::Step& step : expr.steps) {
    TIDAL_RETURN_IF_ERROR(Locate(step.pos, runtime_->Tick()));
    TIDAL_ASSIGN_OR_RETURN(base, EvalStep(step, base));
  }
  return base;
}

Result<Value> Interpreter::EvalStep(const PostfixExpr::Step& step, const Value& value) {
  switch (step.kind) {
    case PostfixExpr::StepKind::kAttribute:
      return Locate(step.pos, GetAttribute(runtime_, value, step.name));
    case PostfixExpr::StepKind::kIndex:
      return EvalIndex(step, value);
    case PostfixExpr::StepKind::kSlice:
      return EvalSlice(step, value);
    case PostfixExpr::StepKind::kCall: {
      TIDAL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(step.args));
      return Call(value, std::move(args), step.pos);
    }
    case PostfixExpr::StepKind::kFilter:
    case PostfixExpr::StepKind::kTest:
    case PostfixExpr::StepKind::kNotTest:
      break;
  }
  return EvalFilterOrTest(step, value);
}

Result<Value> Interpreter::EvalIndex(const PostfixExpr::Step& step, const Value& value) {
  TIDAL_ASSIGN_OR_RETURN(const Value key, Eval(*step.parts[0]));
  return Locate(step.pos, GetItem(runtime_, value, key));
}

Result<Value> Interpreter::EvalSlice(const PostfixExpr::Step& step, const Value& value) {
  Value parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (step.parts[i] == nullptr) continue;
    TIDAL_ASSIGN_OR_RETURN(parts[i], Eval(*step.parts[i]));
  }
  return Locate(step.pos, Slice(runtime_, value, parts[0], parts[1], parts[2]));
}

Result<Value> Interpreter::EvalFilterOrTest(const PostfixExpr::Step& step, const Value& value) {
  const bool is_filter = step.kind == PostfixExpr::StepKind::kFilter;
  if (step.builtin == nullptr) {
    if (is_filter && IsUnsupportedFilter(step.name)) {
      return Locate(step.pos, Unsupported("the filter '{}' is not supported", step.name));
    }
    return Locate(step.pos, InvalidArgument("there is no {} named '{}'",
                                            is_filter ? "filter" : "test", step.name));
  }
  TIDAL_ASSIGN_OR_RETURN(const CallArgs args, EvalArgs(step.args));
  TIDAL_ASSIGN_OR_RETURN(Value result,
                         Locate(step.pos, step.builtin->function(*runtime_, value, args)));
  if (step.kind == PostfixExpr::StepKind::kNotTest) return Value::Bool(!IsTrue(result));
  return result;
}

}  // namespace tidal::jinja
