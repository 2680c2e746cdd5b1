#include "chat/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "chat/jinja_expression_parser.h"
#include "chat/jinja_scope.h"

namespace tidal::jinja {
namespace {

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Status ParseAll(Block* body) {
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_RETURN_IF_ERROR(ParseBlock({}, body));
    return OkStatus();
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  bool AtOneOf(Names names) const {
    return std::any_of(names.begin(), names.end(),
                       [this](std::string_view name) { return current().IsName(name); });
  }

  // Statements up to a tag of one of the names (which is then at hand), or to the template's end
  // where there are none.
  Status ParseBlock(Names end_names, Block* out) {
    const Level level(&depth_);
    TIDAL_RETURN_IF_ERROR(CheckDepth());
    for (;;) {
      switch (current().kind) {
        case TokenKind::kEnd:
          if (end_names.size() == 0) return OkStatus();
          return Unexpected(fmt::format("'{{% {} %}}'", *(end_names.end() - 1)));
        case TokenKind::kData:
          out->push_back(std::make_unique<TextStmt>(current().text, current().pos));
          TIDAL_RETURN_IF_ERROR(Advance());
          break;
        case TokenKind::kVariableBegin:
          TIDAL_RETURN_IF_ERROR(ParsePrintTag(out));
          break;
        default:  // text is left for no other token
          TIDAL_RETURN_IF_ERROR(Expect(TokenKind::kBlockBegin, "a tag"));
          if (AtOneOf(end_names)) return OkStatus();
          TIDAL_RETURN_IF_ERROR(ParseStatement(end_names, out));
          TIDAL_RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd, "'%}'"));
      }
    }
  }

  // The rest of an opening tag, then ParseBlock.
  Status ParseBody(Names end_names, Block* out) {
    TIDAL_RETURN_IF_ERROR(TakeOperator(":").status());
    TIDAL_RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd, "'%}'"));
    return ParseBlock(end_names, out);
  }

  // ParseBody with one possible end, which is taken.
  Status ParseWholeBody(std::string_view end_name, Block* out) {
    TIDAL_RETURN_IF_ERROR(ParseBody({end_name}, out));
    return Advance();
  }

  Status ParsePrintTag(Block* out) {
    auto node = std::make_unique<PrintStmt>(current().pos);
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseTuple(Conditional::kYes));
    node->items.push_back(std::move(value));
    out->push_back(std::move(node));
    return Expect(TokenKind::kVariableEnd, "'}}'");
  }

  Status ParseStatement(Names end_names, Block* out) {
    if (current().kind != TokenKind::kName) return Unexpected("the name of a tag");
    const SourcePos pos = current().pos;
    const std::string tag = current().text;
    constexpr std::string_view kUnsupported[] = {"extends", "include", "import",
                                                 "from",    "block",   "autoescape"};
    if (std::find(std::begin(kUnsupported), std::end(kUnsupported), tag) !=
        std::end(kUnsupported)) {
      return Unsupported(
          "line {}, column {}: the tag '{}' is not supported: a chat template stands alone",
          pos.line, pos.column, tag);
    }
    struct Entry {
      std::string_view name;
      Status (Parser::*parse)(SourcePos pos, Block* out);
    };
    constexpr Entry kTags[] = {
        {"if", &Parser::ParseIf},
        {"for", &Parser::ParseFor},
        {"set", &Parser::ParseSet},
        {"macro", &Parser::ParseMacro},
        {"call", &Parser::ParseCall},
        {"filter", &Parser::ParseFilterBlock},
        {"with", &Parser::ParseWith},
        {"generation", &Parser::ParseGeneration},
        {"print", &Parser::ParsePrint},
        {"break", &Parser::ParseBreak},
        {"continue", &Parser::ParseContinue},
    };
    for (const Entry& entry : kTags) {
      if (entry.name != tag) continue;
      TIDAL_RETURN_IF_ERROR(Advance());
      return (this->*entry.parse)(pos, out);
    }
    if (end_names.size() == 0) return Unexpected("a tag that opens something");
    return Unexpected(fmt::format("a tag that opens something, or '{}'", *(end_names.end() - 1)));
  }

  Status ParseIf(SourcePos pos, Block* out) {
    auto node = std::make_unique<IfStmt>(pos);
    for (;;) {
      TIDAL_ASSIGN_OR_RETURN(ExprPtr condition, ParseTuple(Conditional::kNo));
      node->branches.emplace_back(std::move(condition), Block());
      TIDAL_RETURN_IF_ERROR(ParseBody({"elif", "else", "endif"}, &node->branches.back().second));
      TIDAL_ASSIGN_OR_RETURN(const bool more, TakeName("elif"));
      if (!more) break;
    }
    TIDAL_ASSIGN_OR_RETURN(const bool has_else, TakeName("else"));
    if (has_else) TIDAL_RETURN_IF_ERROR(ParseBody({"endif"}, &node->otherwise));
    out->push_back(std::move(node));
    return Advance();
  }

  Status ParseFor(SourcePos pos, Block* out) {
    auto node = std::make_unique<ForStmt>(pos);
    ++for_depth_;
    TIDAL_RETURN_IF_ERROR(ParseTarget(Attributes::kNo, &node->target));
    if (!current().IsName("in")) return Unexpected("'in'");
    TIDAL_RETURN_IF_ERROR(Advance());
    TIDAL_ASSIGN_OR_RETURN(node->iterable, ParseTuple(Conditional::kNo));
    TIDAL_ASSIGN_OR_RETURN(const bool filtered, TakeName("if"));
    if (filtered) {
      TIDAL_ASSIGN_OR_RETURN(node->filter, ParseExpression());
      node->filter_target = node->target;
    }
    TIDAL_ASSIGN_OR_RETURN(node->recursive, TakeName("recursive"));
    ++breakable_depth_;
    TIDAL_RETURN_IF_ERROR(ParseBody({"else", "endfor"}, &node->body));
    --breakable_depth_;
    TIDAL_ASSIGN_OR_RETURN(const bool has_else, TakeName("else"));
    if (has_else) {
      const int32_t outer_depth = breakable_depth_;
      if (node->recursive) breakable_depth_ = 0;
      TIDAL_RETURN_IF_ERROR(ParseBody({"endfor"}, &node->otherwise));
      breakable_depth_ = outer_depth;
    }
    --for_depth_;
    out->push_back(std::move(node));
    return Advance();
  }

  Status ParseSet(SourcePos pos, Block* out) {
    Target target;
    TIDAL_RETURN_IF_ERROR(ParseTarget(Attributes::kYes, &target));
    TIDAL_ASSIGN_OR_RETURN(const bool has_value, TakeOperator("="));
    if (has_value) {
      auto node = std::make_unique<SetStmt>(pos);
      node->target = std::move(target);
      TIDAL_ASSIGN_OR_RETURN(node->value, ParseTuple(Conditional::kYes));
      out->push_back(std::move(node));
      return OkStatus();
    }
    auto node = std::make_unique<SetBlockStmt>(pos);
    node->target = std::move(target);
    if (current().IsOperator("|")) {
      node->filter = std::make_unique<PostfixExpr>(current().pos);
      TIDAL_RETURN_IF_ERROR(ParseFilters(false, &node->filter->steps));
    }
    TIDAL_RETURN_IF_ERROR(ParseWholeBody("endset", &node->body));
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParseMacro(SourcePos pos, Block* out) {
    auto node = std::make_unique<MacroStmt>(pos);
    node->target.pos = current().pos;
    TIDAL_ASSIGN_OR_RETURN(node->target.name, ParseAssignableName());
    node->macro.name = node->target.name;
    node->macro.pos = pos;
    TIDAL_RETURN_IF_ERROR(ParseSignature(&node->macro));
    TIDAL_RETURN_IF_ERROR(ParseCallableBody("endmacro", &node->macro));
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParseCall(SourcePos pos, Block* out) {
    auto node = std::make_unique<CallStmt>(pos);
    node->caller.pos = pos;
    if (current().IsOperator("(")) TIDAL_RETURN_IF_ERROR(ParseSignature(&node->caller));
    TIDAL_ASSIGN_OR_RETURN(ExprPtr call, ParseExpression());
    auto* chain =
        call->kind == ExprKind::kPostfix ? static_cast<PostfixExpr*>(call.get()) : nullptr;
    if (chain == nullptr || chain->steps.back().kind != PostfixExpr::StepKind::kCall) {
      return ErrorAt(pos, "expected the call of a macro in this call block");
    }
    static_cast<void>(call.release());  // chain is it
    node->call.reset(chain);
    TIDAL_RETURN_IF_ERROR(ParseCallableBody("endcall", &node->caller));
    out->push_back(std::move(node));
    return OkStatus();
  }

  // Also notes which of the special names the body reads, for the macro calls that fill them.
  Status ParseCallableBody(std::string_view end_name, Callable* callable) {
    const int32_t outer_depth = std::exchange(breakable_depth_, 0);
    const SpecialNames outer = std::exchange(special_, {});
    TIDAL_RETURN_IF_ERROR(ParseWholeBody(end_name, &callable->body));
    breakable_depth_ = outer_depth;
    callable->reads_caller = special_.caller;
    callable->reads_kwargs = special_.kwargs;
    callable->reads_varargs = special_.varargs;
    special_ = {outer.caller || special_.caller, outer.kwargs || special_.kwargs,
                outer.varargs || special_.varargs};
    return CheckCallerParameter(*callable);
  }

  static Status CheckCallerParameter(const Callable& callable) {
    for (const Callable::Parameter& parameter : callable.parameters) {
      if (parameter.name == "caller" && callable.reads_caller && parameter.fallback == nullptr) {
        return ErrorAt(callable.pos, "expected a default for the parameter 'caller', found none");
      }
    }
    return OkStatus();
  }

  Status ParseSignature(Callable* callable) {
    TIDAL_RETURN_IF_ERROR(ExpectOperator("("));
    while (!current().IsOperator(")")) {
      if (!callable->parameters.empty()) TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      constexpr size_t kMaxParameters = 255;
      if (callable->parameters.size() >= kMaxParameters)
        return Unexpected("at most 255 parameters");
      const SourcePos pos = current().pos;
      Callable::Parameter parameter;
      TIDAL_ASSIGN_OR_RETURN(parameter.name, ParseAssignableName());
      for (const Callable::Parameter& other : callable->parameters) {
        if (other.name == parameter.name) return ErrorAt(pos, "two parameters have the same name");
      }
      TIDAL_ASSIGN_OR_RETURN(const bool has_default, TakeOperator("="));
      if (has_default) {
        TIDAL_ASSIGN_OR_RETURN(parameter.fallback, ParseExpression());
      } else if (!callable->parameters.empty() && callable->parameters.back().fallback != nullptr) {
        return ErrorAt(pos, "expected a default after a parameter with a default");
      }
      callable->parameters.push_back(std::move(parameter));
    }
    return Advance();
  }

  Status ParseFilterBlock(SourcePos pos, Block* out) {
    auto node = std::make_unique<FilterStmt>(pos);
    node->filter = std::make_unique<PostfixExpr>(current().pos);
    TIDAL_RETURN_IF_ERROR(ParseFilters(true, &node->filter->steps));
    TIDAL_RETURN_IF_ERROR(ParseWholeBody("endfilter", &node->body));
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParseWith(SourcePos pos, Block* out) {
    auto node = std::make_unique<WithStmt>(pos);
    while (current().kind != TokenKind::kBlockEnd) {
      if (!node->assignments.empty()) TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      Target target;
      TIDAL_RETURN_IF_ERROR(ParseTarget(Attributes::kNo, &target));
      TIDAL_RETURN_IF_ERROR(ExpectOperator("="));
      TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      node->assignments.emplace_back(std::move(target), std::move(value));
    }
    TIDAL_RETURN_IF_ERROR(ParseWholeBody("endwith", &node->body));
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParseGeneration(SourcePos pos, Block* out) {
    auto node = std::make_unique<ScopeStmt>(pos);
    const int32_t outer_depth = std::exchange(breakable_depth_, 0);
    TIDAL_RETURN_IF_ERROR(ParseWholeBody("endgeneration", &node->body));
    breakable_depth_ = outer_depth;
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParsePrint(SourcePos pos, Block* out) {
    auto node = std::make_unique<PrintStmt>(pos);
    while (current().kind != TokenKind::kBlockEnd) {
      if (!node->items.empty()) TIDAL_RETURN_IF_ERROR(ExpectOperator(","));
      TIDAL_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      node->items.push_back(std::move(value));
    }
    out->push_back(std::move(node));
    return OkStatus();
  }

  Status ParseBreak(SourcePos pos, Block* out) {
    return ParseLoopControl(StmtKind::kBreak, "break", pos, out);
  }
  Status ParseContinue(SourcePos pos, Block* out) {
    return ParseLoopControl(StmtKind::kContinue, "continue", pos, out);
  }
  Status ParseLoopControl(StmtKind kind, std::string_view name, SourcePos pos, Block* out) {
    if (breakable_depth_ == 0) {
      return ErrorAt(pos, fmt::format("expected '{}' inside a loop, found it outside", name));
    }
    out->push_back(std::make_unique<Stmt>(kind, pos));
    return OkStatus();
  }

  enum class Attributes : bool { kNo, kYes };  // whether namespace.attribute may be assigned

  Result<std::string> ParseAssignableName() {
    constexpr std::string_view kConstants[] = {"true", "True", "false", "False", "none", "None"};
    const bool constant = std::find(std::begin(kConstants), std::end(kConstants), current().text) !=
                          std::end(kConstants);
    if (constant) return Unexpected("a name to assign to");
    return ExpectName("a name to assign to");
  }

  // One target, or several with commas.
  Status ParseTarget(Attributes attributes, Target* target) {
    const Level level(&depth_);
    TIDAL_RETURN_IF_ERROR(CheckDepth());
    std::vector<Target> items;
    bool is_tuple = false;
    const SourcePos pos = current().pos;
    for (;;) {
      if (current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
          current().IsOperator(")")) {
        break;
      }
      items.emplace_back();
      TIDAL_RETURN_IF_ERROR(ParseOneTarget(attributes, &items.back()));
      TIDAL_ASSIGN_OR_RETURN(const bool comma, TakeOperator(","));
      if (!comma) break;
      is_tuple = true;
    }
    if (items.empty() && !is_tuple) return Unexpected("a name to assign to");
    if (!is_tuple) {
      *target = std::move(items[0]);
      return OkStatus();
    }
    target->kind = Target::Kind::kTuple;
    target->pos = pos;
    target->items = std::move(items);
    return OkStatus();
  }

  Status ParseOneTarget(Attributes attributes, Target* target) {
    target->pos = current().pos;
    if (current().IsOperator("(")) {
      TIDAL_RETURN_IF_ERROR(Advance());
      if (current().IsOperator(")")) {
        target->kind = Target::Kind::kTuple;
      } else {
        TIDAL_RETURN_IF_ERROR(ParseTarget(Attributes::kNo, target));
      }
      return ExpectOperator(")");
    }
    TIDAL_ASSIGN_OR_RETURN(target->name, ParseAssignableName());
    if (attributes == Attributes::kYes && current().IsOperator(".")) {
      TIDAL_RETURN_IF_ERROR(Advance());
      target->kind = Target::Kind::kAttribute;
      TIDAL_ASSIGN_OR_RETURN(target->attribute, ExpectName("an attribute's name"));
    } else if (for_depth_ > 0 && target->name == "loop") {
      return ErrorAt(target->pos, "the variable 'loop' of a for loop cannot be assigned to");
    }
    return OkStatus();
  }

  int32_t for_depth_ = 0;
  int32_t breakable_depth_ = 0;
};

}  // namespace

Result<std::unique_ptr<TemplateTree>> ParseTemplate(std::string_view source, int32_t max_depth) {
  if (source.size() > kMaxTemplateBytes) {
    return InvalidArgument("expected a template of at most {} bytes, found {}", kMaxTemplateBytes,
                           source.size());
  }
  Parser parser(source, std::min(max_depth, kMaxTemplateDepth));
  auto tree = std::make_unique<TemplateTree>();
  TIDAL_RETURN_IF_ERROR(parser.ParseAll(&tree->body));
  tree->num_string_literals = parser.num_string_literals();
  TIDAL_RETURN_IF_ERROR(BindNames(tree.get()));
  return tree;
}

}  // namespace tidal::jinja
