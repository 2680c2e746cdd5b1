#include "cli/console.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>

namespace tidal {
namespace {

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// The first of these that is set decides, as in the C library.
bool LocaleIsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = Environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != std::string_view::npos ||
           value.find("utf8") != std::string_view::npos;
  }
  return false;
}

}  // namespace

Status WriteAll(int fd, std::string_view name, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE)
        return IoError("{}: its reader closed the pipe, so the rest is lost", name);
      return IoError("{}: cannot write: {}", name, std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

Console::Console(const Streams& streams)
    : streams_(streams),
      in_is_terminal_(isatty(streams.in_fd) == 1),
      out_is_terminal_(isatty(streams.out_fd) == 1),
      err_can_redraw_(isatty(streams.err_fd) == 1 && Environment("TERM") != "dumb"),
      utf8_(LocaleIsUtf8()) {}

int Console::Width(int fd) const {
  constexpr int kDefaultWidth = 80;
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultWidth;
  return size.ws_col;
}

void Console::Tell(std::string_view text) const {
  // Nothing better can be done about an error stream that is gone.
  static_cast<void>(WriteAll(streams_.err_fd, "standard error", text));
}

}  // namespace tidal
