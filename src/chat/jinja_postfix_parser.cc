// What the expression parser reads after an operand: .name, [key], calls, filters and tests.
#include <algorithm>

#include "chat/jinja_builtins.h"
#include "chat/jinja_expression_parser.h"

namespace tidal::jinja {

Result<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr base, bool with_filters) {
  auto node = std::make_unique<PostfixExpr>(base->pos);
  TIDAL_RETURN_IF_ERROR(ParseSteps(with_filters, &node->steps));
  if (node->steps.empty()) return base;
  node->base = std::move(base);
  return ExprPtr(std::move(node));
}

// .name, [key] and calls; then, with filters, filters, tests and calls, but no more .name or [key].
Status ExpressionParser::ParseSteps(bool with_filters, std::vector<PostfixExpr::Step>* steps) {
  bool filtered = false;
  for (;;) {
    PostfixExpr::Step step;
    step.pos = current_.pos;
    if (!filtered && current_.IsOperator(".")) {
      TIDAL_RETURN_IF_ERROR(ParseAttribute(&step));
    } else if (!filtered && current_.IsOperator("[")) {
      TIDAL_RETURN_IF_ERROR(ParseSubscript(&step));
    } else if (current_.IsOperator("(")) {
      step.kind = PostfixExpr::StepKind::kCall;
      TIDAL_RETURN_IF_ERROR(ParseCallArgs(&step.args));
    } else if (with_filters && current_.IsOperator("|")) {
      filtered = true;
      TIDAL_RETURN_IF_ERROR(ParseFilters(false, steps));
      continue;
    } else if (with_filters && current_.IsName("is")) {
      filtered = true;
      TIDAL_RETURN_IF_ERROR(ParseTest(&step));
    } else {
      return OkStatus();
    }
    steps->push_back(std::move(step));
  }
}

Status ExpressionParser::ParseAttribute(PostfixExpr::Step* step) {
  TIDAL_RETURN_IF_ERROR(Advance());
  if (current_.kind == TokenKind::kInteger) {
    step->kind = PostfixExpr::StepKind::kIndex;
    step->parts.push_back(MakeConstant(Value::Int(current_.integer), current_.pos));
    return Advance();
  }
  TIDAL_ASSIGN_OR_RETURN(step->name, ExpectName("a name or a number after '.'"));
  return OkStatus();
}

Status ExpressionParser::ParseSubscript(PostfixExpr::Step* step) {
  const SourcePos pos = current_.pos;
  TIDAL_RETURN_IF_ERROR(Advance());
  std::unique_ptr<ItemsExpr> tuple;
  step->kind = PostfixExpr::StepKind::kIndex;
  ExprPtr first;
  if (current_.IsOperator("]")) {
    first = std::make_unique<ItemsExpr>(ExprKind::kTuple, pos);  // x[] is x[()]
  } else if (!current_.IsOperator(":")) {
    TIDAL_ASSIGN_OR_RETURN(first, ParseExpression());
  }
  if (current_.IsOperator(":")) {
    step->kind = PostfixExpr::StepKind::kSlice;
    step->parts.push_back(std::move(first));
    step->parts.resize(3);
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_RETURN_IF_ERROR(ParseSlicePart(&step->parts[1]));
    TIDAL_ASSIGN_OR_RETURN(const bool has_step, TakeOperator(":"));
    if (has_step) TIDAL_RETURN_IF_ERROR(ParseSlicePart(&step->parts[2]));
    return ExpectOperator("]");
  }
  while (current_.IsOperator(",")) {
    TIDAL_RETURN_IF_ERROR(Advance());
    if (tuple == nullptr) tuple = MakeItems(ExprKind::kTuple, pos, std::move(first));
    TIDAL_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    tuple->items.push_back(std::move(item));
  }
  if (tuple != nullptr) first = std::move(tuple);
  step->parts.push_back(std::move(first));
  return ExpectOperator("]");
}

Status ExpressionParser::ParseSlicePart(ExprPtr* part) {
  if (current_.IsOperator("]") || current_.IsOperator(":")) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(*part, ParseExpression());
  return OkStatus();
}

Result<std::string> ExpressionParser::ParseDottedName(std::string_view what) {
  TIDAL_ASSIGN_OR_RETURN(std::string name, ExpectName(what));
  while (current_.IsOperator(".")) {
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(const std::string part, ExpectName(what));
    name += "." + part;
  }
  return name;
}

Status ExpressionParser::ParseFilters(bool after_bar, std::vector<PostfixExpr::Step>* steps) {
  while (after_bar || current_.IsOperator("|")) {
    if (!after_bar) TIDAL_RETURN_IF_ERROR(Advance());
    after_bar = false;
    PostfixExpr::Step step;
    step.kind = PostfixExpr::StepKind::kFilter;
    step.pos = current_.pos;
    TIDAL_ASSIGN_OR_RETURN(step.name, ParseDottedName("the name of a filter"));
    step.builtin = FindFilter(step.name);
    if (current_.IsOperator("(")) TIDAL_RETURN_IF_ERROR(ParseCallArgs(&step.args));
    steps->push_back(std::move(step));
  }
  return OkStatus();
}

Status ExpressionParser::ParseTest(PostfixExpr::Step* step) {
  TIDAL_RETURN_IF_ERROR(Advance());
  TIDAL_ASSIGN_OR_RETURN(const bool negated, TakeName("not"));
  step->kind = negated ? PostfixExpr::StepKind::kNotTest : PostfixExpr::StepKind::kTest;
  TIDAL_ASSIGN_OR_RETURN(step->name, ParseDottedName("the name of a test"));
  step->builtin = FindTest(step->name);
  if (current_.IsOperator("(")) return ParseCallArgs(&step->args);
  const bool may_be_argument =
      current_.kind == TokenKind::kString || current_.kind == TokenKind::kInteger ||
      current_.kind == TokenKind::kFloat || current_.IsOperator("[") || current_.IsOperator("{") ||
      (current_.kind == TokenKind::kName && !current_.IsName("else") && !current_.IsName("or") &&
       !current_.IsName("and"));
  if (!may_be_argument) return OkStatus();
  if (current_.IsName("is")) return Unexpected("one test, not a chain of them");
  // The only argument, without parentheses: an operand with its .name, [key] and calls.
  const Level level(&depth_);
  TIDAL_RETURN_IF_ERROR(CheckDepth());
  TIDAL_ASSIGN_OR_RETURN(ExprPtr primary, ParsePrimary());
  TIDAL_ASSIGN_OR_RETURN(ExprPtr argument, ParsePostfix(std::move(primary), false));
  step->args.positional.push_back(std::move(argument));
  return OkStatus();
}

Status ExpressionParser::ParseCallArgs(CallArgsExpr* args) {
  TIDAL_RETURN_IF_ERROR(ExpectOperator("("));
  for (bool first = true; !current_.IsOperator(")"); first = false) {
    if (!first) {
      TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      if (current_.IsOperator(")")) break;
    }
    TIDAL_RETURN_IF_ERROR(ParseCallArg(args));
  }
  return Advance();
}

Status ExpressionParser::ParseCallArg(CallArgsExpr* args) {
  const SourcePos pos = current_.pos;
  constexpr std::string_view kOrder = "arguments in the order positional, named, *list, **dict";
  if (current_.IsOperator("*")) {
    if (args->star != nullptr || args->double_star != nullptr) return Unexpected(kOrder);
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(args->star, ParseExpression());
    return OkStatus();
  }
  if (args->double_star != nullptr) return Unexpected(kOrder);
  if (current_.IsOperator("**")) {
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(args->double_star, ParseExpression());
    return OkStatus();
  }
  if (current_.kind == TokenKind::kName) {
    TIDAL_ASSIGN_OR_RETURN(const Token* ahead, Ahead());
    if (ahead->IsOperator("=")) {
      constexpr size_t kMaxNamed = 1000;  // keeps the search for repeated names short
      if (args->named.size() >= kMaxNamed) return Unexpected("at most 1000 named arguments");
      std::string name = current_.text;
      const bool repeated = std::any_of(args->named.begin(), args->named.end(),
                                        [&name](const auto& arg) { return arg.first == name; });
      if (repeated) return ErrorAt(pos, fmt::format("argument '{}' is given twice", name));
      TIDAL_RETURN_IF_ERROR(Advance());
      TIDAL_RETURN_IF_ERROR(Advance());
      TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      args->named.emplace_back(std::move(name), std::move(value));
      return OkStatus();
    }
  }
  if (args->star != nullptr || !args->named.empty()) return Unexpected(kOrder);
  TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
  args->positional.push_back(std::move(value));
  return OkStatus();
}

}  // namespace tidal::jinja
