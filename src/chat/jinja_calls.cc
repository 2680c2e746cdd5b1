// The calls of the interpreter: macros, call blocks, recursive loops and functions.
#include <algorithm>

#include "chat/jinja_attributes.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_interpreter_scopes.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {

Result<Value> Interpreter::MakeMacro(const Callable& callable) {
  // The frames that the macro sees stay until the end; that is counted.
  for (const Frame* frame = frame_; frame != nullptr && !frame->captured; frame = frame->parent) {
    TIDAL_RETURN_IF_ERROR(runtime_->Charge(
        static_cast<int64_t>(sizeof(Frame) + frame->slots.size() * sizeof(Value))));
  }
  CaptureFrames();
  auto* macro = new MacroObject;
  macro->callable = &callable;
  macro->closure = frame_;
  return runtime_->Adopt(Kind::kMacro, macro, 0);
}

Result<CallArgs> Interpreter::EvalArgs(const CallArgsExpr& args) {
  CallArgs out;
  out.positional.reserve(args.positional.size());
  for (const ExprPtr& arg : args.positional) {
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*arg));
    out.positional.push_back(std::move(value));
  }
  for (const auto& [name, arg] : args.named) {
    TIDAL_ASSIGN_OR_RETURN(Value value, Eval(*arg));
    out.named.emplace_back(name, std::move(value));
  }
  if (args.star != nullptr || args.double_star != nullptr) {
    TIDAL_RETURN_IF_ERROR(EvalStarArgs(args, &out));
  }
  return out;
}

Status Interpreter::EvalStarArgs(const CallArgsExpr& args, CallArgs* out) {
  if (args.star != nullptr) {
    TIDAL_ASSIGN_OR_RETURN(const Value list, Eval(*args.star));
    TIDAL_ASSIGN_OR_RETURN(std::vector<Value> items, Locate(args.star->pos, Drain(runtime_, list)));
    std::move(items.begin(), items.end(), std::back_inserter(out->positional));
  }
  if (args.double_star == nullptr) return OkStatus();
  const SourcePos pos = args.double_star->pos;
  TIDAL_ASSIGN_OR_RETURN(const Value dict, Eval(*args.double_star));
  if (!dict.is(Kind::kDict)) return Locate(pos, TypeError("a dict after **", dict));
  constexpr size_t kMaxNamed = 1000;  // as many as may be written out
  if (dict.dict().map.size() > kMaxNamed) {
    return Locate(pos, InvalidArgument("expected at most {} named arguments", kMaxNamed));
  }
  for (const OrderedMap::Entry& entry : dict.dict().map.entries()) {
    if (!entry.key.is_string()) return Locate(pos, TypeError("names as the keys of **", entry.key));
    const std::string_view name = entry.key.text();
    const bool repeated = std::any_of(out->named.begin(), out->named.end(),
                                      [name](const auto& arg) { return arg.first == name; });
    if (repeated) return Locate(pos, InvalidArgument("argument '{}' is given twice", name));
    TIDAL_RETURN_IF_ERROR(Locate(pos, runtime_->Tick()));
    out->named.emplace_back(name, entry.value);
  }
  return OkStatus();
}

Result<Value> Interpreter::Call(const Value& callee, CallArgs args, SourcePos pos) {
  switch (callee.kind()) {
    case Kind::kBuiltin: {
      const BuiltinObject& builtin = callee.builtin();
      return Locate(pos, builtin.entry->function(*runtime_, builtin.self, args));
    }
    case Kind::kMacro:
      return CallMacro(AsMacro(callee), std::move(args), pos);
    case Kind::kLoop:
      return CallLoop(AsLoop(callee), args, pos);
    default:
      return Locate(pos, TypeError("something to call", callee));
  }
}

Result<Value> Interpreter::CallMacro(const MacroObject& macro, CallArgs args, SourcePos pos) {
  const DepthScope call_depth(&call_depth_);
  if (call_depth_ > runtime_->limits().max_depth) {
    return Locate(pos,
                  InvalidArgument("the template's calls nest more than {} levels deep (max_depth)",
                                  runtime_->limits().max_depth));
  }
  const Callable& callable = *macro.callable;
  FrameScope scope(this, &callable.scope, macro.closure);
  TIDAL_RETURN_IF_ERROR(Locate(pos, scope.Restart()));
  TIDAL_RETURN_IF_ERROR(Locate(pos, BindMacroArgs(callable, std::move(args), scope.frame())));
  OutputScope output(this);
  for (const Callable::Parameter& parameter : callable.parameters) {
    Value& slot = scope.frame()->slots[static_cast<size_t>(parameter.slot)];
    if (!slot.is_missing()) continue;
    if (parameter.fallback != nullptr) {
      TIDAL_ASSIGN_OR_RETURN(slot, Eval(*parameter.fallback));
    } else {
      TIDAL_ASSIGN_OR_RETURN(slot, runtime_->NewUndefined(fmt::format(
                                       "parameter '{}' was not provided", parameter.name)));
    }
  }
  TIDAL_RETURN_IF_ERROR(RunBlock(callable.body).status());
  return Locate(pos, runtime_->NewString(output.TakeText()));
}

Status Interpreter::BindMacroArgs(const Callable& callable, CallArgs args, Frame* frame) {
  const auto slot = [frame](int32_t index) -> Value& {
    return frame->slots[static_cast<size_t>(index)];
  };
  const auto take_named = [&args](std::string_view name) {
    const auto it = std::find_if(args.named.begin(), args.named.end(),
                                 [name](const auto& arg) { return arg.first == name; });
    if (it == args.named.end()) return Value();
    Value value = std::move(it->second);
    args.named.erase(it);
    return value;
  };
  const size_t num_parameters = callable.parameters.size();
  for (size_t i = 0; i < num_parameters; ++i) {
    const Callable::Parameter& parameter = callable.parameters[i];
    slot(parameter.slot) =
        i < args.positional.size() ? std::move(args.positional[i]) : take_named(parameter.name);
  }
  if (callable.caller_slot >= 0) {
    Value caller = take_named("caller");
    if (caller.is_missing() || caller.is_none()) {
      TIDAL_ASSIGN_OR_RETURN(caller, runtime_->NewUndefined("No caller defined"));
    }
    slot(callable.caller_slot) = std::move(caller);
  }
  if (callable.kwargs_slot >= 0) {
    MapBuilder rest(runtime_);
    for (auto& [name, value] : args.named) {
      TIDAL_RETURN_IF_ERROR(rest.SetNamed(name, std::move(value)));
    }
    TIDAL_ASSIGN_OR_RETURN(slot(callable.kwargs_slot), runtime_->NewDict(rest.Take()));
  } else if (!args.named.empty()) {
    return InvalidArgument("macro '{}' has no parameter '{}'", callable.name,
                           args.named.front().first);
  }
  if (callable.varargs_slot >= 0) {
    std::vector<Value> rest;
    for (size_t i = num_parameters; i < args.positional.size(); ++i) {
      rest.push_back(std::move(args.positional[i]));
    }
    TIDAL_ASSIGN_OR_RETURN(slot(callable.varargs_slot), runtime_->NewTuple(std::move(rest)));
  } else if (args.positional.size() > num_parameters) {
    return InvalidArgument("macro '{}' takes at most {} arguments, found {}", callable.name,
                           num_parameters, args.positional.size());
  }
  return OkStatus();
}

// loop(items) inside a loop that is marked recursive: the loop's text for other items.
Result<Value> Interpreter::CallLoop(const LoopObject& loop, const CallArgs& args, SourcePos pos) {
  if (args.positional.size() != 1 || !args.named.empty()) {
    return Locate(pos, InvalidArgument("expected one argument for the call of a loop, found {}",
                                       args.positional.size() + args.named.size()));
  }
  if (loop.outer == nullptr || !loop.stmt->recursive) {
    return Locate(pos, InvalidArgument("expected a running loop marked 'recursive' to call"));
  }
  const DepthScope call_depth(&call_depth_);
  if (call_depth_ > runtime_->limits().max_depth) {
    return Locate(pos,
                  InvalidArgument("the template's calls nest more than {} levels deep (max_depth)",
                                  runtime_->limits().max_depth));
  }
  OutputScope output(this);
  TIDAL_RETURN_IF_ERROR(
      RunLoop(*loop.stmt, args.positional[0], loop.depth0 + 1, loop.outer).status());
  return Locate(pos, runtime_->NewString(output.TakeText()));
}

Result<std::optional<Value>> GetMacroAttribute(Runtime* runtime, const Value& macro,
                                               std::string_view name) {
  const Callable& callable = *AsMacro(macro).callable;
  using Found = std::optional<Value>;
  if (name == "name") {
    if (callable.name.empty()) return Found(Value::None());
    TIDAL_ASSIGN_OR_RETURN(Value text, runtime->NewString(callable.name));
    return Found(std::move(text));
  }
  if (name == "arguments") {
    std::vector<Value> names;
    for (const Callable::Parameter& parameter : callable.parameters) {
      TIDAL_ASSIGN_OR_RETURN(Value text, runtime->NewString(parameter.name));
      names.push_back(std::move(text));
    }
    TIDAL_ASSIGN_OR_RETURN(Value tuple, runtime->NewTuple(std::move(names)));
    return Found(std::move(tuple));
  }
  if (name == "caller") return Found(Value::Bool(callable.reads_caller));
  if (name == "catch_kwargs") return Found(Value::Bool(callable.kwargs_slot >= 0));
  if (name == "catch_varargs") return Found(Value::Bool(callable.varargs_slot >= 0));
  return Found();
}

}  // namespace tidal::jinja
