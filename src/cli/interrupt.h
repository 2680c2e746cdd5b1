// Ctrl-C as a wish to stop that the running work looks at.
#ifndef TIDAL_CLI_INTERRUPT_H_
#define TIDAL_CLI_INTERRUPT_H_

#include <array>
#include <csignal>

namespace tidal {

// While one is alive, the first SIGINT, SIGTERM or SIGHUP is only noted, and a second one of any of
// them ends the process at once with 128 + its number. At most one at a time in a process.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // The number of the signal that came, 0 while none has.
  int signal() const;

 private:
  static constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kSignals.size()> previous_;
};

}  // namespace tidal

#endif  // TIDAL_CLI_INTERRUPT_H_
