#include "cli/line_reader.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <histedit.h>
#include <unistd.h>
#include <utility>

namespace tidal {
namespace {

class PlainReader : public LineReader {
 public:
  explicit PlainReader(int fd) : fd_(fd) {}

  std::optional<std::string> Read(const std::string&) override {
    while (true) {
      const size_t newline = pending_.find('\n', searched_);
      if (newline != std::string::npos) {
        std::string line = pending_.substr(0, newline);
        pending_.erase(0, newline + 1);
        searched_ = 0;
        if (line.ends_with('\r')) line.pop_back();
        return line;
      }
      searched_ = pending_.size();
      char buffer[4096];
      const ssize_t count = read(fd_, buffer, sizeof(buffer));
      if (count < 0 && errno == EINTR) continue;
      if (count > 0) {
        pending_.append(buffer, static_cast<size_t>(count));
        continue;
      }
      searched_ = 0;
      if (pending_.empty()) return std::nullopt;
      return std::exchange(pending_, {});  // a last line without a newline
    }
  }

 private:
  int fd_;
  std::string pending_;
  size_t searched_ = 0;  // no newline before here
};

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

// A stream of its own on a descriptor that stays the caller's.
File OpenCopy(int fd, const char* mode) {
  const int copy = dup(fd);
  if (copy < 0) return nullptr;
  File file(fdopen(copy, mode));
  if (!file) close(copy);
  return file;
}

class EditingReader : public LineReader {
 public:
  EditingReader(File in, File out, File err, std::string history_path);
  ~EditingReader() override;
  bool ok() const { return editor_ != nullptr && history_ != nullptr; }
  std::optional<std::string> Read(const std::string& prompt) override;

 private:
  static char* Prompt(EditLine* editor);
  static unsigned char DropLine(EditLine* editor, int key);

  File in_;
  File out_;
  File err_;
  std::string history_path_;
  std::string prompt_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

EditingReader::EditingReader(File in, File out, File err, std::string history_path)
    : in_(std::move(in)),
      out_(std::move(out)),
      err_(std::move(err)),
      history_path_(std::move(history_path)),
      editor_(el_init("tidal", in_.get(), out_.get(), err_.get())),
      history_(history_init()) {
  if (!ok()) return;
  constexpr int kHistoryLines = 1000;
  HistEvent event;
  history(history_, &event, H_SETSIZE, kHistoryLines);
  history(history_, &event, H_SETUNIQUE, 1);
  if (!history_path_.empty()) history(history_, &event, H_LOAD, history_path_.c_str());
  el_set(editor_, EL_CLIENTDATA, this);
  el_set(editor_, EL_PROMPT, &EditingReader::Prompt);
  el_set(editor_, EL_EDITOR, "emacs");
  el_set(editor_, EL_HIST, history, history_);
  el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  // While a line is edited, Ctrl-C is a key like others and drops the line.
  el_set(editor_, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor_, EL_ADDFN, "tidal-drop-line", "Drop the line", &EditingReader::DropLine);
  el_set(editor_, EL_BIND, "^C", "tidal-drop-line", nullptr);
}

EditingReader::~EditingReader() {
  if (history_ != nullptr && !history_path_.empty()) {
    // Made first, so that nobody else can read what was typed.
    const int fd = open(history_path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
      close(fd);
      HistEvent event;
      history(history_, &event, H_SAVE, history_path_.c_str());
    }
  }
  if (history_ != nullptr) history_end(history_);
  if (editor_ != nullptr) el_end(editor_);
}

char* EditingReader::Prompt(EditLine* editor) {
  EditingReader* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  return self->prompt_.data();
}

unsigned char EditingReader::DropLine(EditLine* editor, int) {
  const LineInfoW* line = el_wline(editor);
  const auto length = static_cast<int>(line->lastchar - line->buffer);
  if (length == 0) {
    EditingReader* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    std::fputs("\n(Ctrl-D or /exit leaves)\n", self->out_.get());
    return CC_REDISPLAY;
  }
  el_cursor(editor, static_cast<int>(line->lastchar - line->cursor));
  el_deletestr(editor, length);
  return CC_REFRESH;
}

std::optional<std::string> EditingReader::Read(const std::string& prompt) {
  prompt_ = prompt;
  int count = 0;
  const char* text = el_gets(editor_, &count);
  if (text == nullptr || count <= 0) {
    std::fputc('\n', out_.get());
    std::fflush(out_.get());
    return std::nullopt;
  }
  std::string line(text);
  if (line.ends_with('\n')) line.pop_back();
  if (line.find_first_not_of(" \t") != std::string::npos) {
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
  }
  return line;
}

}  // namespace

std::string DefaultHistoryPath() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder;
  if (state != nullptr && state[0] == '/')
    folder = state;
  else if (home != nullptr && home[0] == '/')
    folder = std::filesystem::path(home) / ".local" / "state";
  else
    return "";
  return (folder / "tidal" / "history").string();
}

std::unique_ptr<LineReader> MakeLineReader(const Console& console,
                                           const std::string& history_path) {
  const Streams& streams = console.streams();
  if (!console.in_is_terminal() || !console.out_is_terminal())
    return std::make_unique<PlainReader>(streams.in_fd);
  if (!history_path.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(history_path).parent_path(), ignored);
  }
  File in = OpenCopy(streams.in_fd, "r");
  File out = OpenCopy(streams.out_fd, "w");
  File err = OpenCopy(streams.err_fd, "w");
  if (in && out && err) {
    auto editing = std::make_unique<EditingReader>(std::move(in), std::move(out), std::move(err),
                                                   history_path);
    if (editing->ok()) return editing;
  }
  return std::make_unique<PlainReader>(streams.in_fd);
}

}  // namespace tidal
