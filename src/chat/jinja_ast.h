// The syntax tree of a template. Chains of one precedence (a + b - c, x.y[0](z)|f, a or b or c) are
// lists, not nested pairs, so that only what a template nests by brackets or blocks is deep; the
// parser bounds that.
//
// Ownership: each node owns its children. Threads: a finished tree is constant and may be shared.
#ifndef TIDAL_CHAT_JINJA_AST_H_
#define TIDAL_CHAT_JINJA_AST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/jinja_lexer.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// Where a name lives: `depth` scopes outwards, at `slot`.
struct SlotRef {
  int32_t depth = 0;
  int32_t slot = -1;
};

// How a scope's slot gets its value when the scope is entered.
struct SlotInit {
  enum class From : uint8_t {
    kNothing,    // it is assigned later
    kParameter,  // the construct that opens the scope sets it
    kVariable,   // a variable of the rendering, or a global function
    kOuter,      // a copy of the same name outside
  };
  std::string name;
  From from = From::kNothing;
  SlotRef outer;
};

// The names of one scope: the template, a loop's body, a macro, ...
struct Scope {
  std::vector<SlotInit> slots;
};

enum class ExprKind : uint8_t {
  kLiteral,
  kName,
  kList,
  kTuple,
  kDict,
  kNot,
  kNegate,
  kPlus,
  kArithmetic,
  kConcat,
  kCompare,
  kAnd,
  kOr,
  kConditional,
  kPostfix,
};

struct Expr {
  Expr(ExprKind k, SourcePos p) : kind(k), pos(p) {}
  virtual ~Expr() = default;

  ExprKind kind;
  SourcePos pos;
};
using ExprPtr = std::unique_ptr<Expr>;

struct LiteralExpr : Expr {
  explicit LiteralExpr(SourcePos p) : Expr(ExprKind::kLiteral, p) {}
  Value value;        // of a constant without an object
  std::string text;   // of a string, where value is missing
  int32_t index = 0;  // counts the string literals, for the interpreter's table of their values
};

struct NameExpr : Expr {
  NameExpr(std::string n, SourcePos p) : Expr(ExprKind::kName, p), name(std::move(n)) {}
  std::string name;
  SlotRef ref;
};

// kList, kTuple, kConcat, kAnd, kOr, and with one item kNot, kNegate, kPlus.
struct ItemsExpr : Expr {
  using Expr::Expr;
  std::vector<ExprPtr> items;
};

struct DictExpr : Expr {
  explicit DictExpr(SourcePos p) : Expr(ExprKind::kDict, p) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

// first op[0] rest[0] op[1] rest[1] ..., from left to right.
struct ArithmeticExpr : Expr {
  explicit ArithmeticExpr(SourcePos p) : Expr(ExprKind::kArithmetic, p) {}
  struct Step {
    BinaryOp op;
    SourcePos pos;
    ExprPtr operand;
  };
  ExprPtr first;
  std::vector<Step> steps;
};

// A chain holds where each comparison of neighbours does.
struct CompareExpr : Expr {
  explicit CompareExpr(SourcePos p) : Expr(ExprKind::kCompare, p) {}
  enum class Membership : uint8_t { kNone, kIn, kNotIn };
  struct Step {
    Membership membership = Membership::kNone;
    CompareOp op = CompareOp::kEqual;  // where membership is kNone
    SourcePos pos;
    ExprPtr operand;
  };
  ExprPtr first;
  std::vector<Step> steps;
};

struct ConditionalExpr : Expr {
  explicit ConditionalExpr(SourcePos p) : Expr(ExprKind::kConditional, p) {}
  ExprPtr condition;
  ExprPtr then;
  ExprPtr otherwise;  // null: undefined
};

struct CallArgsExpr {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;         // *args, or null
  ExprPtr double_star;  // **kwargs, or null
};

// A base and what follows it: .name [key] [a:b] (args) |filter(args) is test(args).
struct PostfixExpr : Expr {
  explicit PostfixExpr(SourcePos p) : Expr(ExprKind::kPostfix, p) {}
  enum class StepKind : uint8_t { kAttribute, kIndex, kSlice, kCall, kFilter, kTest, kNotTest };
  struct Step {
    StepKind kind = StepKind::kAttribute;
    SourcePos pos;
    std::string name;  // of the attribute, filter or test
    const BuiltinEntry* builtin =
        nullptr;                 // of the filter or test; null where there is none of that name
    std::vector<ExprPtr> parts;  // the index; or start, stop, step, each may be null
    CallArgsExpr args;
  };
  ExprPtr base;  // null in a filter block: the rendered text
  std::vector<Step> steps;
};

// What an assignment writes to: a name, an attribute of a namespace, or several of these in
// (nested) tuples.
struct Target {
  enum class Kind : uint8_t { kName, kAttribute, kTuple };
  Kind kind = Kind::kName;
  SourcePos pos;
  std::string name;
  std::string attribute;
  SlotRef ref;
  std::vector<Target> items;
};

enum class StmtKind : uint8_t {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCall,
  kFilter,
  kWith,
  kScope,
  kBreak,
  kContinue,
};

struct Stmt {
  Stmt(StmtKind k, SourcePos p) : kind(k), pos(p) {}
  virtual ~Stmt() = default;

  StmtKind kind;
  SourcePos pos;
};
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct TextStmt : Stmt {
  TextStmt(std::string t, SourcePos p) : Stmt(StmtKind::kText, p), text(std::move(t)) {}
  std::string text;
};

struct PrintStmt : Stmt {
  explicit PrintStmt(SourcePos p) : Stmt(StmtKind::kPrint, p) {}
  std::vector<ExprPtr> items;
};

struct IfStmt : Stmt {
  explicit IfStmt(SourcePos p) : Stmt(StmtKind::kIf, p) {}
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block otherwise;
};

struct ForStmt : Stmt {
  explicit ForStmt(SourcePos p) : Stmt(StmtKind::kFor, p) {}
  Target target;
  Target filter_target;  // the same names, in filter_scope
  ExprPtr iterable;
  ExprPtr filter;  // or null
  bool recursive = false;
  Block body;
  Block otherwise;
  Scope body_scope;
  Scope filter_scope;
  Scope otherwise_scope;
  int32_t loop_slot = -1;  // of the variable `loop` in body_scope
};

struct SetStmt : Stmt {
  explicit SetStmt(SourcePos p) : Stmt(StmtKind::kSet, p) {}
  Target target;
  ExprPtr value;
};

struct SetBlockStmt : Stmt {
  explicit SetBlockStmt(SourcePos p) : Stmt(StmtKind::kSetBlock, p) {}
  Target target;
  std::unique_ptr<PostfixExpr> filter;  // or null
  Block body;
  Scope scope;
};

// A macro's or call block's parameters and body.
struct Callable {
  struct Parameter {
    std::string name;
    ExprPtr fallback;  // or null
    int32_t slot = -1;
  };
  std::string name;
  SourcePos pos;
  std::vector<Parameter> parameters;
  Block body;
  Scope scope;
  // Of the names that the body reads without declaring them; -1 where it does not.
  int32_t caller_slot = -1;
  int32_t kwargs_slot = -1;
  int32_t varargs_slot = -1;
  bool reads_caller = false;
  bool reads_kwargs = false;
  bool reads_varargs = false;
};

struct MacroStmt : Stmt {
  explicit MacroStmt(SourcePos p) : Stmt(StmtKind::kMacro, p) {}
  Target target;
  Callable macro;
};

struct CallStmt : Stmt {
  explicit CallStmt(SourcePos p) : Stmt(StmtKind::kCall, p) {}
  std::unique_ptr<PostfixExpr> call;  // its last step is a call
  Callable caller;
};

// {% filter %}: the body's text through the steps of a postfix chain without a base.
struct FilterStmt : Stmt {
  explicit FilterStmt(SourcePos p) : Stmt(StmtKind::kFilter, p) {}
  std::unique_ptr<PostfixExpr> filter;
  Block body;
  Scope scope;
};

struct WithStmt : Stmt {
  explicit WithStmt(SourcePos p) : Stmt(StmtKind::kWith, p) {}
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Block body;
  Scope scope;
};

// {% generation %}: prints its body, in a scope of its own.
struct ScopeStmt : Stmt {
  explicit ScopeStmt(SourcePos p) : Stmt(StmtKind::kScope, p) {}
  Block body;
  Scope scope;
};

struct TemplateTree {
  Block body;
  Scope scope;
  int32_t num_string_literals = 0;
};

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_AST_H_
