// The text of --help, from what the commands declare.
#ifndef TIDAL_CLI_HELP_H_
#define TIDAL_CLI_HELP_H_

#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tidal {

// `command` is the root itself or one of its commands. Lines are wrapped to `width` columns, except
// those of the footer, which stand as they were written.
std::string RenderHelp(const CLI::App& root, const CLI::App& command, int width);

// The names of an option as they are shown: "-n, --predict".
std::string NamesOf(const CLI::Option& option);

}  // namespace tidal

#endif  // TIDAL_CLI_HELP_H_
