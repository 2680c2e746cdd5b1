#include "chat/jinja_expression_parser.h"

#include <algorithm>

namespace tidal::jinja {
namespace {

// How tight an operator binds; chains of one number are read from left to right.
enum Precedence : int {
  kOr = 1,
  kAnd,
  kNot,
  kComparison,
  kSum,
  kConcatenation,
  kProduct,
  kPower,
  kOperand,
};

int OperatorPrecedence(std::string_view op) {
  if (op == "==" || op == "!=" || op == "<" || op == "<=" || op == ">" || op == ">=") {
    return kComparison;
  }
  if (op == "+" || op == "-") return kSum;
  if (op == "~") return kConcatenation;
  if (op == "*" || op == "/" || op == "//" || op == "%") return kProduct;
  return op == "**" ? kPower : 0;
}

CompareOp ToCompareOp(std::string_view op) {
  if (op == "==") return CompareOp::kEqual;
  if (op == "!=") return CompareOp::kNotEqual;
  if (op == "<") return CompareOp::kLess;
  if (op == "<=") return CompareOp::kLessEqual;
  return op == ">" ? CompareOp::kGreater : CompareOp::kGreaterEqual;
}

BinaryOp ToBinaryOp(std::string_view op) {
  if (op == "+") return BinaryOp::kAdd;
  if (op == "-") return BinaryOp::kSub;
  if (op == "*") return BinaryOp::kMul;
  if (op == "/") return BinaryOp::kDiv;
  if (op == "//") return BinaryOp::kFloorDiv;
  return op == "%" ? BinaryOp::kMod : BinaryOp::kPow;
}

}  // namespace

std::unique_ptr<ItemsExpr> MakeItems(ExprKind kind, SourcePos pos, ExprPtr first) {
  auto node = std::make_unique<ItemsExpr>(kind, pos);
  if (first != nullptr) node->items.push_back(std::move(first));
  return node;
}

std::unique_ptr<LiteralExpr> MakeConstant(Value value, SourcePos pos) {
  auto node = std::make_unique<LiteralExpr>(pos);
  node->value = std::move(value);
  return node;
}

Status ExpressionParser::CheckDepth() const {
  if (depth_ <= max_depth_) return OkStatus();
  return ErrorAt(
      current_.pos,
      fmt::format("the template nests more than {} levels deep (max_depth)", max_depth_));
}

Result<const Token*> ExpressionParser::Ahead() {
  if (!has_ahead_) {
    TIDAL_ASSIGN_OR_RETURN(ahead_, lexer_.Next());
    has_ahead_ = true;
  }
  return &ahead_;
}

Status ExpressionParser::Advance() {
  if (has_ahead_) {
    current_ = std::move(ahead_);
    has_ahead_ = false;
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(current_, lexer_.Next());
  return OkStatus();
}

Result<bool> ExpressionParser::TakeOperator(std::string_view op) {
  if (!current_.IsOperator(op)) return false;
  TIDAL_RETURN_IF_ERROR(Advance());
  return true;
}

Result<bool> ExpressionParser::TakeName(std::string_view name) {
  if (!current_.IsName(name)) return false;
  TIDAL_RETURN_IF_ERROR(Advance());
  return true;
}

Status ExpressionParser::ExpectOperator(std::string_view op) {
  if (!current_.IsOperator(op)) return Unexpected(fmt::format("'{}'", op));
  return Advance();
}

Status ExpressionParser::Expect(TokenKind kind, std::string_view what) {
  if (current_.kind != kind) return Unexpected(what);
  return Advance();
}

Result<std::string> ExpressionParser::ExpectName(std::string_view what) {
  if (current_.kind != TokenKind::kName) return Unexpected(what);
  std::string name = current_.text;
  TIDAL_RETURN_IF_ERROR(Advance());
  return name;
}

Status ExpressionParser::Unexpected(std::string_view expected) const {
  return ErrorAt(current_.pos, fmt::format("expected {}, found {}", expected, Describe(current_)));
}

Status ExpressionParser::ErrorAt(SourcePos pos, std::string_view message) {
  return InvalidArgument("line {}, column {}: {}", pos.line, pos.column, message);
}

Result<ExprPtr> ExpressionParser::ParseExpression(Conditional conditional) {
  const Level level(&depth_);
  TIDAL_RETURN_IF_ERROR(CheckDepth());
  if (conditional == Conditional::kNo) return ParseBinary(kOr);
  return ParseConditional();
}

Result<ExprPtr> ExpressionParser::ParseConditional() {
  const SourcePos pos = current_.pos;
  TIDAL_ASSIGN_OR_RETURN(ExprPtr then, ParseBinary(kOr));
  // `a if b if c` without else nests to the left, so each round is a level.
  const int32_t depth = depth_;
  while (current_.IsName("if")) {
    ++depth_;
    TIDAL_RETURN_IF_ERROR(CheckDepth());
    TIDAL_RETURN_IF_ERROR(Advance());
    auto node = std::make_unique<ConditionalExpr>(pos);
    node->then = std::move(then);
    TIDAL_ASSIGN_OR_RETURN(node->condition, ParseBinary(kOr));
    TIDAL_ASSIGN_OR_RETURN(const bool has_else, TakeName("else"));
    if (has_else) {
      TIDAL_ASSIGN_OR_RETURN(node->otherwise, ParseExpression());
    }
    then = std::move(node);
  }
  depth_ = depth;
  return then;
}

Result<ExpressionParser::BinaryToken> ExpressionParser::PeekBinary() {
  BinaryToken token;
  if (current_.kind == TokenKind::kOperator) {
    token.precedence = OperatorPrecedence(current_.text);
  } else if (current_.IsName("or")) {
    token.precedence = kOr;
  } else if (current_.IsName("and")) {
    token.precedence = kAnd;
  } else if (current_.IsName("in")) {
    token.precedence = kComparison;
  } else if (current_.IsName("not")) {
    TIDAL_ASSIGN_OR_RETURN(const Token* ahead, Ahead());
    token.is_not_in = ahead->IsName("in");
    if (token.is_not_in) token.precedence = kComparison;
  }
  return token;
}

// Operators that bind at least as tight as min_precedence, and their operands.
Result<ExprPtr> ExpressionParser::ParseBinary(int min_precedence) {
  ExprPtr left;
  if (min_precedence <= kNot && current_.IsName("not")) {
    TIDAL_ASSIGN_OR_RETURN(left, ParseNot());
  } else {
    TIDAL_ASSIGN_OR_RETURN(left, ParseUnary(true));
  }
  for (;;) {
    TIDAL_ASSIGN_OR_RETURN(const BinaryToken token, PeekBinary());
    if (token.precedence == 0 || token.precedence < min_precedence) return left;
    TIDAL_ASSIGN_OR_RETURN(left, ParseChain(std::move(left), token.precedence));
  }
}

Result<ExprPtr> ExpressionParser::ParseNot() {
  const Level level(&depth_);
  TIDAL_RETURN_IF_ERROR(CheckDepth());
  auto node = MakeItems(ExprKind::kNot, current_.pos, nullptr);
  TIDAL_RETURN_IF_ERROR(Advance());
  TIDAL_ASSIGN_OR_RETURN(ExprPtr operand, ParseBinary(kNot));
  node->items.push_back(std::move(operand));
  return ExprPtr(std::move(node));
}

// All operators of one precedence in a row, from the one at hand.
Result<ExprPtr> ExpressionParser::ParseChain(ExprPtr first, int precedence) {
  const SourcePos pos = first->pos;
  std::unique_ptr<ItemsExpr> items;
  std::unique_ptr<CompareExpr> comparison;
  std::unique_ptr<ArithmeticExpr> arithmetic;
  if (precedence == kOr || precedence == kAnd || precedence == kConcatenation) {
    const ExprKind kind = precedence == kOr    ? ExprKind::kOr
                          : precedence == kAnd ? ExprKind::kAnd
                                               : ExprKind::kConcat;
    items = MakeItems(kind, pos, std::move(first));
  } else if (precedence == kComparison) {
    comparison = std::make_unique<CompareExpr>(pos);
    comparison->first = std::move(first);
  } else {
    arithmetic = std::make_unique<ArithmeticExpr>(pos);
    arithmetic->first = std::move(first);
  }
  for (;;) {
    TIDAL_ASSIGN_OR_RETURN(const BinaryToken token, PeekBinary());
    if (token.precedence != precedence) break;
    const Token op = current_;
    TIDAL_RETURN_IF_ERROR(Advance());
    if (token.is_not_in) TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(ExprPtr operand, ParseBinary(precedence + 1));
    if (items != nullptr) {
      items->items.push_back(std::move(operand));
    } else if (arithmetic != nullptr) {
      arithmetic->steps.push_back({ToBinaryOp(op.text), op.pos, std::move(operand)});
    } else {
      CompareExpr::Step step;
      step.pos = op.pos;
      if (token.is_not_in) {
        step.membership = CompareExpr::Membership::kNotIn;
      } else if (op.kind == TokenKind::kName) {
        step.membership = CompareExpr::Membership::kIn;
      } else {
        step.op = ToCompareOp(op.text);
      }
      step.operand = std::move(operand);
      comparison->steps.push_back(std::move(step));
    }
  }
  if (items != nullptr) return ExprPtr(std::move(items));
  if (arithmetic != nullptr) return ExprPtr(std::move(arithmetic));
  return ExprPtr(std::move(comparison));
}

Result<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  if (!current_.IsOperator("-") && !current_.IsOperator("+")) {
    TIDAL_ASSIGN_OR_RETURN(ExprPtr primary, ParsePrimary());
    return ParsePostfix(std::move(primary), with_filters);
  }
  const Level level(&depth_);
  TIDAL_RETURN_IF_ERROR(CheckDepth());
  auto node = MakeItems(current_.IsOperator("-") ? ExprKind::kNegate : ExprKind::kPlus,
                        current_.pos, nullptr);
  TIDAL_RETURN_IF_ERROR(Advance());
  TIDAL_ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
  node->items.push_back(std::move(operand));
  return ParsePostfix(std::move(node), with_filters);
}

Result<ExprPtr> ExpressionParser::ParsePrimary() {
  switch (current_.kind) {
    case TokenKind::kName:
      return ParseNameOrConstant();
    case TokenKind::kString:
      return ParseString();
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      ExprPtr node =
          MakeConstant(current_.kind == TokenKind::kInteger ? Value::Int(current_.integer)
                                                            : Value::Float(current_.number),
                       current_.pos);
      TIDAL_RETURN_IF_ERROR(Advance());
      return node;
    }
    default:
      break;
  }
  if (current_.IsOperator("(")) return ParseParentheses();
  if (current_.IsOperator("[")) return ParseList();
  if (current_.IsOperator("{")) return ParseDict();
  return Unexpected("an expression");
}

Result<ExprPtr> ExpressionParser::ParseNameOrConstant() {
  const std::string& name = current_.text;
  ExprPtr node;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node = MakeConstant(Value::Bool(name == "true" || name == "True"), current_.pos);
  } else if (name == "none" || name == "None") {
    node = MakeConstant(Value::None(), current_.pos);
  } else {
    special_.caller = special_.caller || name == "caller";
    special_.kwargs = special_.kwargs || name == "kwargs";
    special_.varargs = special_.varargs || name == "varargs";
    node = std::make_unique<NameExpr>(name, current_.pos);
  }
  TIDAL_RETURN_IF_ERROR(Advance());
  return node;
}

// Strings that follow each other are one.
Result<ExprPtr> ExpressionParser::ParseString() {
  auto node = std::make_unique<LiteralExpr>(current_.pos);
  node->index = num_string_literals_++;
  while (current_.kind == TokenKind::kString) {
    node->text += current_.text;
    TIDAL_RETURN_IF_ERROR(Advance());
  }
  return ExprPtr(std::move(node));
}

Result<ExprPtr> ExpressionParser::ParseParentheses() {
  const SourcePos pos = current_.pos;
  TIDAL_RETURN_IF_ERROR(Advance());
  ExprPtr node;
  if (current_.IsOperator(")")) {
    node = std::make_unique<ItemsExpr>(ExprKind::kTuple, pos);
  } else {
    TIDAL_ASSIGN_OR_RETURN(node, ParseTuple(Conditional::kYes));
  }
  TIDAL_RETURN_IF_ERROR(ExpectOperator(")"));
  return node;
}

Result<ExprPtr> ExpressionParser::ParseTuple(Conditional conditional) {
  const SourcePos pos = current_.pos;
  std::unique_ptr<ItemsExpr> tuple;
  ExprPtr first;
  for (;;) {
    const bool at_end = current_.kind == TokenKind::kVariableEnd ||
                        current_.kind == TokenKind::kBlockEnd || current_.IsOperator(")");
    if (at_end) {
      if (tuple == nullptr) return Unexpected("an expression");
      return ExprPtr(std::move(tuple));
    }
    TIDAL_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression(conditional));
    if (tuple != nullptr) {
      tuple->items.push_back(std::move(item));
    } else {
      first = std::move(item);
    }
    TIDAL_ASSIGN_OR_RETURN(const bool comma, TakeOperator(","));
    if (!comma) break;
    if (tuple == nullptr) tuple = MakeItems(ExprKind::kTuple, pos, std::move(first));
  }
  if (tuple == nullptr) return first;
  return ExprPtr(std::move(tuple));
}

Result<ExprPtr> ExpressionParser::ParseList() {
  auto node = std::make_unique<ItemsExpr>(ExprKind::kList, current_.pos);
  TIDAL_RETURN_IF_ERROR(Advance());
  while (!current_.IsOperator("]")) {
    if (!node->items.empty()) {
      TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      if (current_.IsOperator("]")) break;
    }
    TIDAL_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    node->items.push_back(std::move(item));
  }
  TIDAL_RETURN_IF_ERROR(Advance());
  return ExprPtr(std::move(node));
}

Result<ExprPtr> ExpressionParser::ParseDict() {
  auto node = std::make_unique<DictExpr>(current_.pos);
  TIDAL_RETURN_IF_ERROR(Advance());
  while (!current_.IsOperator("}")) {
    if (!node->entries.empty()) {
      TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      if (current_.IsOperator("}")) break;
    }
    TIDAL_ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    TIDAL_RETURN_IF_ERROR(ExpectOperator(":"));
    TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  TIDAL_RETURN_IF_ERROR(Advance());
  return ExprPtr(std::move(node));
}

}  // namespace tidal::jinja
