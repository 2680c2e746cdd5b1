// tidal eval: the group of commands that say what a plan loses and what it gains.
#include "cli/arguments.h"
#include "cli/command.h"

namespace tidal {

CLI::App* AddEvalGroup(CLI::App* root) {
  CLI::App* eval = AddCommand(root, "eval", "measure what attention plans lose and gain");
  SetFooter(eval, "Each command has its own help: tidal eval loss --help");
  return eval;
}

}  // namespace tidal
