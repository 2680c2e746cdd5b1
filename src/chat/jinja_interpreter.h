// Walks a template's syntax tree and prints its text.
//
// Threads: an Interpreter belongs to one thread; the tree may be shared.
#ifndef TIDAL_CHAT_JINJA_INTERPRETER_H_
#define TIDAL_CHAT_JINJA_INTERPRETER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "chat/jinja_ast.h"
#include "chat/jinja_loop.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// The values of one scope while it runs. `parent` is the scope around it in the template's text.
struct Frame {
  const Scope* scope = nullptr;
  Frame* parent = nullptr;
  std::vector<Value> slots;
  bool captured = false;  // a macro may still use it: it lives as long as the rendering
};

struct MacroObject : Object {
  const Callable* callable = nullptr;
  Frame* closure = nullptr;
};

inline const MacroObject& AsMacro(const Value& value) {
  return *static_cast<const MacroObject*>(value.object());
}

class Interpreter {
 public:
  // All must outlive the interpreter. `variables` is a dict.
  Interpreter(const TemplateTree& tree, const Value& variables, Runtime* runtime);
  ~Interpreter();

  // Once. Errors: as ChatTemplate::Render, "line N, column M: ...".
  Result<std::string> Run();

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class FrameScope;
  class OutputScope;
  class FilteredSource;

  // Statements (jinja_interpreter.cc).
  Result<Flow> RunBlock(const Block& block);
  Result<Flow> RunStmt(const Stmt& stmt);
  Status RunPrint(const PrintStmt& stmt);
  Result<Flow> RunIf(const IfStmt& stmt);
  Result<Flow> RunFor(const ForStmt& stmt);
  Result<Flow> RunLoop(const ForStmt& stmt, const Value& iterable, int64_t depth0, Frame* outer);
  Result<Flow> RunIterations(const ForStmt& stmt, const Value& loop, bool* completed_one);
  Result<Flow> RunSetBlock(const SetBlockStmt& stmt);
  Status RunMacro(const MacroStmt& stmt);
  Status RunCall(const CallStmt& stmt);
  Result<Flow> RunFilter(const FilterStmt& stmt);
  Result<Flow> RunWith(const WithStmt& stmt);
  Status Assign(const Target& target, Value value);
  Status AssignAttribute(const Target& target, Value value);
  Status Unpack(const Target& target, const Value& value);

  // Scopes and output.
  Status EnterScope(Frame* frame);
  void CaptureFrames();
  Value LookUpVariable(const std::string& name);
  Value& SlotOf(SlotRef ref);
  Status Append(std::string_view text);

  // Calls (jinja_calls.cc).
  Result<CallArgs> EvalArgs(const CallArgsExpr& args);
  Status EvalStarArgs(const CallArgsExpr& args, CallArgs* out);
  Result<Value> Call(const Value& callee, CallArgs args, SourcePos pos);
  Result<Value> CallMacro(const MacroObject& macro, CallArgs args, SourcePos pos);
  Status BindMacroArgs(const Callable& callable, CallArgs args, Frame* frame);
  Result<Value> CallLoop(const LoopObject& loop, const CallArgs& args, SourcePos pos);
  Result<Value> MakeMacro(const Callable& callable);

  // Expressions (jinja_evaluator.cc).
  Result<Value> Eval(const Expr& expr);
  Result<Value> EvalLiteral(const LiteralExpr& expr);
  Result<Value> EvalName(const NameExpr& expr);
  Result<Value> EvalItems(const ItemsExpr& expr);
  Result<Value> EvalDict(const DictExpr& expr);
  Result<Value> EvalUnary(const ItemsExpr& expr);
  Result<Value> EvalArithmetic(const ArithmeticExpr& expr);
  Result<Value> EvalConcat(const ItemsExpr& expr);
  Result<Value> EvalCompare(const CompareExpr& expr);
  Result<Value> EvalLogic(const ItemsExpr& expr);
  Result<Value> EvalConditional(const ConditionalExpr& expr);
  Result<Value> EvalPostfix(const PostfixExpr& expr, Value base);
  Result<Value> EvalStep(const PostfixExpr::Step& step, const Value& value);
  Result<Value> EvalIndex(const PostfixExpr::Step& step, const Value& value);
  Result<Value> EvalSlice(const PostfixExpr::Step& step, const Value& value);
  Result<Value> EvalFilterOrTest(const PostfixExpr::Step& step, const Value& value);

  // The error with the place in front, unless it has one.
  static Status Locate(SourcePos pos, const Status& status);
  template <typename T>
  static Result<T> Locate(SourcePos pos, Result<T> result) {
    if (result.ok()) return result;
    return Locate(pos, result.status());
  }
  Status CheckDepth(SourcePos pos) const;

  const TemplateTree& tree_;
  const Value& variables_;
  Runtime* const runtime_;
  std::vector<Value> literals_;  // of the string literals that were used, by their index
  Frame* frame_ = nullptr;       // the innermost scope
  std::vector<std::unique_ptr<Frame>> captured_frames_;
  std::string* output_ = nullptr;  // where text goes now
  int32_t depth_ = 0;              // of nested calls of RunBlock and Eval
  int32_t call_depth_ = 0;         // of macros and recursive loops
};

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_INTERPRETER_H_
