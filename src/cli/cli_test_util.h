// For tests of the command line: a run of the program in this process, and a tiny model.
#ifndef TIDAL_CLI_CLI_TEST_UTIL_H_
#define TIDAL_CLI_CLI_TEST_UTIL_H_

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "cli/cli.h"
#include "model/test_model.h"

namespace tidal {

// A descriptor with the bytes of `text` to read, or empty to write to.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& text = "") : fd_(memfd_create("tidal_test", MFD_CLOEXEC)) {
    EXPECT_GE(fd_, 0);
    EXPECT_EQ(write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(lseek(fd_, 0, SEEK_SET), 0);
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int fd() const { return fd_; }
  std::string Text() const {
    std::string text(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(fd_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    return text;
  }

 private:
  int fd_;
};

struct CliResult {
  int code = -1;
  std::string out;
  std::string err;
};

// `tidal ARGS...` with `input` as standard input.
inline CliResult RunTidal(const std::vector<std::string>& args, const std::string& input = "") {
  std::vector<const char*> argv = {"tidal"};
  for (const std::string& arg : args) argv.push_back(arg.c_str());
  const MemoryFile in(input);
  const MemoryFile out;
  const MemoryFile err;
  CliResult result;
  result.code = Main(static_cast<int>(argv.size()), argv.data(), {in.fd(), out.fd(), err.fd()});
  result.out = out.Text();
  result.err = err.Text();
  return result;
}

// A folder of this process's own that is removed at its end.
class TestFolder {
 public:
  TestFolder() : path_(std::filesystem::path(testing::TempDir()) / "tidal_cli_XXXXXX") {
    std::string name = path_.string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string File(const std::string& name) const { return (path_ / name).string(); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(File(name), std::ios::binary) << text;
    return File(name);
  }
  size_t NumEntries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The path of a random model of two layers with a context of 512, made once per process. Its
// vocabulary is the 256 bytes and a few merges, so what it writes is rarely valid UTF-8.
inline const std::string& TinyModel() {
  static const TestFolder folder;
  static const std::string path = [] {
    std::string file = folder.File("tiny.gguf");
    const Status status = WriteRandomModel(file, TestModelSpec());
    EXPECT_TRUE(status.ok()) << status.message();
    return file;
  }();
  return path;
}

// Whether `text` is valid UTF-8 throughout.
inline bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length == 0 || lead > 0xF4 || i + length > text.size()) return false;
    for (size_t j = 1; j < length; ++j)
      if ((static_cast<unsigned char>(text[i + j]) & 0xC0) != 0x80) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    // Overlong forms, surrogates and code points above U+10FFFF.
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
      return false;
    i += length;
  }
  return true;
}

}  // namespace tidal

#endif  // TIDAL_CLI_CLI_TEST_UTIL_H_
