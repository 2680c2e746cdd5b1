#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace tidal {
namespace {

Status CannotWrite(const std::string& path, int error) {
  return IoError("{}: cannot write: {}", path, std::strerror(error));
}

// The mode that a new file would get.
mode_t DefaultMode() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

// Where a file would really lie: `path` with its symbolic links followed.
Result<std::string> ResolvePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::weakly_canonical(path, error);
  if (error) return IoError("{}: cannot resolve the path: {}", path, error.message());
  return resolved.string();
}

std::string DirectoryOf(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

Status CheckOutputPath(const std::string& path) {
  TIDAL_ASSIGN_OR_RETURN(const std::string target, ResolvePath(path));
  struct stat info {};
  if (stat(target.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return CannotWrite(path, EISDIR);
    if (access(target.c_str(), W_OK) != 0) return CannotWrite(path, errno);
    if (!S_ISREG(info.st_mode)) return OkStatus();
  }
  if (access(DirectoryOf(target).c_str(), W_OK | X_OK) != 0) return CannotWrite(path, errno);
  return OkStatus();
}

Result<Output> OpenOutput(const Console& console, const std::string& path) {
  if (path.empty()) return Output::ToDescriptor(console.streams().out_fd, "standard output");
  return Output::ToFile(path);
}

Output Output::ToDescriptor(int fd, std::string name) { return Output(fd, std::move(name)); }

Result<Output> Output::ToFile(const std::string& path) {
  TIDAL_RETURN_IF_ERROR(CheckOutputPath(path));
  TIDAL_ASSIGN_OR_RETURN(const std::string target, ResolvePath(path));
  struct stat info {};
  const bool exists = stat(target.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode)) {
    const int fd = open(target.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return CannotWrite(path, errno);
    Output output(fd, path);
    output.owns_fd_ = true;
    return output;
  }
  const std::filesystem::path name = std::filesystem::path(target).filename();
  std::string temp = DirectoryOf(target) + "/." + name.string() + ".XXXXXX";
  const int fd = mkostemp(temp.data(), O_CLOEXEC);
  if (fd < 0) return CannotWrite(path, errno);
  Output output(fd, path);
  output.owns_fd_ = true;
  output.temp_path_ = std::move(temp);
  output.final_path_ = target;
  if (fchmod(fd, exists ? info.st_mode & 07777 : DefaultMode()) != 0)
    return CannotWrite(path, errno);
  return output;
}

Output::Output(Output&& other) noexcept
    : fd_(other.fd_),
      name_(std::move(other.name_)),
      owns_fd_(std::exchange(other.owns_fd_, false)),
      temp_path_(std::exchange(other.temp_path_, {})),
      final_path_(std::move(other.final_path_)),
      status_(std::move(other.status_)),
      at_line_start_(other.at_line_start_) {}

Output::~Output() {
  if (owns_fd_) close(fd_);
  if (!temp_path_.empty()) unlink(temp_path_.c_str());
}

Status Output::Write(std::string_view text) {
  if (text.empty() || !status_.ok()) return status_;
  at_line_start_ = text.back() == '\n';
  status_ = WriteAll(fd_, name_, text);
  return status_;
}

Status Output::Commit() {
  TIDAL_RETURN_IF_ERROR(status_);
  if (temp_path_.empty()) return OkStatus();
  // Without the sync a crash of the machine could leave an empty file under the final name.
  if (fsync(fd_) != 0) return status_ = CannotWrite(name_, errno);
  owns_fd_ = false;
  if (close(fd_) != 0) return status_ = CannotWrite(name_, errno);
  if (std::rename(temp_path_.c_str(), final_path_.c_str()) != 0)
    return status_ = CannotWrite(name_, errno);
  temp_path_.clear();
  return OkStatus();
}

}  // namespace tidal
