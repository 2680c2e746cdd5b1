// The text of --help, from what the commands declare.
#ifndef TIDAL_CLI_HELP_H_
#define TIDAL_CLI_HELP_H_

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tidal {

// The commands that stand under the root or a group, in the order of the help; none: `app` is a
// command itself.
std::vector<const CLI::App*> SubcommandsOf(const CLI::App& app);
// "tidal eval loss".
std::string FullName(const CLI::App& app);

// `command` is the root itself, a group or a command. Lines are wrapped to `width` columns, except
// those of the footer, which stand as they were written.
std::string RenderHelp(const CLI::App& command, int width);

// The names of an option as they are shown: "-n, --predict".
std::string NamesOf(const CLI::Option& option);

}  // namespace tidal

#endif  // TIDAL_CLI_HELP_H_
