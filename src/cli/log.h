// Where the program's log messages go, and from which level up.
#ifndef TIDAL_CLI_LOG_H_
#define TIDAL_CLI_LOG_H_

#include <memory>
#include <spdlog/logger.h>

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

// While it lives, the process's default logger writes to the descriptor, one line per message.
class LogScope {
 public:
  explicit LogScope(int fd);
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

 private:
  std::shared_ptr<spdlog::logger> previous_;
};

// --log-level, which takes effect when it is parsed.
void AddLogOption(CLI::App* app);

}  // namespace tidal

#endif  // TIDAL_CLI_LOG_H_
