#include "cli/cli.h"

#include <csignal>
#include <exception>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/log.h"
#include "cli/output.h"

namespace tidal {
namespace {

constexpr const char* kFooter = R"(Examples:
  tidal generate -m model.gguf -p "Once upon a time" -n 50
  tidal chat -m model.gguf
  tidal bench -m model.gguf -p 512 -n 64 -d 0,8192
  tidal eval loss -m model.gguf -f book.txt --attention tidal,streaming
  tidal inspect model.gguf

Each command has its own help: tidal generate --help

Exit codes: 0 fine, 1 failed, 2 wrong usage, 128 + N ended by signal N (130 for
Ctrl-C). Errors are one line on standard error.)";

int Fail(const Console& console, const std::string& who, const std::string& message, int code) {
  std::string line = who + ": " + message;
  // One line, whatever a file name or a library put into it.
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  console.Tell(line + "\n");
  return code;
}

// The command that was named; the root, or a group of commands, where no more was.
const CLI::App& ChosenApp(const Program& program) {
  const CLI::App* app = program.root.get();
  while (!app->get_subcommands().empty()) app = app->get_subcommands()[0];
  return *app;
}

int WriteOut(const Console& console, const std::string& who, const std::string& text) {
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  const Status status = out.Write(text);
  return status.ok() ? kExitOk : Fail(console, who, status.message(), kExitFailed);
}

// What is wrong with the command line, in our words where the parser's are poor.
std::string DescribeParseError(const CLI::ParseError& error, const CLI::App& app) {
  std::string message = error.what();
  if (dynamic_cast<const CLI::ValidationError*>(&error) != nullptr) {
    // Ours (AddOption), behind the option's name and a colon.
    const size_t colon = message.find(": ");
    return colon == std::string::npos ? message : message.substr(colon + 2);
  }
  const std::vector<std::string> extras = app.remaining();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || extras.empty()) return message;
  const std::string& extra = extras[0];
  if (!extra.starts_with('-')) return fmt::format("\"{}\" is one argument too many", extra);
  const std::string nearest = NearestName(extra, OptionNames(app));
  return fmt::format("{} is not an option of this command{}", extra,
                     nearest.empty() ? "" : fmt::format(" (is it {}?)", nearest));
}

// The name of a command is checked before the parser runs, whose words about it are poor.
// Moves *app down to the command that `args` begin with, or to the group that has no such command.
Status FindCommand(std::span<const std::string> args, const CLI::App** app) {
  const auto commands = SubcommandsOf(**app);
  if (commands.empty()) return OkStatus();
  std::vector<std::string> names;
  for (const CLI::App* command : commands) names.push_back(command->get_name());
  const std::string list = fmt::format("{}", fmt::join(names, ", "));
  if (args.empty()) return InvalidArgument("no command is given, expected one of {}", list);
  if (args[0].starts_with('-')) return OkStatus();
  for (const CLI::App* command : commands) {
    if (command->get_name() != args[0]) continue;
    *app = command;
    return FindCommand(args.subspan(1), app);
  }
  const std::string nearest = NearestName(args[0], names);
  const std::string hint = nearest.empty() ? "" : fmt::format(" (is it {}?)", nearest);
  return InvalidArgument("\"{}\" is not a command{}, expected one of {}", args[0], hint, list);
}

// A plan that does not fit the model is wrong usage, though only the model's file tells.
bool IsWrongPlan(const Status& status) {
  return status.code() == StatusCode::kInvalidArgument &&
         status.message().starts_with("--attention");
}

void PutHelpUnderOther(CLI::App* app) {
  for (CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
    command->get_help_ptr()->group("Other");
    PutHelpUnderOther(command);
  }
}

Command* ChosenCommand(const Program& program) {
  const CLI::App& app = ChosenApp(program);
  for (const auto& command : program.commands)
    if (&command->app() == &app) return command.get();
  return nullptr;
}

// The arguments behind the program's name, in quotes where a shell needs them.
std::string CommandLine(const std::string& program, std::span<const std::string> args) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,.:/%@";
  std::string line = program;
  for (const std::string& arg : args) {
    line += ' ';
    if (!arg.empty() && arg.find_first_not_of(kPlain) == std::string::npos) {
      line += arg;
      continue;
    }
    line += '\'';
    for (const char c : arg) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

int RunProgram(Program* program, std::vector<std::string> args, const Console& console) {
  const std::string& root_name = program->root->get_name();
  const auto wrong_usage = [&](const CLI::App& app, const std::string& message) {
    const std::string name = FullName(app);
    return Fail(console, name, fmt::format("{}; see {} --help", message, name), kExitUsage);
  };
  const CLI::App* named = program->root.get();
  if (const Status status = FindCommand(args, &named); !status.ok())
    return wrong_usage(*named, status.message());
  const std::string command_line = CommandLine(root_name, args);
  args = ExpandShortNames(*named, std::move(args));
  try {
    program->root->parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::CallForHelp&) {
    const int width = console.Width(console.streams().out_fd);
    return WriteOut(console, root_name, RenderHelp(ChosenApp(*program), width));
  } catch (const CLI::ParseError& error) {
    const CLI::App& app = ChosenApp(*program);
    return wrong_usage(app, DescribeParseError(error, app));
  }
  if (program->show_version)
    return WriteOut(console, root_name, fmt::format("tidal {}\n", TIDAL_VERSION));
  Command* command = ChosenCommand(*program);
  if (command == nullptr) return wrong_usage(ChosenApp(*program), "no command is given");
  if (const Status status = command->Check(); !status.ok())
    return wrong_usage(command->app(), status.message());
  command->set_command_line(command_line);
  const Result<int> code = command->Run(console);
  if (code.ok()) return *code;
  if (IsWrongPlan(code.status())) return wrong_usage(command->app(), code.status().message());
  return Fail(console, FullName(command->app()), code.status().message(), kExitFailed);
}

}  // namespace

Program::Program()
    : root(std::make_unique<CLI::App>("decode large language models over long contexts", "tidal")) {
  root->set_help_flag("-h,--help", "Show this help and exit");
  root->add_flag("--version", show_version, "Show the version and exit");
  SetFooter(root.get(), kFooter);
  for (const auto make : {MakeGenerateCommand, MakeChatCommand, MakeScoreCommand, MakeBenchCommand})
    commands.push_back(make(root.get()));
  CLI::App* eval = AddEvalGroup(root.get());
  for (const auto make : {MakeEvalLossCommand, MakeEvalTaskCommand, MakeEvalSpeedCommand})
    commands.push_back(make(eval));
  for (const auto make :
       {MakeCalibrateCommand, MakeInspectCommand, MakeTokenizeCommand, MakeCompletionCommand})
    commands.push_back(make(root.get()));
  PutHelpUnderOther(root.get());
}

Program::~Program() = default;

int Main(int argc, const char* const* argv, const Streams& streams) {
  // A closed pipe then is the error of a write, like a full disk.
  std::signal(SIGPIPE, SIG_IGN);
  const Console console(streams);
  const LogScope log(streams.err_fd);
  // Not ours to raise, but not to be seen by the user as a crash either: memory that a library
  // could not get, for example.
  try {
    Program program;
    return RunProgram(&program, std::vector<std::string>(argv + std::min(argc, 1), argv + argc),
                      console);
  } catch (const std::exception& error) {
    return Fail(console, "tidal", fmt::format("unexpected failure: {}", error.what()), kExitFailed);
  }
}

}  // namespace tidal
