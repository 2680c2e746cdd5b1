// What only a process of its own shows: signals, closed pipes, full devices.
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <thread>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;

// A run of the program with its standard streams in our hands.
class Process {
 public:
  // `out_fd` below 0: a pipe that ReadSome reads from.
  explicit Process(const std::vector<std::string>& args, int out_fd = -1) {
    int ends[2] = {-1, -1};
    if (out_fd < 0) {
      EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
      out_fd = ends[1];
    }
    pid_ = fork();
    if (pid_ == 0) {
      dup2(open("/dev/null", O_RDONLY), 0);
      dup2(out_fd, 1);
      dup2(err_.fd(), 2);
      std::vector<char*> argv = {const_cast<char*>(TIDAL_BINARY)};
      for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
      argv.push_back(nullptr);
      execv(TIDAL_BINARY, argv.data());
      _exit(127);
    }
    EXPECT_GT(pid_, 0);
    if (ends[1] >= 0) close(ends[1]);
    read_fd_ = ends[0];
  }
  ~Process() {
    CloseOutput();
    if (!waited_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int number) const { kill(pid_, number); }
  // Blocks until there is some output; "" at its end.
  std::string ReadSome() const {
    char buffer[4096];
    const ssize_t count = read(read_fd_, buffer, sizeof(buffer));
    return count <= 0 ? "" : std::string(buffer, static_cast<size_t>(count));
  }
  std::string ReadRest() const {
    std::string all;
    for (std::string some; !(some = ReadSome()).empty();) all += some;
    return all;
  }
  void CloseOutput() {
    if (read_fd_ >= 0) close(read_fd_);
    read_fd_ = -1;
  }
  // The exit code; 1000 + N where signal N killed it.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    waited_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  std::string err() const { return err_.Text(); }

 private:
  MemoryFile err_;
  pid_t pid_ = -1;
  int read_fd_ = -1;
  bool waited_ = false;
};

// A model whose context is so long that no test sees its end.
const std::string& EndlessModel() {
  static const TestFolder folder;
  static const std::string path = [] {
    TestModelSpec spec;
    spec.trained_seq_len = 1 << 20;
    std::string file = folder.File("endless.gguf");
    const Status status = WriteRandomModel(file, spec);
    EXPECT_TRUE(status.ok()) << status.message();
    return file;
  }();
  return path;
}

std::vector<std::string> Endless(std::vector<std::string> more = {}) {
  more.insert(more.begin(),
              {"generate", "-m", EndlessModel(), "-p", "the ring", "--ignore-eos", "-c", "500000"});
  return more;
}

TEST(Process, CtrlCKeepsWhatWasWritten) {
  Process process(Endless());
  const std::string first = process.ReadSome();
  EXPECT_FALSE(first.empty());
  process.Signal(SIGINT);
  const std::string rest = process.ReadRest();
  EXPECT_EQ(process.Wait(), 130);
  EXPECT_TRUE(IsUtf8(first + rest));
  EXPECT_EQ(process.err(), "");
}

TEST(Process, CtrlCMakesJsonWhole) {
  const TestFolder folder;
  const std::string path = folder.File("out.json");
  // With --stats nothing tells when generation has begun, so a little time has to.
  Process process(Endless({"--json", "-o", path}));
  for (int i = 0; i < 1000 && folder.NumEntries() == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(folder.NumEntries(), 1u) << "the file under another name";
  EXPECT_FALSE(std::filesystem::exists(path));
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 130);
  const auto json = nlohmann::json::parse(ReadWhole(path), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["finish_reason"], "cancelled");
  EXPECT_EQ(folder.NumEntries(), 1u);
}

TEST(Process, AnEvaluationThatIsStoppedSaysHowMuchOfItCounts) {
  const TestFolder folder;
  std::string text;
  for (int i = 0; i < 40'000; ++i) text += "the ring ";
  const std::string report = folder.File("report");  // there as soon as the work begins
  Process process({"eval", "loss", "-m", EndlessModel(), "-f", folder.Write("text.txt", text),
                   "--prefill", "100", "--decode", "30000", "--windows", "2", "--report", report});
  for (int i = 0; i < 6000 && !std::filesystem::exists(report); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  process.Signal(SIGINT);
  EXPECT_EQ(process.ReadRest(), "");
  EXPECT_EQ(process.Wait(), 130);
  EXPECT_EQ(process.err(),
            "tidal: info: stopped; 0 of 2 windows were finished: there is nothing to report\n");
}

TEST(Process, TerminationIsAnInterruptToo) {
  Process process(Endless());
  process.ReadSome();
  process.Signal(SIGTERM);
  process.ReadRest();
  EXPECT_EQ(process.Wait(), 128 + SIGTERM);
}

TEST(Process, ClosedPipeEndsItWithOneLine) {
  Process process(Endless());
  process.ReadSome();
  process.CloseOutput();
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_EQ(process.err(),
            "tidal generate: standard output: its reader closed the pipe, so the rest is lost\n");
}

TEST(Process, FullDeviceIsAnError) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  for (const std::vector<std::string>& args :
       {Endless(), std::vector<std::string>{"tokenize", "-m", EndlessModel(), "-p", "a"},
        std::vector<std::string>{"inspect", EndlessModel()}, std::vector<std::string>{"--help"}}) {
    Process process(args, full);
    EXPECT_EQ(process.Wait(), 1);
    EXPECT_THAT(process.err(),
                HasSubstr("standard output: cannot write: No space left on device\n"));
  }
  close(full);
}

TEST(Process, OutputOnAFullDeviceIsAnError) {
  Process process(Endless({"-o", "/dev/full"}));
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_THAT(process.err(), HasSubstr("/dev/full: cannot write: No space left on device\n"));
}

TEST(Process, OutputLargerThanAllowedLeavesNothing) {
  const TestFolder folder;
  const std::string path = folder.File("out.txt");
  // A limit on the size of files stands for a full disk.
  const std::string command = std::string("trap '' XFSZ; ulimit -f 1; exec ") + TIDAL_BINARY +
                              " generate -m " + EndlessModel() + " -p x --ignore-eos -n 5000 -o " +
                              path + " 2> " + folder.File("err");
  const int status = std::system(("bash -c '" +
                                  [&] {
                                    std::string quoted;
                                    for (const char c : command)
                                      quoted += c == '\'' ? "'\\''" : std::string(1, c);
                                    return quoted;
                                  }() +
                                  "'")
                                     .c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(ReadWhole(folder.File("err")), HasSubstr("out.txt: cannot write: File too large"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(folder.NumEntries(), 1u) << "only the file of the errors";
}

}  // namespace
}  // namespace tidal
