// Where a command's result goes: standard output, or a file that appears whole or not at all.
#ifndef TIDAL_CLI_OUTPUT_H_
#define TIDAL_CLI_OUTPUT_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "cli/console.h"

namespace tidal {

// Not thread-safe. Move-only.
class Output {
 public:
  // Writes go straight to a borrowed descriptor.
  static Output ToDescriptor(int fd, std::string name);
  // Writes go to a new file beside `path`, which Commit puts in its place; without Commit nothing
  // is left. The mode of a file that it replaces is kept, a symbolic link is followed, and what is
  // not a regular file (a device, a named pipe) is written in place. kIo where it cannot be made.
  static Result<Output> ToFile(const std::string& path);

  Output(Output&& other) noexcept;
  Output& operator=(Output&&) = delete;
  ~Output();

  // kIo; a later Commit then leaves nothing.
  Status Write(std::string_view text);
  // All was written: makes a file durable and visible. kIo.
  Status Commit();

  // Whether the last byte was a newline, or nothing was written.
  bool at_line_start() const { return at_line_start_; }

 private:
  Output(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  int fd_;
  std::string name_;  // for messages
  bool owns_fd_ = false;
  std::string temp_path_;  // to be renamed to final_path_; empty: nothing to rename
  std::string final_path_;
  Status status_;  // the first failure
  bool at_line_start_ = true;
};

// The file, or standard output where `path` is empty.
Result<Output> OpenOutput(const Console& console, const std::string& path);

// Checks before hours of work that a file could be made at `path`; makes nothing.
Status CheckOutputPath(const std::string& path);

}  // namespace tidal

#endif  // TIDAL_CLI_OUTPUT_H_
