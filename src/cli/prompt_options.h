// Where a prompt comes from, and reading files of the user's.
#ifndef TIDAL_CLI_PROMPT_OPTIONS_H_
#define TIDAL_CLI_PROMPT_OPTIONS_H_

#include <optional>
#include <string>

#include "base/status.h"
#include "cli/console.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

struct PromptOptions {
  std::optional<std::string> text;  // -p
  std::optional<std::string> file;  // -f
};

void AddPromptOptions(CLI::App* app, PromptOptions* options);
// kInvalidArgument where neither is given.
Status CheckPromptOptions(const PromptOptions& options);

// The bytes of the prompt: the file's, or -p's, or the file's, a blank line and -p's. Any bytes are
// fine, but not none. Errors: those of ReadFile, kInvalidArgument (empty).
Result<std::string> ReadPrompt(const Console& console, const PromptOptions& options);

// All bytes of a file; "-" is standard input. Errors: kNotFound (no such file), kIo (a directory,
// no permission, a failed read).
Result<std::string> ReadFile(const Console& console, const std::string& path);

}  // namespace tidal

#endif  // TIDAL_CLI_PROMPT_OPTIONS_H_
