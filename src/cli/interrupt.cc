#include "cli/interrupt.h"

#include <atomic>
#include <unistd.h>

#include "base/check.h"

namespace tidal {
namespace {

// Global and mutable because a signal handler gets no other argument than the signal's number.
// Lock-free atomics are what a handler may touch.
std::atomic<int> pending_signal{0};
std::atomic<bool> scope_is_open{false};
static_assert(std::atomic<int>::is_always_lock_free);

void HandleSignal(int number) {
  int none = 0;
  if (!pending_signal.compare_exchange_strong(none, number)) _exit(128 + number);
}

}  // namespace

InterruptScope::InterruptScope() {
  TIDAL_CHECK(!scope_is_open.exchange(true), "two scopes handle signals");
  pending_signal.store(0);
  struct sigaction action {};
  action.sa_handler = HandleSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &previous_[i]);
    // nohup and background jobs of a script have a signal ignored, and mean it.
    if (previous_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptScope::~InterruptScope() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_[i], nullptr);
  scope_is_open.store(false);
}

int InterruptScope::signal() const { return pending_signal.load(); }

}  // namespace tidal
