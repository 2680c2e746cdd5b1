// The parts that commands are made of: arguments, output, progress, signals, token lists.
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "cli/bench_run.h"
#include "cli/cli_test_util.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/report.h"
#include "cli/sampling_options.h"
#include "cli/token_list.h"

namespace tidal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Arguments, MultiLetterNamesAreExpandedWhereTheyAreNames) {
  CLI::App app;
  std::string text;
  std::string type;
  bool flag = false;
  AddText(&app, {"-p,--prompt", "TEXT", ""}, &text);
  AddText(&app, {"--cache-type-k", "TYPE", ""}, &type);
  AddFlag(&app, "--json", &flag, "");
  using List = std::vector<std::string>;
  const auto expand = [&](const List& args) { return ExpandShortNames(app, args); };
  EXPECT_EQ(expand({"-ctk", "f16"}), (List{"--cache-type-k", "f16"}));
  EXPECT_EQ(expand({"-p", "-ctk", "-ctk", "-ctk"}), (List{"-p", "-ctk", "--cache-type-k", "-ctk"}));
  EXPECT_EQ(expand({"--json", "-ctk", "x"}), (List{"--json", "--cache-type-k", "x"}));
  EXPECT_EQ(expand({"--", "-ctk"}), (List{"--", "-ctk"}));
  EXPECT_EQ(expand({"-p"}), (List{"-p"}));
}

TEST(Arguments, NumbersAreWholeTexts) {
  EXPECT_EQ(*ParseInt("-n", "-5", {-10, 10}), -5);
  for (const char* wrong :
       {"", " 1", "1 ", "+1", "1e3", "0x1", "11", "-11", "99999999999999999999"})
    EXPECT_FALSE(ParseInt("-n", wrong, {-10, 10}).ok()) << wrong;
  EXPECT_EQ(*ParseFloat("-x", "0.5", {0, 1}), 0.5f);
  EXPECT_EQ(*ParseFloat("-x", "1e-3", {0, 1}), 1e-3f);
  for (const char* wrong : {"", "nan", "inf", "1.1", "-0.1", "0.5x", "1e999"})
    EXPECT_FALSE(ParseFloat("-x", wrong, {0, 1}).ok()) << wrong;
  EXPECT_THAT(*ParseIntList("-d", "0,5,10", {0, 10}), ElementsAre(0, 5, 10));
  for (const char* wrong : {"", ",", "1,", ",1", "1,,2", "1,11"})
    EXPECT_FALSE(ParseIntList("-d", wrong, {0, 10}).ok()) << wrong;
}

TEST(Arguments, NearestName) {
  const std::vector<std::string> names = {"--temp", "--top-k", "--seed", "-n"};
  EXPECT_EQ(NearestName("--tmep", names), "--temp");
  EXPECT_EQ(NearestName("--topk", names), "--top-k");
  EXPECT_EQ(NearestName("--verbose", names), "");
  EXPECT_EQ(NearestName("-x", names), "") << "one letter of two is no likeness";
}

TEST(LogitBias, Grammar) {
  using Pair = std::pair<int32_t, float>;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(*ParseLogitBias("f", "15043+1.5"), (Pair{15043, 1.5f}));
  EXPECT_EQ(*ParseLogitBias("f", "0-2"), (Pair{0, -2.0f}));
  EXPECT_EQ(*ParseLogitBias("f", "7-inf"), (Pair{7, -kInf}));
  EXPECT_EQ(*ParseLogitBias("f", "7+inf"), (Pair{7, kInf}));
  for (const char* wrong :
       {"", "7", "7+", "+1", "7+-1", "7--1", "7+nan", "x+1", "7+1x", "7 +1", "99999999999+1"})
    EXPECT_FALSE(ParseLogitBias("f", wrong).ok()) << wrong;
}

TEST(TokenList, FormsAndErrors) {
  EXPECT_THAT(*ParseTokenList("f", R"({"tokens":[1,2], "other": 3})"), ElementsAre(1, 2));
  EXPECT_THAT(*ParseTokenList("f", " [1, 2]\n"), ElementsAre(1, 2));
  EXPECT_THAT(*ParseTokenList("f", "1 2,3\n4"), ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(ParseTokenList("f", "[]")->empty());
  for (const char* wrong : {"", " \n", "{", "{}", "[1", "[1.5]", "[-1]", "[\"1\"]", "[2147483648]",
                            "[18446744073709551615]", "1 x", "-1", "2147483648", "1.5",
                            R"({"tokens":{}})", R"({"tokens":null})", "[[1]]"}) {
    const auto ids = ParseTokenList("file.json", wrong);
    ASSERT_FALSE(ids.ok()) << wrong;
    EXPECT_THAT(ids.status().message(), ::testing::StartsWith("file.json: "));
  }
  const std::string deep(100000, '[');
  EXPECT_FALSE(ParseTokenList("f", deep).ok());
}

TEST(Output, FileAppearsAtCommitOrNotAtAll) {
  const TestFolder folder;
  const std::string path = folder.File("out.txt");
  {
    Result<Output> output = Output::ToFile(path);
    ASSERT_TRUE(output.ok()) << output.status().message();
    EXPECT_TRUE(output->Write("half").ok());
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(folder.NumEntries(), 0u);
  {
    Result<Output> output = Output::ToFile(path);
    ASSERT_TRUE(output.ok());
    EXPECT_TRUE(output->Write("whole\n").ok());
    EXPECT_TRUE(output->at_line_start());
    EXPECT_TRUE(output->Commit().ok());
  }
  EXPECT_EQ(ReadWhole(path), "whole\n");
  EXPECT_EQ(folder.NumEntries(), 1u);
}

TEST(Output, LinksAreFollowedAndDevicesStay) {
  const TestFolder folder;
  const std::string target = folder.Write("target.txt", "old");
  std::filesystem::create_symlink(target, folder.File("link.txt"));
  Result<Output> output = Output::ToFile(folder.File("link.txt"));
  ASSERT_TRUE(output.ok());
  EXPECT_TRUE(output->Write("new").ok());
  EXPECT_TRUE(output->Commit().ok());
  EXPECT_TRUE(std::filesystem::is_symlink(folder.File("link.txt")));
  EXPECT_EQ(ReadWhole(target), "new");

  Result<Output> device = Output::ToFile("/dev/null");
  ASSERT_TRUE(device.ok());
  EXPECT_TRUE(device->Write("gone").ok());
  EXPECT_TRUE(device->Commit().ok());
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(Output, FullDeviceIsAnErrorOfTheWrite) {
  Result<Output> output = Output::ToFile("/dev/full");
  ASSERT_TRUE(output.ok());
  const Status status = output->Write("text");
  EXPECT_EQ(status.code(), StatusCode::kIo);
  EXPECT_THAT(status.message(), HasSubstr("/dev/full: cannot write: No space left on device"));
  EXPECT_FALSE(output->Commit().ok());
}

TEST(Output, ClosedPipeIsAnErrorOfTheWrite) {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  Output output = Output::ToDescriptor(ends[1], "standard output");
  EXPECT_THAT(output.Write("text").message(),
              HasSubstr("standard output: its reader closed the pipe"));
  close(ends[1]);
}

TEST(Progress, LineFitsItsWidth) {
  EXPECT_EQ(ProgressLine("Loading", 0.5, "a", 80, false),
            "Loading  [###############...............]   50%  a");
  EXPECT_THAT(ProgressLine("Loading", 1, "", 80, true), HasSubstr("█▏  100%"));
  for (int width = 1; width < 120; ++width) {
    for (const double fraction : {-1.0, 0.0, 0.333, 1.0, 7.0}) {
      const std::string line =
          ProgressLine("Reading the prompt", fraction, "1024/7211 tokens  2134 tokens/s  0:03 left",
                       width, false);
      EXPECT_LE(line.size(), static_cast<size_t>(std::max(width - 1, 0)));
    }
  }
}

TEST(Progress, Durations) {
  EXPECT_EQ(FormatDuration(0.4), "0:00");
  EXPECT_EQ(FormatDuration(67), "1:07");
  EXPECT_EQ(FormatDuration(3723), "1:02:03");
  EXPECT_EQ(FormatDuration(-5), "0:00");
}

TEST(Progress, NothingIsDrawnWithoutATerminal) {
  const MemoryFile err;
  const Console console({err.fd(), err.fd(), err.fd()});
  ProgressBar bar(console, "Loading");
  for (int i = 0; i < 100; ++i) bar.UpdateCount(i, 100, "tokens");
  bar.Clear();
  EXPECT_EQ(err.Text(), "");
}

TEST(Interrupt, FirstSignalIsNotedAndTheHandlerIsPutBack) {
  struct sigaction before {};
  sigaction(SIGINT, nullptr, &before);
  {
    const InterruptScope scope;
    EXPECT_EQ(scope.signal(), 0);
    std::raise(SIGINT);
    EXPECT_EQ(scope.signal(), SIGINT);
  }
  {
    const InterruptScope scope;
    EXPECT_EQ(scope.signal(), 0);
    EXPECT_EXIT(
        {
          std::raise(SIGTERM);
          std::raise(SIGINT);
        },
        testing::ExitedWithCode(130), "");
  }
  struct sigaction after {};
  sigaction(SIGINT, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(Report, JsonStaysJson) {
  EXPECT_EQ(DumpLine({{"text", "a\xff\n"}}), "{\"text\":\"a\xef\xbf\xbd\\n\"}\n");
  EXPECT_EQ(ShortNumber(-0.1f).dump(), "-0.1");
  EXPECT_EQ(ShortNumber(1e-10f).dump(), "1e-10");
  EXPECT_EQ(ShortNumber(std::numeric_limits<float>::infinity()).dump(), "null");
  EXPECT_EQ(ShortNumber(std::numeric_limits<float>::quiet_NaN()).dump(), "null");
  EXPECT_EQ(Rounded(1.23456, 3), 1.235);
}

TEST(Bench, MedianAndContext) {
  EXPECT_EQ(MedianOf({}), 0);
  EXPECT_EQ(MedianOf({3}), 3);
  EXPECT_EQ(MedianOf({3, 1, 2}), 2);
  EXPECT_EQ(MedianOf({4, 1, 2, 3}), 2.5);
  BenchSettings settings;
  settings.prompt_tokens = {512};
  settings.decode_tokens = {64};
  settings.depths = {0, 8192};
  EXPECT_EQ(NeededCtxSize(settings), 8704);
  settings.prompt_tokens = {0};
  EXPECT_EQ(NeededCtxSize(settings), 8192 + 66);
}

}  // namespace
}  // namespace tidal
