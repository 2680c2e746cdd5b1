// Shell completion, written from what the commands declare.
#ifndef TIDAL_CLI_COMPLETION_SCRIPT_H_
#define TIDAL_CLI_COMPLETION_SCRIPT_H_

#include <cstdint>
#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

enum class Shell : uint8_t { kBash, kZsh, kFish };

// A script for the shell to source.
std::string CompletionScript(const CLI::App& root, Shell shell);

}  // namespace tidal

#endif  // TIDAL_CLI_COMPLETION_SCRIPT_H_
