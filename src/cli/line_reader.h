// Lines from the user: edited and remembered on a terminal, plain from a pipe or a file.
#ifndef TIDAL_CLI_LINE_READER_H_
#define TIDAL_CLI_LINE_READER_H_

#include <memory>
#include <optional>
#include <string>

#include "cli/console.h"

namespace tidal {

class LineReader {
 public:
  virtual ~LineReader() = default;
  // The next line without its newline; nothing at the end of the input. `prompt` is shown where
  // there is somebody to see it.
  virtual std::optional<std::string> Read(const std::string& prompt) = 0;
};

// Edits lines where input and output are a terminal. Lines are kept in `history_path` from one run
// to the next; empty: they are not. A history that cannot be read or written costs nothing but
// itself.
std::unique_ptr<LineReader> MakeLineReader(const Console& console, const std::string& history_path);

// $XDG_STATE_HOME/tidal/history, or below ~/.local/state; empty where there is no home.
std::string DefaultHistoryPath();

}  // namespace tidal

#endif  // TIDAL_CLI_LINE_READER_H_
