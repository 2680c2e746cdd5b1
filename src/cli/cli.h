// The program `tidal`: parses the command line and runs one command.
#ifndef TIDAL_CLI_CLI_H_
#define TIDAL_CLI_CLI_H_

#include "cli/console.h"

namespace tidal {

// Exit codes: 0 fine, 1 failed, 2 wrong usage, 128 + N ended by signal N (130 for Ctrl-C). Errors
// are one line on the error stream. Never throws and never exits; ignores SIGPIPE for the process,
// so that a closed pipe is an error of a write. Not for two threads at a time: it handles signals.
int Main(int argc, const char* const* argv, const Streams& streams);

}  // namespace tidal

#endif  // TIDAL_CLI_CLI_H_
