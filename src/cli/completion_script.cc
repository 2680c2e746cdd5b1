#include "cli/completion_script.h"

#include <fmt/format.h>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "cli/help.h"

namespace tidal {
namespace {

// What follows an option: nothing, one of some words, a file, or anything else.
enum class ValueKind : uint8_t { kNone, kChoice, kFile, kOther };

struct CompletedOption {
  std::vector<std::string> names;  // with their dashes
  std::string help;                // of the first line
  ValueKind kind = ValueKind::kNone;
  std::vector<std::string> choices;
};

// A command, or a group of commands, which have none of their own.
struct CompletedCommand {
  std::string name;   // "generate", "loss"
  std::string group;  // "eval" of "loss"; empty: none
  std::string help;
  std::vector<std::string> commands;  // of a group
  std::vector<CompletedOption> options;
  ValueKind positional = ValueKind::kNone;
  std::vector<std::string> positional_choices;

  bool is_group() const { return !commands.empty(); }
  // "generate", "eval loss".
  std::string FullName() const { return group.empty() ? name : group + " " + name; }
};

// The metavar tells the kind: "a|b" are choices, "FILE" is a file.
ValueKind KindOf(const CLI::Option& option, std::vector<std::string>* choices) {
  const std::string metavar = option.get_type_name();
  if (option.get_items_expected_max() == 0) return ValueKind::kNone;
  if (metavar.find("FILE") != std::string::npos) return ValueKind::kFile;
  if (metavar.find('|') == std::string::npos || metavar.find('(') != std::string::npos)
    return ValueKind::kOther;
  *choices = SplitAt(metavar, '|');
  return ValueKind::kChoice;
}

CompletedCommand Describe(const CLI::App& app) {
  CompletedCommand command;
  command.name = app.get_name();
  command.help = app.get_description();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      command.positional = KindOf(*option, &command.positional_choices);
      continue;
    }
    CompletedOption completed;
    for (const std::string& name : option->get_snames()) completed.names.push_back("-" + name);
    for (const ShortName& name : MultiLetterNames())
      if (option->check_lname(std::string(name.long_name.substr(2))))
        completed.names.emplace_back(name.short_name);
    for (const std::string& name : option->get_lnames()) completed.names.push_back("--" + name);
    completed.help = option->get_description();
    completed.kind = KindOf(*option, &completed.choices);
    command.options.push_back(std::move(completed));
  }
  return command;
}

// Every command, each group's after it.
std::vector<CompletedCommand> DescribeAll(const CLI::App& root) {
  std::vector<CompletedCommand> all;
  for (const CLI::App* app : SubcommandsOf(root)) {
    all.push_back(Describe(*app));
    const size_t group = all.size() - 1;
    for (const CLI::App* sub : SubcommandsOf(*app)) {
      all[group].commands.push_back(sub->get_name());
      all.push_back(Describe(*sub));
      all.back().group = app->get_name();
    }
  }
  return all;
}

std::string Join(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

// In single quotes, as every shell here reads them.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The same for zsh's _arguments and _describe, to which brackets and colons mean something.
std::string ZshQuoted(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':') escaped += '\\';
    escaped += c;
  }
  return Quoted(escaped);
}

std::string BashScript(const std::vector<CompletedCommand>& commands) {
  std::vector<std::string> names;
  std::string groups;
  std::string cases;
  for (const CompletedCommand& command : commands) {
    if (command.group.empty()) names.push_back(command.name);
    if (command.is_group()) {
      groups += fmt::format(
          "    {})\n      if [[ $COMP_CWORD -eq 2 ]]; then\n"
          "        COMPREPLY=($(compgen -W '{} --help' -- \"$word\"))\n        return\n      fi\n"
          "      chosen=\"$chosen ${{COMP_WORDS[2]}}\" ;;\n",
          command.name, Join(command.commands, " "));
      continue;
    }
    std::vector<std::string> flags;
    std::string values;
    for (const CompletedOption& option : command.options) {
      flags.insert(flags.end(), option.names.begin(), option.names.end());
      if (option.kind == ValueKind::kNone) continue;
      std::string reply = "return";  // anything: nothing to offer
      if (option.kind == ValueKind::kFile) reply = "COMPREPLY=($(compgen -f -- \"$word\")); return";
      if (option.kind == ValueKind::kChoice)
        reply = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$word\")); return",
                            Join(option.choices, " "));
      values += fmt::format("        {}) {} ;;\n", Join(option.names, "|"), reply);
    }
    std::string rest = "COMPREPLY=()";
    if (command.positional == ValueKind::kFile) rest = "COMPREPLY=($(compgen -f -- \"$word\"))";
    if (command.positional == ValueKind::kChoice)
      rest = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$word\"))",
                         Join(command.positional_choices, " "));
    cases += fmt::format(
        "    '{}')\n      case \"$previous\" in\n{}      esac\n      if [[ $word == -* ]]; then\n"
        "        COMPREPLY=($(compgen -W '{}' -- \"$word\"))\n      else\n        {}\n      fi "
        ";;\n",
        command.FullName(), values, Join(flags, " "), rest);
  }
  return fmt::format(
      "# bash completion for tidal: source <(tidal completion bash)\n"
      "_tidal() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}\n"
      "  COMPREPLY=()\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
      "    COMPREPLY=($(compgen -W '{} --help --version' -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  local chosen=${{COMP_WORDS[1]}}\n"
      "  case \"$chosen\" in\n{}  esac\n"
      "  case \"$chosen\" in\n{}  esac\n"
      "}}\n"
      "complete -o filenames -F _tidal tidal\n",
      Join(names, " "), groups, cases);
}

std::string ZshScript(const std::vector<CompletedCommand>& commands) {
  std::string names;
  std::string groups;
  std::string cases;
  for (const CompletedCommand& command : commands) {
    if (command.group.empty())
      names += fmt::format("    {}':'{}\n", command.name, ZshQuoted(command.help));
    if (command.is_group()) {
      groups += fmt::format(
          "    {})\n      if (( CURRENT == 2 )); then\n        compadd {}\n        return\n"
          "      fi\n      chosen=\"$chosen $words[2]\"\n      shift words\n      (( CURRENT-- ))\n"
          "      ;;\n",
          command.name, Join(command.commands, " "));
      continue;
    }
    cases += fmt::format("    '{}')\n        _arguments", command.FullName());
    for (const CompletedOption& option : command.options) {
      std::string action;
      if (option.kind == ValueKind::kFile) action = "':file:_files'";
      if (option.kind == ValueKind::kOther) action = "':value:'";
      if (option.kind == ValueKind::kChoice)
        action = fmt::format("':value:({})'", Join(option.choices, " "));
      for (const std::string& name : option.names)
        cases += fmt::format(" \\\n          '{}''['{}']'{}", name, ZshQuoted(option.help), action);
    }
    if (command.positional == ValueKind::kFile) cases += " \\\n          '1:file:_files'";
    if (command.positional == ValueKind::kChoice)
      cases += fmt::format(" \\\n          '1:value:({})'", Join(command.positional_choices, " "));
    cases += "\n        ;;\n";
  }
  return fmt::format(
      "#compdef tidal\n"
      "# zsh completion for tidal: source <(tidal completion zsh)\n"
      "_tidal() {{\n"
      "  local -a commands\n"
      "  commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local chosen=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $chosen in\n{}  esac\n"
      "  case $chosen in\n{}  esac\n"
      "}}\n"
      "compdef _tidal tidal\n",
      names, groups, cases);
}

// When fish offers what belongs to a command, and when it offers the command itself.
std::string FishCondition(const CompletedCommand& command) {
  std::string condition = "__fish_seen_subcommand_from " + command.name;
  if (!command.group.empty())
    condition = "__fish_seen_subcommand_from " + command.group + "; and " + condition;
  return condition;
}

std::string FishScript(const std::vector<CompletedCommand>& commands) {
  std::string script =
      "# fish completion for tidal: tidal completion fish | source\n"
      "complete -c tidal -f\n";
  std::string others;  // the commands of the group at hand
  for (const CompletedCommand& command : commands) {
    if (command.is_group()) others = Join(command.commands, " ");
    const std::string offer =
        command.group.empty()
            ? "__fish_use_subcommand"
            : fmt::format(
                  "'__fish_seen_subcommand_from {}; and not __fish_seen_subcommand_from {}'",
                  command.group, others);
    script += fmt::format("complete -c tidal -n {} -a {} -d {}\n", offer, command.name,
                          Quoted(command.help));
    if (command.is_group()) continue;
    const std::string when = fmt::format("complete -c tidal -n '{}'", FishCondition(command));
    for (const CompletedOption& option : command.options) {
      script += when;
      for (const std::string& name : option.names) {
        const bool is_long = name.starts_with("--");
        // -s takes one letter; more of them after one dash are an "old" option.
        const char* kind = is_long ? "-l" : (name.size() == 2 ? "-s" : "-o");
        script += fmt::format(" {} {}", kind, name.substr(is_long ? 2 : 1));
      }
      if (option.kind == ValueKind::kFile) script += " -r -F";
      if (option.kind == ValueKind::kOther) script += " -x";
      if (option.kind == ValueKind::kChoice)
        script += fmt::format(" -x -a '{}'", Join(option.choices, " "));
      script += fmt::format(" -d {}\n", Quoted(option.help));
    }
    if (command.positional == ValueKind::kFile) script += when + " -F\n";
    if (command.positional == ValueKind::kChoice)
      script += when + fmt::format(" -a '{}'\n", Join(command.positional_choices, " "));
  }
  return script;
}

}  // namespace

std::string CompletionScript(const CLI::App& root, Shell shell) {
  const std::vector<CompletedCommand> commands = DescribeAll(root);
  switch (shell) {
    case Shell::kBash:
      return BashScript(commands);
    case Shell::kZsh:
      return ZshScript(commands);
    case Shell::kFish:
      return FishScript(commands);
  }
  return "";
}

}  // namespace tidal
