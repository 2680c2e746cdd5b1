#include "cli/help.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/arguments.h"

namespace tidal {
namespace {

constexpr size_t kIndent = 2;
constexpr size_t kTextColumn = 30;
constexpr size_t kMinTextWidth = 30;

// "  LEFT      text, wrapped, each further line under the first".
void AppendEntry(const std::string& left, std::string_view text, size_t width, std::string* out) {
  std::string line(kIndent, ' ');
  line += left;
  const size_t right = std::max(width, kTextColumn + kMinTextWidth);
  if (line.size() + 2 > kTextColumn) {
    *out += line + "\n";
    line.clear();
  }
  line.resize(kTextColumn, ' ');
  bool is_first = true;
  for (const std::string& word : SplitAt(text, ' ')) {
    if (!is_first && line.size() + 1 + word.size() > right) {
      *out += line + "\n";
      line.assign(kTextColumn, ' ');
      is_first = true;
    }
    if (!is_first) line += ' ';
    line += word;
    is_first = false;
  }
  *out += line + "\n";
}

std::string UsageOf(const CLI::App& command) {
  std::string usage = "Usage: " + FullName(command);
  if (!SubcommandsOf(command).empty()) return usage + " COMMAND [options]\n";
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional())
      usage += " " + option->get_type_name();
    else if (option->get_required())
      usage += " " + NamesOf(*option).substr(0, 2) + " " + option->get_type_name();
  }
  return usage + " [options]\n";
}

}  // namespace

std::string NamesOf(const CLI::Option& option) {
  std::string names;
  const auto add = [&names](const std::string& name) {
    if (!names.empty()) names += ", ";
    names += name;
  };
  for (const std::string& name : option.get_snames()) add("-" + name);
  for (const ShortName& name : MultiLetterNames())
    if (option.check_lname(std::string(name.long_name.substr(2))))
      add(std::string(name.short_name));
  for (const std::string& name : option.get_lnames()) add("--" + name);
  return names;
}

std::vector<const CLI::App*> SubcommandsOf(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string FullName(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return (parent == nullptr ? "" : FullName(*parent) + " ") + app.get_name();
}

std::string RenderHelp(const CLI::App& command, int width) {
  const size_t columns = std::clamp(width, 60, 100);
  std::string out;
  out += FullName(command) + " - " + command.get_description() + "\n\n" + UsageOf(command);
  const auto commands = SubcommandsOf(command);
  if (!commands.empty()) out += "\nCommands:\n";
  for (const CLI::App* sub : commands)
    AppendEntry(sub->get_name(), sub->get_description(), columns, &out);
  std::vector<std::string> groups;
  for (const CLI::Option* option : command.get_options())
    if (std::find(groups.begin(), groups.end(), option->get_group()) == groups.end())
      groups.push_back(option->get_group());
  // The parser declares --help first; the reader looks for it last.
  std::rotate(groups.begin(), std::min(groups.begin() + 1, groups.end()), groups.end());
  for (const std::string& group : groups) {
    out += "\n" + group + ":\n";
    for (const CLI::Option* option : command.get_options()) {
      if (option->get_group() != group) continue;
      std::string left = option->get_positional() ? option->get_type_name() : NamesOf(*option);
      if (!option->get_positional() && option->get_items_expected_max() > 0)
        left += " " + option->get_type_name();
      AppendEntry(left, option->get_description(), columns, &out);
    }
  }
  if (!command.get_footer().empty()) out += "\n" + command.get_footer() + "\n";
  return out;
}

}  // namespace tidal
