#include "cli/prompt_options.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

#include "cli/arguments.h"

namespace tidal {
namespace {

Result<std::string> ReadDescriptor(int fd, const std::string& name) {
  std::string bytes;
  std::vector<char> buffer(size_t{1} << 16);
  while (true) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count == 0) return bytes;
    if (count > 0) {
      bytes.append(buffer.data(), static_cast<size_t>(count));
    } else if (errno == EISDIR) {
      return IoError("{}: is a directory, expected a file", name);
    } else if (errno != EINTR) {
      return IoError("{}: cannot read: {}", name, std::strerror(errno));
    }
  }
}

}  // namespace

void AddPromptOptions(CLI::App* app, PromptOptions* options) {
  SetHeading(app, "Input");
  AddText(app,
          {"-p,--prompt", "TEXT", "The prompt; with -f too it follows the file after a blank line"},
          &options->text);
  AddText(app, {"-f,--file", "FILE", "A file with the prompt, taken as it is; - is standard input"},
          &options->file);
}

Status CheckPromptOptions(const PromptOptions& options) {
  if (options.text || options.file) return OkStatus();
  return InvalidArgument("no prompt is given, expected -p TEXT or -f FILE (- is standard input)");
}

Result<std::string> ReadPrompt(const Console& console, const PromptOptions& options) {
  std::string prompt;
  if (options.file) {
    TIDAL_ASSIGN_OR_RETURN(prompt, ReadFile(console, *options.file));
    if (options.text) prompt += prompt.ends_with('\n') ? "\n" : "\n\n";
  }
  if (options.text) prompt += *options.text;
  if (!prompt.empty()) return prompt;
  return InvalidArgument("the prompt is empty ({}), expected at least one byte of text",
                         options.file ? *options.file : "-p");
}

Result<std::string> ReadFile(const Console& console, const std::string& path) {
  if (path == "-") return ReadDescriptor(console.streams().in_fd, "standard input");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return NotFound("{}: no such file", path);
    return IoError("{}: cannot open: {}", path, std::strerror(errno));
  }
  Result<std::string> bytes = ReadDescriptor(fd, path);
  close(fd);
  return bytes;
}

}  // namespace tidal
