#include "chat/jinja_scope.h"

#include <string_view>
#include <unordered_map>

#include "chat/jinja_builtins.h"

namespace tidal::jinja {
namespace {

// A scope while its names are bound. Slots are found by name through a chain of these.
struct ScopeFrame {
  ScopeFrame* parent = nullptr;
  Scope* scope = nullptr;
  std::unordered_map<std::string, int32_t> slots;
};

// A filter or test that is missing is an error at once, or only where it is reached.
enum class Missing : bool { kIsError, kIsLate };

class Binder {
 public:
  Status Run(TemplateTree* tree) {
    ScopeFrame frame{nullptr, &tree->scope, {}};
    CollectBlock(tree->body, Branch::kAlways, &frame);
    return BindBlock(tree->body, &frame, Missing::kIsError);
  }

 private:
  enum class Branch : bool { kAlways, kSometimes };

  // ---- First pass over a scope: which names it has, and how each starts. Inner scopes are left
  // for later. ----

  static bool FindOutside(const ScopeFrame& frame, const std::string& name, SlotRef* ref) {
    ref->depth = 0;
    for (const ScopeFrame* at = &frame; at != nullptr; at = at->parent, ++ref->depth) {
      const auto it = at->slots.find(name);
      if (it == at->slots.end()) continue;
      ref->slot = it->second;
      return true;
    }
    return false;
  }

  static int32_t Declare(const std::string& name, SlotInit::From from, ScopeFrame* frame) {
    const auto [it, added] =
        frame->slots.try_emplace(name, static_cast<int32_t>(frame->scope->slots.size()));
    if (added) frame->scope->slots.push_back({name, from, {}});
    return it->second;
  }

  // A name that is only read belongs to the nearest scope that has it, or else comes from the
  // variables.
  static void CollectLoad(const std::string& name, ScopeFrame* frame) {
    SlotRef ref;
    if (!FindOutside(*frame, name, &ref)) Declare(name, SlotInit::From::kVariable, frame);
  }

  // An assigned name is the scope's own. It starts as the outer one's copy; without one, as the
  // variable of that name where it was read first or the assignment is conditional, and as nothing
  // otherwise.
  static void CollectStore(const std::string& name, Branch branch, ScopeFrame* frame) {
    if (frame->slots.count(name) != 0) return;
    SlotRef outer;
    const bool has_outer = FindOutside(*frame, name, &outer);
    const auto from = has_outer                      ? SlotInit::From::kOuter
                      : branch == Branch::kSometimes ? SlotInit::From::kVariable
                                                     : SlotInit::From::kNothing;
    const int32_t slot = Declare(name, from, frame);
    frame->scope->slots[static_cast<size_t>(slot)].outer = outer;
  }

  static void CollectTarget(const Target& target, Branch branch, ScopeFrame* frame) {
    switch (target.kind) {
      case Target::Kind::kName:
        CollectStore(target.name, branch, frame);
        break;
      case Target::Kind::kAttribute:
        CollectLoad(target.name, frame);
        break;
      case Target::Kind::kTuple:
        for (const Target& item : target.items) CollectTarget(item, branch, frame);
    }
  }

  static void CollectParameters(const Target& target, ScopeFrame* frame) {
    if (target.kind == Target::Kind::kName) {
      Declare(target.name, SlotInit::From::kParameter, frame);
    }
    for (const Target& item : target.items) CollectParameters(item, frame);
  }

  static void CollectOptional(const ExprPtr& expr, ScopeFrame* frame) {
    if (expr != nullptr) CollectExpr(*expr, frame);
  }

  static void CollectArgs(const CallArgsExpr& args, ScopeFrame* frame) {
    for (const ExprPtr& arg : args.positional) CollectExpr(*arg, frame);
    for (const auto& [name, arg] : args.named) CollectExpr(*arg, frame);
    CollectOptional(args.star, frame);
    CollectOptional(args.double_star, frame);
  }

  static void CollectExpr(const Expr& expr, ScopeFrame* frame) {
    switch (expr.kind) {
      case ExprKind::kLiteral:
        break;
      case ExprKind::kName:
        CollectLoad(static_cast<const NameExpr&>(expr).name, frame);
        break;
      case ExprKind::kDict:
        for (const auto& [key, value] : static_cast<const DictExpr&>(expr).entries) {
          CollectExpr(*key, frame);
          CollectExpr(*value, frame);
        }
        break;
      case ExprKind::kArithmetic: {
        const auto& node = static_cast<const ArithmeticExpr&>(expr);
        CollectExpr(*node.first, frame);
        for (const auto& step : node.steps) CollectExpr(*step.operand, frame);
        break;
      }
      case ExprKind::kCompare: {
        const auto& node = static_cast<const CompareExpr&>(expr);
        CollectExpr(*node.first, frame);
        for (const auto& step : node.steps) CollectExpr(*step.operand, frame);
        break;
      }
      case ExprKind::kConditional: {
        const auto& node = static_cast<const ConditionalExpr&>(expr);
        CollectExpr(*node.condition, frame);
        CollectExpr(*node.then, frame);
        CollectOptional(node.otherwise, frame);
        break;
      }
      case ExprKind::kPostfix:
        CollectPostfix(static_cast<const PostfixExpr&>(expr), frame);
        break;
      default:
        for (const ExprPtr& item : static_cast<const ItemsExpr&>(expr).items) {
          CollectExpr(*item, frame);
        }
    }
  }

  static void CollectPostfix(const PostfixExpr& node, ScopeFrame* frame) {
    CollectOptional(node.base, frame);
    for (const PostfixExpr::Step& step : node.steps) {
      for (const ExprPtr& part : step.parts) CollectOptional(part, frame);
      CollectArgs(step.args, frame);
    }
  }

  static void CollectBlock(const Block& block, Branch branch, ScopeFrame* frame) {
    for (const StmtPtr& stmt : block) CollectStmt(*stmt, branch, frame);
  }

  static void CollectStmt(const Stmt& stmt, Branch branch, ScopeFrame* frame) {
    switch (stmt.kind) {
      case StmtKind::kPrint:
        for (const ExprPtr& item : static_cast<const PrintStmt&>(stmt).items) {
          CollectExpr(*item, frame);
        }
        break;
      case StmtKind::kIf: {
        const auto& node = static_cast<const IfStmt&>(stmt);
        for (const auto& [condition, body] : node.branches) {
          CollectExpr(*condition, frame);
          CollectBlock(body, Branch::kSometimes, frame);
        }
        CollectBlock(node.otherwise, Branch::kSometimes, frame);
        break;
      }
      case StmtKind::kFor:
        CollectExpr(*static_cast<const ForStmt&>(stmt).iterable, frame);
        break;
      case StmtKind::kSet: {
        const auto& node = static_cast<const SetStmt&>(stmt);
        CollectExpr(*node.value, frame);
        CollectTarget(node.target, branch, frame);
        break;
      }
      case StmtKind::kSetBlock:
        CollectTarget(static_cast<const SetBlockStmt&>(stmt).target, branch, frame);
        break;
      case StmtKind::kMacro:
        CollectTarget(static_cast<const MacroStmt&>(stmt).target, branch, frame);
        break;
      case StmtKind::kCall:
        CollectPostfix(*static_cast<const CallStmt&>(stmt).call, frame);
        break;
      case StmtKind::kWith:
        for (const auto& [target, value] : static_cast<const WithStmt&>(stmt).assignments) {
          CollectExpr(*value, frame);
        }
        break;
      case StmtKind::kText:
      case StmtKind::kFilter:
      case StmtKind::kScope:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        break;
    }
  }

  // ---- Second pass: every name gets its slot, and inner scopes their two passes. ----

  static void BindName(const std::string& name, const ScopeFrame& frame, SlotRef* ref) {
    const bool found = FindOutside(frame, name, ref);
    TIDAL_CHECK(found, "the name {} was not collected", name);
  }

  static void BindTarget(Target* target, const ScopeFrame& frame) {
    if (target->kind != Target::Kind::kTuple) BindName(target->name, frame, &target->ref);
    for (Target& item : target->items) BindTarget(&item, frame);
  }

  Status BindOptional(const ExprPtr& expr, ScopeFrame* frame, Missing missing) {
    return expr == nullptr ? OkStatus() : BindExpr(expr.get(), frame, missing);
  }

  Status BindItems(const std::vector<ExprPtr>& items, ScopeFrame* frame, Missing missing) {
    for (const ExprPtr& item : items) TIDAL_RETURN_IF_ERROR(BindOptional(item, frame, missing));
    return OkStatus();
  }

  Status BindExpr(Expr* expr, ScopeFrame* frame, Missing missing) {
    switch (expr->kind) {
      case ExprKind::kLiteral:
        return OkStatus();
      case ExprKind::kName: {
        auto* node = static_cast<NameExpr*>(expr);
        BindName(node->name, *frame, &node->ref);
        return OkStatus();
      }
      case ExprKind::kDict:
        for (const auto& [key, value] : static_cast<DictExpr*>(expr)->entries) {
          TIDAL_RETURN_IF_ERROR(BindExpr(key.get(), frame, missing));
          TIDAL_RETURN_IF_ERROR(BindExpr(value.get(), frame, missing));
        }
        return OkStatus();
      case ExprKind::kArithmetic: {
        auto* node = static_cast<ArithmeticExpr*>(expr);
        TIDAL_RETURN_IF_ERROR(BindExpr(node->first.get(), frame, missing));
        for (const auto& step : node->steps) {
          TIDAL_RETURN_IF_ERROR(BindExpr(step.operand.get(), frame, missing));
        }
        return OkStatus();
      }
      case ExprKind::kCompare: {
        auto* node = static_cast<CompareExpr*>(expr);
        TIDAL_RETURN_IF_ERROR(BindExpr(node->first.get(), frame, missing));
        for (const auto& step : node->steps) {
          TIDAL_RETURN_IF_ERROR(BindExpr(step.operand.get(), frame, missing));
        }
        return OkStatus();
      }
      case ExprKind::kConditional: {
        auto* node = static_cast<ConditionalExpr*>(expr);
        TIDAL_RETURN_IF_ERROR(BindExpr(node->condition.get(), frame, Missing::kIsLate));
        TIDAL_RETURN_IF_ERROR(BindExpr(node->then.get(), frame, Missing::kIsLate));
        return BindOptional(node->otherwise, frame, Missing::kIsLate);
      }
      case ExprKind::kPostfix:
        return BindPostfix(static_cast<PostfixExpr*>(expr), frame, missing);
      default:
        return BindItems(static_cast<ItemsExpr*>(expr)->items, frame, missing);
    }
  }

  Status BindPostfix(PostfixExpr* node, ScopeFrame* frame, Missing missing) {
    TIDAL_RETURN_IF_ERROR(BindOptional(node->base, frame, missing));
    for (PostfixExpr::Step& step : node->steps) {
      const bool is_filter = step.kind == PostfixExpr::StepKind::kFilter;
      const bool is_test =
          step.kind == PostfixExpr::StepKind::kTest || step.kind == PostfixExpr::StepKind::kNotTest;
      if ((is_filter || is_test) && step.builtin == nullptr && missing == Missing::kIsError &&
          !IsUnsupportedFilter(step.name)) {
        return InvalidArgument("line {}, column {}: there is no {} named '{}'", step.pos.line,
                               step.pos.column, is_filter ? "filter" : "test", step.name);
      }
      TIDAL_RETURN_IF_ERROR(BindItems(step.parts, frame, missing));
      TIDAL_RETURN_IF_ERROR(BindItems(step.args.positional, frame, missing));
      for (const auto& [name, arg] : step.args.named) {
        TIDAL_RETURN_IF_ERROR(BindExpr(arg.get(), frame, missing));
      }
      TIDAL_RETURN_IF_ERROR(BindOptional(step.args.star, frame, missing));
      TIDAL_RETURN_IF_ERROR(BindOptional(step.args.double_star, frame, missing));
    }
    return OkStatus();
  }

  Status BindBlock(const Block& block, ScopeFrame* frame, Missing missing) {
    for (const StmtPtr& stmt : block) TIDAL_RETURN_IF_ERROR(BindStmt(stmt.get(), frame, missing));
    return OkStatus();
  }

  // A body that is a scope with nothing of its own at the start.
  Status BindInner(const Block& body, Scope* scope, ScopeFrame* outer) {
    ScopeFrame frame{outer, scope, {}};
    CollectBlock(body, Branch::kAlways, &frame);
    return BindBlock(body, &frame, Missing::kIsError);
  }

  Status BindStmt(Stmt* stmt, ScopeFrame* frame, Missing missing) {
    switch (stmt->kind) {
      case StmtKind::kText:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return OkStatus();
      case StmtKind::kPrint:
        return BindItems(static_cast<PrintStmt*>(stmt)->items, frame, missing);
      case StmtKind::kIf: {
        auto* node = static_cast<IfStmt*>(stmt);
        for (auto& [condition, body] : node->branches) {
          TIDAL_RETURN_IF_ERROR(BindExpr(condition.get(), frame, Missing::kIsLate));
          TIDAL_RETURN_IF_ERROR(BindBlock(body, frame, Missing::kIsLate));
        }
        return BindBlock(node->otherwise, frame, Missing::kIsLate);
      }
      case StmtKind::kFor:
        return BindFor(static_cast<ForStmt*>(stmt), frame, missing);
      case StmtKind::kSet: {
        auto* node = static_cast<SetStmt*>(stmt);
        TIDAL_RETURN_IF_ERROR(BindExpr(node->value.get(), frame, missing));
        BindTarget(&node->target, *frame);
        return OkStatus();
      }
      case StmtKind::kSetBlock:
        return BindSetBlock(static_cast<SetBlockStmt*>(stmt), frame);
      case StmtKind::kMacro: {
        auto* node = static_cast<MacroStmt*>(stmt);
        BindTarget(&node->target, *frame);
        return BindCallable(&node->macro, frame);
      }
      case StmtKind::kCall: {
        auto* node = static_cast<CallStmt*>(stmt);
        TIDAL_RETURN_IF_ERROR(BindPostfix(node->call.get(), frame, missing));
        return BindCallable(&node->caller, frame);
      }
      case StmtKind::kFilter: {
        auto* node = static_cast<FilterStmt*>(stmt);
        ScopeFrame inner{frame, &node->scope, {}};
        CollectPostfix(*node->filter, &inner);
        CollectBlock(node->body, Branch::kAlways, &inner);
        TIDAL_RETURN_IF_ERROR(BindPostfix(node->filter.get(), &inner, Missing::kIsError));
        return BindBlock(node->body, &inner, Missing::kIsError);
      }
      case StmtKind::kWith:
        return BindWith(static_cast<WithStmt*>(stmt), frame, missing);
      case StmtKind::kScope: {
        auto* node = static_cast<ScopeStmt*>(stmt);
        return BindInner(node->body, &node->scope, frame);
      }
    }
    return OkStatus();
  }

  Status BindFor(ForStmt* node, ScopeFrame* frame, Missing missing) {
    TIDAL_RETURN_IF_ERROR(BindExpr(node->iterable.get(), frame, missing));
    if (node->filter != nullptr) {
      ScopeFrame filter{frame, &node->filter_scope, {}};
      CollectParameters(node->filter_target, &filter);
      CollectExpr(*node->filter, &filter);
      BindTarget(&node->filter_target, filter);
      TIDAL_RETURN_IF_ERROR(BindExpr(node->filter.get(), &filter, Missing::kIsError));
    }
    ScopeFrame body{frame, &node->body_scope, {}};
    node->loop_slot = Declare("loop", SlotInit::From::kParameter, &body);
    CollectParameters(node->target, &body);
    CollectBlock(node->body, Branch::kAlways, &body);
    BindTarget(&node->target, body);
    TIDAL_RETURN_IF_ERROR(BindBlock(node->body, &body, Missing::kIsError));
    return BindInner(node->otherwise, &node->otherwise_scope, frame);
  }

  Status BindSetBlock(SetBlockStmt* node, ScopeFrame* frame) {
    BindTarget(&node->target, *frame);
    ScopeFrame inner{frame, &node->scope, {}};
    CollectBlock(node->body, Branch::kAlways, &inner);
    TIDAL_RETURN_IF_ERROR(BindBlock(node->body, &inner, Missing::kIsError));
    if (node->filter == nullptr) return OkStatus();
    CollectPostfix(*node->filter, &inner);
    return BindPostfix(node->filter.get(), &inner, Missing::kIsError);
  }

  Status BindCallable(Callable* callable, ScopeFrame* outer) {
    ScopeFrame frame{outer, &callable->scope, {}};
    const auto declare = [&frame](const std::string& name) {
      return Declare(name, SlotInit::From::kParameter, &frame);
    };
    for (Callable::Parameter& parameter : callable->parameters) {
      parameter.slot = declare(parameter.name);
    }
    // A parameter of the name of a special one is just a parameter.
    if (callable->reads_caller && frame.slots.count("caller") == 0) {
      callable->caller_slot = declare("caller");
    }
    if (callable->reads_kwargs && frame.slots.count("kwargs") == 0) {
      callable->kwargs_slot = declare("kwargs");
    }
    if (callable->reads_varargs && frame.slots.count("varargs") == 0) {
      callable->varargs_slot = declare("varargs");
    }
    for (const Callable::Parameter& parameter : callable->parameters) {
      CollectOptional(parameter.fallback, &frame);
    }
    CollectBlock(callable->body, Branch::kAlways, &frame);
    for (const Callable::Parameter& parameter : callable->parameters) {
      TIDAL_RETURN_IF_ERROR(BindOptional(parameter.fallback, &frame, Missing::kIsError));
    }
    return BindBlock(callable->body, &frame, Missing::kIsError);
  }

  Status BindWith(WithStmt* node, ScopeFrame* frame, Missing missing) {
    for (const auto& [target, value] : node->assignments) {
      TIDAL_RETURN_IF_ERROR(BindExpr(value.get(), frame, missing));
    }
    ScopeFrame inner{frame, &node->scope, {}};
    for (const auto& [target, value] : node->assignments) CollectParameters(target, &inner);
    CollectBlock(node->body, Branch::kAlways, &inner);
    for (auto& [target, value] : node->assignments) BindTarget(&target, inner);
    return BindBlock(node->body, &inner, Missing::kIsError);
  }
};

}  // namespace

Status BindNames(TemplateTree* tree) { return Binder().Run(tree); }

}  // namespace tidal::jinja
