// A whole file, mapped read-only.
#ifndef TIDAL_GGUF_MAPPED_FILE_H_
#define TIDAL_GGUF_MAPPED_FILE_H_

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace tidal {

// Movable; the bytes stay where they are. Threads: reading is free for all. The file must not
// shrink while it is mapped (the operating system then ends the program on access).
class MappedFile {
 public:
  // Errors (without the path; the caller adds it): kNotFound (no such file), kIo (it is not a
  // regular file, or the system refuses; never blocks on a pipe), kCorrupt (it is empty).
  static Result<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace tidal

#endif  // TIDAL_GGUF_MAPPED_FILE_H_
