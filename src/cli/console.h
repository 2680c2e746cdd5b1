// The three standard streams and what is known about the terminal behind them.
#ifndef TIDAL_CLI_CONSOLE_H_
#define TIDAL_CLI_CONSOLE_H_

#include <string_view>

#include "base/status.h"

namespace tidal {

// Descriptors, borrowed.
struct Streams {
  int in_fd = 0;
  int out_fd = 1;
  int err_fd = 2;
};

// Writes all of `text`, going on after interrupted and short writes. kIo names `name` and the
// system's reason.
Status WriteAll(int fd, std::string_view name, std::string_view text);

class Console {
 public:
  explicit Console(const Streams& streams);

  const Streams& streams() const { return streams_; }
  bool in_is_terminal() const { return in_is_terminal_; }
  bool out_is_terminal() const { return out_is_terminal_; }
  // A terminal that can redraw a line (TERM is not "dumb").
  bool err_can_redraw() const { return err_can_redraw_; }
  // The locale's characters are UTF-8, so a bar may use block characters.
  bool utf8() const { return utf8_; }
  // Of the terminal on `fd` now, 80 where it is none.
  int Width(int fd) const;

  // Writes to the error stream. A failure there is nobody's to hear.
  void Tell(std::string_view text) const;

 private:
  Streams streams_;
  bool in_is_terminal_;
  bool out_is_terminal_;
  bool err_can_redraw_;
  bool utf8_;
};

}  // namespace tidal

#endif  // TIDAL_CLI_CONSOLE_H_
