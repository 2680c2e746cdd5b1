// tidal calibrate on a tiny random model.
#include <algorithm>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;

std::string SomeText(int seed) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the ring " + std::to_string(i * seed % 101) + " ";
  return text;
}

class CalibrateCommand : public testing::Test {
 protected:
  CalibrateCommand() {
    model_ = folder_.File("tiny.gguf");
    std::filesystem::copy_file(TinyModel(), model_);
    a_ = folder_.Write("a.txt", SomeText(37));
    b_ = folder_.Write("b.txt", SomeText(41));
    c_ = folder_.Write("c.txt", SomeText(43));
  }
  std::vector<std::string> Args(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"calibrate", "-m",       model_, "--prefill",
                                     "160",       "--decode", "4"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::vector<std::string> WithTexts(const std::vector<std::string>& more) const {
    std::vector<std::string> args =
        Args({"-f", a_, "-f", b_, "--held-out", c_, "--budget", "72,80"});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  TestFolder folder_;
  std::string model_;
  std::string a_;
  std::string b_;
  std::string c_;
};

TEST_F(CalibrateCommand, WritesASidecarThatOtherCommandsUse) {
  const CliResult result = RunTidal(WithTexts({"--max-kl", "5", "--json"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("wrote " + folder_.File("tiny.tidal.json")));
  const Json json = Json::parse(result.out);
  ASSERT_EQ(json["plans"].size(), 2u);
  EXPECT_EQ(json["texts"], Json({"a.txt", "b.txt"}));
  EXPECT_EQ(json["held_out"], Json({"c.txt"}));
  EXPECT_EQ(json["plans"][0]["select"], Json({0})) << "the target is met by any plan";
  EXPECT_TRUE(json["plans"][0]["held_out_kl"]["low"].is_null()) << "one text has no interval";
  const Json sidecar = Json::parse(ReadWhole(folder_.File("tiny.tidal.json")));
  EXPECT_EQ(sidecar["plans"][0]["select"], Json({0}));
  EXPECT_EQ(sidecar["plans"][0]["budget"], 72);
  EXPECT_EQ(sidecar["plans"][0]["below"], json["plans"][0]["below"]);
  EXPECT_FALSE(std::filesystem::exists(folder_.File("tiny.tidal.json.state")));
  const CliResult loss = RunTidal({"eval", "loss", "-m", model_, "-f", c_, "--prefill", "160",
                                   "--decode", "4", "--attention", "tidal:budget=72", "--json"});
  ASSERT_EQ(loss.code, 0) << loss.err;
  EXPECT_THAT(loss.err, HasSubstr("tiny.tidal.json has calibrated plans"));
  EXPECT_EQ(Json::parse(loss.out)["plans"][0]["attention"]["plan"]["select"], Json({0}));
}

TEST_F(CalibrateCommand, MeasuresOnceWhereItsStateIsKept) {
  const std::string state = folder_.File("state");
  const std::vector<std::string> args =
      WithTexts({"--max-scan", "8%", "--scope", "shared", "--index-bits", "4", "-o",
                 folder_.File("plans.json"), "--state", state});
  const CliResult first = RunTidal(args);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("the least KL with at most 8 % scanned\n"));
  EXPECT_THAT(first.out,
              HasSubstr("\nbudget 72: 1 of 2 layers choose (0), scope shared, 4 bits\n"));
  const std::string measured = ReadWhole(state);
  const CliResult second = RunTidal(args);
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(ReadWhole(state), measured) << "nothing had to be measured again";
  EXPECT_FALSE(std::filesystem::exists(folder_.File("tiny.tidal.json")));
  // Of another model, or run otherwise, the measurements do not hold.
  std::vector<std::string> other = args;
  other.insert(other.end(), {"--precision", "f32"});
  const CliResult refused = RunTidal(other);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("begun with precision \"fast\", this run has \"f32\""));
}

TEST_F(CalibrateCommand, LeavesTheSpeedOfThisMachineOut) {
  const CliResult result = RunTidal(WithTexts({"--max-kl", "5", "--no-speed", "--json"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(Json::parse(result.out)["plans"][0]["below"].is_null());
  EXPECT_TRUE(Json::parse(result.out)["speeds"].empty());
  EXPECT_THAT(ReadWhole(folder_.File("tiny.tidal.json")), Not(HasSubstr("below")));
  const CliResult table = RunTidal(WithTexts({"--max-kl", "5", "--no-speed"}));
  EXPECT_THAT(table.out, AllOf(HasSubstr("budget 80: "), Not(HasSubstr("faster"))));
}

TEST_F(CalibrateCommand, ABrokenSidecarIsReplaced) {
  folder_.Write("tiny.tidal.json", "{}");
  const CliResult result = RunTidal(WithTexts({"--max-kl", "5"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(ReadWhole(folder_.File("tiny.tidal.json")), HasSubstr("\"plans\""));
}

TEST_F(CalibrateCommand, WrongInputIsOneClearLine) {
  const std::string short_text = folder_.Write("short.txt", "the ring");
  const struct {
    std::vector<std::string> args;
    int code;
    const char* message;
  } cases[] = {
      {WithTexts({"--max-kl", "0.1", "--max-scan", "4%"}), 2, "--max-kl and --max-scan are two"},
      {WithTexts({"--max-kl", "0"}), 2, "--max-kl is \"0\", expected a number from"},
      {WithTexts({"--max-scan", "101%"}), 2, "--max-scan is \"101%\", expected a percentage"},
      {WithTexts({"--max-scan", "4%%"}), 2, "--max-scan is \"4%%\", expected a percentage"},
      {WithTexts({"--budget", "81"}), 2, "--budget is 81, expected at most 80, half of --prefill"},
      {WithTexts({"--budget", "60"}), 2, "budget=60 is less than the 68 tokens always kept"},
      {Args({"-f", a_}), 2, "--prefill is 160, but the least default of --budget needs 512"},
      {WithTexts({"--scope", "kv,kv"}), 2, "--scope is \"kv,kv\", expected some of shared, kv"},
      {WithTexts({"--scope", "all"}), 2, "--scope is \"all\", expected some of shared, kv"},
      {WithTexts({"--index-layers", "none"}), 2, "--index-layers is none"},
      {WithTexts({"-c", "100"}), 2, "--ctx-size is 100, but --prefill 160 and twice --decode 4"},
      {WithTexts({"--decode", "1"}), 2, "--decode is \"1\", expected a whole number from 2"},
      {WithTexts({"--held-out", a_}), 1, "a.txt is a text to calibrate on and, as a.txt, a held"},
      {WithTexts({"-f", short_text}), 1, "short.txt has "},
      {WithTexts({"-f", folder_.File("none")}), 1, "no such file"},
      {WithTexts({"--prefill", "600"}), 1, "--prefill 600: --ctx-size is"},
      {WithTexts({"--max-kl", "1e-6"}), 1, "no plan loses at most 1e-06 nats"},
      {WithTexts({"--max-scan", "0.01%"}), 1, "no plan scans at most 0.01 % of the cache"},
      {WithTexts({"-o", folder_.File("none/x")}), 1, "cannot write"},
      {WithTexts({"--state", folder_.File("none/x")}), 1, "cannot write"},
  };
  for (const auto& wrong : cases) {
    const CliResult result = RunTidal(wrong.args);
    EXPECT_EQ(result.code, wrong.code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(wrong.message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.out.empty());
    EXPECT_FALSE(std::filesystem::exists(folder_.File("tiny.tidal.json")));
    std::filesystem::remove(folder_.File("tiny.tidal.json.state"));
  }
}

}  // namespace
}  // namespace tidal
