// How long work talks to whoever started it.
#ifndef TIDAL_EVAL_EVAL_HOOKS_H_
#define TIDAL_EVAL_EVAL_HOOKS_H_

#include <functional>
#include <string>

namespace tidal {

// Both may be empty. Called on the thread that runs the work, between steps of the engine.
struct EvalHooks {
  // True: stop at the next step and keep what is finished.
  std::function<bool()> stop;
  // The share in [0, 1] that is done, and what is being done.
  std::function<void(double fraction, const std::string& what)> progress;

  bool Stopped() const { return stop && stop(); }
  void Report(double fraction, const std::string& what) const {
    if (progress) progress(fraction, what);
  }
};

}  // namespace tidal

#endif  // TIDAL_EVAL_EVAL_HOOKS_H_
