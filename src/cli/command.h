// A command of the program: its options and what it does.
#ifndef TIDAL_CLI_COMMAND_H_
#define TIDAL_CLI_COMMAND_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cli/console.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitSignal = 128;  // plus the signal's number

class Command {
 public:
  virtual ~Command() = default;
  // The command's place in the parser.
  const CLI::App& app() const { return *app_; }
  // After parsing, what one option's check cannot see: options that need or exclude each other. Its
  // error is wrong usage.
  virtual Status Check() { return OkStatus(); }
  // The whole command line as a shell would take it, for reports; set before Run.
  const std::string& command_line() const { return command_line_; }
  void set_command_line(std::string line) { command_line_ = std::move(line); }
  // Does the work and returns the exit code; an error is kExitFailed with its message.
  virtual Result<int> Run(const Console& console) = 0;

 protected:
  explicit Command(CLI::App* app) : app_(app) {}

 private:
  CLI::App* app_;  // owned by the root
  std::string command_line_;
};

// One per command: declares it under `root`, or under the group that it is given. In the order of
// the help.
std::unique_ptr<Command> MakeGenerateCommand(CLI::App* root);
std::unique_ptr<Command> MakeChatCommand(CLI::App* root);
std::unique_ptr<Command> MakeScoreCommand(CLI::App* root);
std::unique_ptr<Command> MakeBenchCommand(CLI::App* root);
// The group "eval" with its commands.
CLI::App* AddEvalGroup(CLI::App* root);
std::unique_ptr<Command> MakeEvalLossCommand(CLI::App* eval);
std::unique_ptr<Command> MakeEvalTaskCommand(CLI::App* eval);
std::unique_ptr<Command> MakeEvalSpeedCommand(CLI::App* eval);
std::unique_ptr<Command> MakeCalibrateCommand(CLI::App* root);
std::unique_ptr<Command> MakeInspectCommand(CLI::App* root);
std::unique_ptr<Command> MakeTokenizeCommand(CLI::App* root);
std::unique_ptr<Command> MakeCompletionCommand(CLI::App* root);

// The parser with all commands, as Main and the completion's generator use it.
struct Program {
  Program();
  ~Program();
  std::unique_ptr<CLI::App> root;
  std::vector<std::unique_ptr<Command>> commands;
  bool show_version = false;
};

}  // namespace tidal

#endif  // TIDAL_CLI_COMMAND_H_
