// Scopes of the interpreter's own state, entered and left with a C++ block.
#ifndef TIDAL_CHAT_JINJA_INTERPRETER_SCOPES_H_
#define TIDAL_CHAT_JINJA_INTERPRETER_SCOPES_H_

#include <memory>
#include <string>
#include <utility>

#include "chat/jinja_interpreter.h"

namespace tidal::jinja {

// Makes a new frame the innermost one. A frame that a macro captured is handed to the interpreter
// at the end.
class Interpreter::FrameScope {
 public:
  FrameScope(Interpreter* interpreter, const Scope* scope, Frame* parent)
      : interpreter_(interpreter), outer_(interpreter->frame_), frame_(std::make_unique<Frame>()) {
    frame_->scope = scope;
    frame_->parent = parent;
    interpreter_->frame_ = frame_.get();
  }
  ~FrameScope() {
    interpreter_->frame_ = outer_;
    KeepIfCaptured();
  }
  FrameScope(const FrameScope&) = delete;
  FrameScope& operator=(const FrameScope&) = delete;

  Frame* frame() { return frame_.get(); }

  // Starts the scope over, as each round of a loop does.
  Status Restart() {
    if (frame_->captured) {
      auto fresh = std::make_unique<Frame>();
      fresh->scope = frame_->scope;
      fresh->parent = frame_->parent;
      KeepIfCaptured();
      frame_ = std::move(fresh);
      interpreter_->frame_ = frame_.get();
    }
    return interpreter_->EnterScope(frame_.get());
  }

 private:
  void KeepIfCaptured() {
    if (frame_->captured) interpreter_->captured_frames_.push_back(std::move(frame_));
  }

  Interpreter* interpreter_;
  Frame* outer_;
  std::unique_ptr<Frame> frame_;
};

// Collects the text that is printed meanwhile.
class Interpreter::OutputScope {
 public:
  explicit OutputScope(Interpreter* interpreter)
      : interpreter_(interpreter), outer_(std::exchange(interpreter->output_, &text_)) {}
  ~OutputScope() {
    interpreter_->output_ = outer_;
    interpreter_->runtime_->GiveBack(static_cast<int64_t>(text_.size()));
  }
  OutputScope(const OutputScope&) = delete;
  OutputScope& operator=(const OutputScope&) = delete;

  std::string TakeText() {
    interpreter_->runtime_->GiveBack(static_cast<int64_t>(text_.size()));
    return std::exchange(text_, {});
  }

 private:
  Interpreter* interpreter_;
  std::string text_;
  std::string* outer_;
};

// Counts a level of recursion.
class DepthScope {
 public:
  explicit DepthScope(int32_t* depth) : depth_(depth) { ++*depth_; }
  ~DepthScope() { --*depth_; }
  DepthScope(const DepthScope&) = delete;
  DepthScope& operator=(const DepthScope&) = delete;

 private:
  int32_t* depth_;
};

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_INTERPRETER_SCOPES_H_
