// The expression half of the parser, and its access to the tokens.
//
// Threads: a parser belongs to one thread.
#ifndef TIDAL_CHAT_JINJA_EXPRESSION_PARSER_H_
#define TIDAL_CHAT_JINJA_EXPRESSION_PARSER_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "chat/jinja_ast.h"
#include "chat/jinja_lexer.h"

namespace tidal::jinja {

// A node of items with its first one, unless that is null.
std::unique_ptr<ItemsExpr> MakeItems(ExprKind kind, SourcePos pos, ExprPtr first);
// A literal that is no string.
std::unique_ptr<LiteralExpr> MakeConstant(Value value, SourcePos pos);

class ExpressionParser {
 public:
  ExpressionParser(std::string_view source, int32_t max_depth)
      : lexer_(source), max_depth_(max_depth) {}

  int32_t num_string_literals() const { return num_string_literals_; }

 protected:
  enum class Conditional : bool { kNo, kYes };  // whether `a if b else c` may stand here

  // Counts a level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(int32_t* depth) : depth_(depth) { ++*depth_; }
    ~Level() { --*depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int32_t* depth_;
  };
  Status CheckDepth() const;

  // The token at hand and the one after it.
  const Token& current() const { return current_; }
  Result<const Token*> Ahead();
  Status Advance();
  // Takes the token where it is the one asked for.
  Result<bool> TakeOperator(std::string_view op);
  Result<bool> TakeName(std::string_view name);
  Status ExpectOperator(std::string_view op);
  Status Expect(TokenKind kind, std::string_view what);
  Result<std::string> ExpectName(std::string_view what);
  Status Unexpected(std::string_view expected) const;
  static Status ErrorAt(SourcePos pos, std::string_view message);

  Result<ExprPtr> ParseExpression(Conditional conditional = Conditional::kYes);
  // One expression, or a tuple where commas follow.
  Result<ExprPtr> ParseTuple(Conditional conditional);
  // |filter(args) ...; the first "|" has been taken where `after_bar`.
  Status ParseFilters(bool after_bar, std::vector<PostfixExpr::Step>* steps);

 private:
  struct BinaryToken {
    int precedence = 0;  // 0: not a binary operator
    bool is_not_in = false;
  };

  Result<ExprPtr> ParseConditional();
  Result<BinaryToken> PeekBinary();
  Result<ExprPtr> ParseBinary(int min_precedence);
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseChain(ExprPtr first, int precedence);
  Result<ExprPtr> ParseUnary(bool with_filters);
  Result<ExprPtr> ParsePrimary();
  Result<ExprPtr> ParseNameOrConstant();
  Result<ExprPtr> ParseString();
  Result<ExprPtr> ParseParentheses();
  Result<ExprPtr> ParseList();
  Result<ExprPtr> ParseDict();
  Result<ExprPtr> ParsePostfix(ExprPtr base, bool with_filters);
  Result<ExprPtr> ParseAccess(ExprPtr base);
  Status ParseSteps(bool with_filters, std::vector<PostfixExpr::Step>* steps);
  Status ParseAttribute(PostfixExpr::Step* step);
  Status ParseSubscript(PostfixExpr::Step* step);
  Status ParseSlicePart(ExprPtr* part);
  Status ParseTest(PostfixExpr::Step* step);
  Result<std::string> ParseDottedName(std::string_view what);
  Status ParseCallArgs(CallArgsExpr* args);
  Status ParseCallArg(CallArgsExpr* args);

  Lexer lexer_;
  Token current_;
  Token ahead_;
  bool has_ahead_ = false;
  int32_t num_string_literals_ = 0;

 protected:
  // The names that calls of a macro fill where its body reads them.
  struct SpecialNames {
    bool caller = false;
    bool kwargs = false;
    bool varargs = false;
  };

  const int32_t max_depth_;
  int32_t depth_ = 0;
  SpecialNames special_;  // those that were read since it was reset
};

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_EXPRESSION_PARSER_H_
