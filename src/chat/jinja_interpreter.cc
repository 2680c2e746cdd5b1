#include "chat/jinja_interpreter.h"

#include "chat/jinja_builtins.h"
#include "chat/jinja_interpreter_scopes.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"

namespace tidal::jinja {
namespace {

// Nested calls of RunBlock and Eval, whatever the template's limits: a stack of 1 MiB holds them,
// and one of 4 MiB does under the address sanitizer. A macro that calls itself takes some six a
// round.
constexpr int32_t kMaxDepth = 500;

}  // namespace

// The items of a loop that meet its condition, which is evaluated as the loop goes on.
class Interpreter::FilteredSource : public LoopSource {
 public:
  FilteredSource(Interpreter* interpreter, const ForStmt& stmt, Cursor cursor)
      : interpreter_(interpreter),
        stmt_(stmt),
        outer_(interpreter->frame_),
        cursor_(std::move(cursor)) {}

  int64_t KnownLength() const override {
    return stmt_.filter == nullptr ? cursor_.KnownLength() : -1;
  }

  Result<bool> Next(Value* item) override {
    for (;;) {
      TIDAL_ASSIGN_OR_RETURN(const bool more,
                             Locate(stmt_.pos, cursor_.Next(interpreter_->runtime_, item)));
      if (!more || stmt_.filter == nullptr) return more;
      FrameScope scope(interpreter_, &stmt_.filter_scope, outer_);
      TIDAL_RETURN_IF_ERROR(scope.Restart());
      TIDAL_RETURN_IF_ERROR(interpreter_->Assign(stmt_.filter_target, *item));
      TIDAL_ASSIGN_OR_RETURN(const Value condition, interpreter_->Eval(*stmt_.filter));
      if (IsTrue(condition)) return true;
    }
  }

 private:
  Interpreter* interpreter_;
  const ForStmt& stmt_;
  Frame* outer_;
  Cursor cursor_;
};

Interpreter::Interpreter(const TemplateTree& tree, const Value& variables, Runtime* runtime)
    : tree_(tree), variables_(variables), runtime_(runtime) {}

Interpreter::~Interpreter() = default;

Result<std::string> Interpreter::Run() {
  literals_.resize(static_cast<size_t>(tree_.num_string_literals));
  OutputScope output(this);
  FrameScope scope(this, &tree_.scope, nullptr);
  TIDAL_RETURN_IF_ERROR(scope.Restart());
  TIDAL_RETURN_IF_ERROR(RunBlock(tree_.body).status());
  return output.TakeText();
}

Status Interpreter::Locate(SourcePos pos, const Status& status) {
  if (status.ok() || status.message().rfind("line ", 0) == 0) return status;
  return status.Annotate(fmt::format("line {}, column {}", pos.line, pos.column));
}

Status Interpreter::CheckDepth(SourcePos pos) const {
  if (depth_ <= kMaxDepth) return OkStatus();
  return Locate(pos, InvalidArgument("the template's calls nest too deep"));
}

// ---- Scopes and output ----

Status Interpreter::EnterScope(Frame* frame) {
  const std::vector<SlotInit>& inits = frame->scope->slots;
  TIDAL_RETURN_IF_ERROR(runtime_->Tick(1 + static_cast<int64_t>(inits.size() / 8)));
  frame->slots.resize(inits.size());
  for (size_t i = 0; i < inits.size(); ++i) {
    switch (inits[i].from) {
      case SlotInit::From::kNothing:
      case SlotInit::From::kParameter:
        frame->slots[i] = Value();
        break;
      case SlotInit::From::kVariable:
        frame->slots[i] = LookUpVariable(inits[i].name);
        break;
      case SlotInit::From::kOuter: {
        const Frame* outer = frame;
        for (int32_t up = inits[i].outer.depth; up > 0; --up) outer = outer->parent;
        frame->slots[i] = outer->slots[static_cast<size_t>(inits[i].outer.slot)];
      }
    }
  }
  return OkStatus();
}

Value Interpreter::LookUpVariable(const std::string& name) {
  const Value* found = variables_.dict().map.Find(EncodeStringKey(name));
  if (found != nullptr) return *found;
  const BuiltinEntry* global = FindGlobal(name);
  if (global == nullptr) return Value();
  Result<Value> function = runtime_->NewBuiltin(Value(), global);
  return function.ok() ? *function : Value();
}

Value& Interpreter::SlotOf(SlotRef ref) {
  Frame* frame = frame_;
  for (int32_t up = ref.depth; up > 0; --up) frame = frame->parent;
  return frame->slots[static_cast<size_t>(ref.slot)];
}

void Interpreter::CaptureFrames() {
  for (Frame* frame = frame_; frame != nullptr && !frame->captured; frame = frame->parent) {
    frame->captured = true;
  }
}

Status Interpreter::Append(std::string_view text) {
  const auto bytes = static_cast<int64_t>(text.size());
  TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(static_cast<int64_t>(output_->size()) + bytes));
  TIDAL_RETURN_IF_ERROR(runtime_->TickCopy(text.size()));
  TIDAL_RETURN_IF_ERROR(runtime_->Charge(bytes));
  *output_ += text;
  return OkStatus();
}

// ---- Statements ----

Result<Interpreter::Flow> Interpreter::RunBlock(const Block& block) {
  const DepthScope depth(&depth_);
  for (const StmtPtr& stmt : block) {
    TIDAL_RETURN_IF_ERROR(CheckDepth(stmt->pos));
    TIDAL_RETURN_IF_ERROR(Locate(stmt->pos, runtime_->Tick()));
    TIDAL_ASSIGN_OR_RETURN(const Flow flow, RunStmt(*stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::RunStmt(const Stmt& stmt) {
  Status status;
  switch (stmt.kind) {
    case StmtKind::kText:
      status = Locate(stmt.pos, Append(static_cast<const TextStmt&>(stmt).text));
      break;
    case StmtKind::kPrint:
      status = RunPrint(static_cast<const PrintStmt&>(stmt));
      break;
    case StmtKind::kIf:
      return RunIf(static_cast<const IfStmt&>(stmt));
    case StmtKind::kFor:
      return RunFor(static_cast<const ForStmt&>(stmt));
    case StmtKind::kSet: {
      const auto& node = static_cast<const SetStmt&>(stmt);
      TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*node.value));
      status = Assign(node.target, std::move(value));
      break;
    }
    case StmtKind::kSetBlock:
      return RunSetBlock(static_cast<const SetBlockStmt&>(stmt));
    case StmtKind::kMacro:
      status = RunMacro(static_cast<const MacroStmt&>(stmt));
      break;
    case StmtKind::kCall:
      status = RunCall(static_cast<const CallStmt&>(stmt));
      break;
    case StmtKind::kFilter:
      return RunFilter(static_cast<const FilterStmt&>(stmt));
    case StmtKind::kWith:
      return RunWith(static_cast<const WithStmt&>(stmt));
    case StmtKind::kScope: {
      const auto& node = static_cast<const ScopeStmt&>(stmt);
      FrameScope scope(this, &node.scope, frame_);
      TIDAL_RETURN_IF_ERROR(scope.Restart());
      return RunBlock(node.body);
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  TIDAL_RETURN_IF_ERROR(status);
  return Flow::kNext;
}

Status Interpreter::RunPrint(const PrintStmt& stmt) {
  for (const ExprPtr& item : stmt.items) {
    TIDAL_ASSIGN_OR_RETURN(const Value value, Eval(*item));
    if (value.is_string()) {
      TIDAL_RETURN_IF_ERROR(Locate(stmt.pos, Append(value.text())));
      continue;
    }
    TIDAL_ASSIGN_OR_RETURN(const std::string text, Locate(stmt.pos, ToText(runtime_, value)));
    TIDAL_RETURN_IF_ERROR(Locate(stmt.pos, Append(text)));
  }
  return OkStatus();
}

Result<Interpreter::Flow> Interpreter::RunIf(const IfStmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    TIDAL_ASSIGN_OR_RETURN(const Value value, Eval(*condition));
    if (IsTrue(value)) return RunBlock(body);
  }
  return RunBlock(stmt.otherwise);
}

Result<Interpreter::Flow> Interpreter::RunFor(const ForStmt& stmt) {
  TIDAL_ASSIGN_OR_RETURN(const Value iterable, Eval(*stmt.iterable));
  return RunLoop(stmt, iterable, 0, frame_);
}

Result<Interpreter::Flow> Interpreter::RunLoop(const ForStmt& stmt, const Value& iterable,
                                               int64_t depth0, Frame* outer) {
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Locate(stmt.pos, Cursor::Over(iterable)));
  Frame* const caller = std::exchange(frame_, outer);
  FilteredSource source(this, stmt, std::move(cursor));
  auto* loop = new LoopObject;
  loop->height = iterable.height() + 1;
  loop->stmt = &stmt;
  loop->outer = outer;
  loop->depth0 = depth0;
  loop->source = &source;
  Result<Value> value = runtime_->Adopt(Kind::kLoop, loop, 0);
  bool completed_one = false;
  Result<Flow> flow =
      value.ok() ? RunIterations(stmt, *value, &completed_one) : Result<Flow>(value.status());
  if (value.ok()) loop->Detach();
  // As in Jinja, a loop whose every round was cut short by break or continue counts as empty.
  if (flow.ok() && !completed_one && !stmt.otherwise.empty()) {
    FrameScope scope(this, &stmt.otherwise_scope, outer);
    const Status entered = scope.Restart();
    flow = entered.ok() ? RunBlock(stmt.otherwise) : Result<Flow>(entered);
  }
  frame_ = caller;
  return Locate(stmt.pos, std::move(flow));
}

Result<Interpreter::Flow> Interpreter::RunIterations(const ForStmt& stmt, const Value& loop,
                                                     bool* completed_one) {
  FrameScope scope(this, &stmt.body_scope, frame_);
  for (Value item;;) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, AsLoop(loop).Advance(&item));
    if (!more) return Flow::kNext;
    TIDAL_RETURN_IF_ERROR(scope.Restart());
    scope.frame()->slots[static_cast<size_t>(stmt.loop_slot)] = loop;
    TIDAL_RETURN_IF_ERROR(Assign(stmt.target, std::move(item)));
    TIDAL_ASSIGN_OR_RETURN(const Flow flow, RunBlock(stmt.body));
    if (flow == Flow::kBreak) return Flow::kNext;
    if (flow == Flow::kNext) *completed_one = true;
  }
}

Result<Interpreter::Flow> Interpreter::RunSetBlock(const SetBlockStmt& stmt) {
  Value value;
  {
    FrameScope scope(this, &stmt.scope, frame_);
    TIDAL_RETURN_IF_ERROR(scope.Restart());
    OutputScope output(this);
    TIDAL_ASSIGN_OR_RETURN(const Flow flow, RunBlock(stmt.body));
    if (flow != Flow::kNext) return flow;
    TIDAL_ASSIGN_OR_RETURN(value, Locate(stmt.pos, runtime_->NewString(output.TakeText())));
    if (stmt.filter != nullptr) {
      TIDAL_ASSIGN_OR_RETURN(value, EvalPostfix(*stmt.filter, std::move(value)));
    }
  }
  TIDAL_RETURN_IF_ERROR(Assign(stmt.target, std::move(value)));
  return Flow::kNext;
}

Status Interpreter::RunMacro(const MacroStmt& stmt) {
  TIDAL_ASSIGN_OR_RETURN(Value macro, Locate(stmt.pos, MakeMacro(stmt.macro)));
  return Assign(stmt.target, std::move(macro));
}

Status Interpreter::RunCall(const CallStmt& stmt) {
  TIDAL_ASSIGN_OR_RETURN(Value caller, Locate(stmt.pos, MakeMacro(stmt.caller)));
  const std::vector<PostfixExpr::Step>& steps = stmt.call->steps;
  Value callee;
  TIDAL_ASSIGN_OR_RETURN(callee, Eval(*stmt.call->base));
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(callee, EvalStep(steps[i], callee));
  }
  TIDAL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(steps.back().args));
  for (const auto& [name, value] : args.named) {
    if (name == "caller") {
      return Locate(stmt.pos,
                    InvalidArgument("a call block's call has an argument 'caller' already"));
    }
  }
  args.named.emplace_back("caller", std::move(caller));
  TIDAL_ASSIGN_OR_RETURN(const Value result, Call(callee, std::move(args), steps.back().pos));
  TIDAL_ASSIGN_OR_RETURN(const std::string text, Locate(stmt.pos, ToText(runtime_, result)));
  return Locate(stmt.pos, Append(text));
}

Result<Interpreter::Flow> Interpreter::RunFilter(const FilterStmt& stmt) {
  FrameScope scope(this, &stmt.scope, frame_);
  TIDAL_RETURN_IF_ERROR(scope.Restart());
  Value text;
  {
    OutputScope output(this);
    TIDAL_ASSIGN_OR_RETURN(const Flow flow, RunBlock(stmt.body));
    if (flow != Flow::kNext) return flow;
    TIDAL_ASSIGN_OR_RETURN(text, Locate(stmt.pos, runtime_->NewString(output.TakeText())));
  }
  TIDAL_ASSIGN_OR_RETURN(const Value result, EvalPostfix(*stmt.filter, std::move(text)));
  TIDAL_ASSIGN_OR_RETURN(const std::string printed, Locate(stmt.pos, ToText(runtime_, result)));
  TIDAL_RETURN_IF_ERROR(Locate(stmt.pos, Append(printed)));
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::RunWith(const WithStmt& stmt) {
  std::vector<Value> values;
  for (const auto& [target, value] : stmt.assignments) {
    TIDAL_ASSIGN_OR_RETURN(Value evaluated, Eval(*value));
    values.push_back(std::move(evaluated));
  }
  FrameScope scope(this, &stmt.scope, frame_);
  TIDAL_RETURN_IF_ERROR(scope.Restart());
  for (size_t i = 0; i < values.size(); ++i) {
    TIDAL_RETURN_IF_ERROR(Assign(stmt.assignments[i].first, std::move(values[i])));
  }
  return RunBlock(stmt.body);
}

// ---- Assignment ----

Status Interpreter::Assign(const Target& target, Value value) {
  switch (target.kind) {
    case Target::Kind::kName:
      SlotOf(target.ref) = std::move(value);
      return OkStatus();
    case Target::Kind::kAttribute:
      return Locate(target.pos, AssignAttribute(target, std::move(value)));
    case Target::Kind::kTuple:
      break;
  }
  return Unpack(target, value);
}

Status Interpreter::AssignAttribute(const Target& target, Value value) {
  const Value object = SlotOf(target.ref);
  if (!object.is(Kind::kNamespace)) {
    return InvalidArgument("expected a namespace to assign '{}' to, found a value of type {}",
                           target.attribute, TypeName(object));
  }
  if (target.attribute[0] == '_') {
    return InvalidArgument("an attribute of a namespace may not start with '_', found '{}'",
                           target.attribute);
  }
  return runtime_->SetAttribute(&object.name_space(), target.attribute, std::move(value));
}

Status Interpreter::Unpack(const Target& target, const Value& value) {
  TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Locate(target.pos, Drain(runtime_, value)));
  if (items.size() != target.items.size()) {
    return Locate(target.pos, InvalidArgument("expected {} values to unpack, found {}",
                                              target.items.size(), items.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    TIDAL_RETURN_IF_ERROR(Assign(target.items[i], std::move(items[i])));
  }
  return OkStatus();
}

}  // namespace tidal::jinja
