// tidal eval loss on a tiny random model.
#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "the ring " + std::to_string(i * 37 % 101) + " ";
  return text;
}

std::vector<std::string> Args(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"eval",      "loss", "-m",       TinyModel(),
                                   "--prefill", "100",  "--decode", "6"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(EvalLoss, JsonOfTwoPlans) {
  const TestFolder folder;
  const std::string file = folder.Write("text.txt", SomeText());
  const CliResult result =
      RunTidal(Args({"-f", file, "--windows", "3", "--divergence", "--speed-steps", "2", "--json",
                     "--attention", "tidal:budget=24:recent=8:below=0,full"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["windows"].size(), 3u);
  EXPECT_EQ(json["windows"][0]["document"], "text.txt");
  ASSERT_EQ(json["plans"].size(), 2u);
  const Json& sparse = json["plans"][0];
  EXPECT_EQ(sparse["tokens"], 18);
  EXPECT_GT(sparse["kl"]["value"].get<double>(), 0);
  EXPECT_LE(sparse["kl"]["low"].get<double>(), sparse["kl"]["high"].get<double>());
  EXPECT_GT(sparse["speed"]["scan_bytes"].get<double>(), 0);
  EXPECT_TRUE(sparse["guard"].contains("auc"));
  EXPECT_EQ(json["plans"][1]["kl"]["value"], 0);
  EXPECT_EQ(json["plans"][1]["same_text"]["value"], 5);
  EXPECT_FALSE(json["interrupted"].get<bool>());
}

TEST(EvalLoss, TableNamesWhatWasMeasured) {
  const TestFolder folder;
  const std::string file = folder.Write("text.txt", SomeText());
  const CliResult result = RunTidal(Args({"-f", file}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              HasSubstr("texts: 1, windows: 1, each of 100 prefilled and 6 decoded tokens\n"));
  EXPECT_THAT(result.out, HasSubstr("\ntidal\n  KL to full      0.0000"));
  EXPECT_THAT(result.out, HasSubstr("tokens/s"));
}

TEST(EvalLoss, ReportsIntoAFolder) {
  const TestFolder folder;
  const std::string file = folder.Write("text.txt", SomeText());
  const CliResult result = RunTidal(Args({"-f", file, "--report", folder.File("report")}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(ReadWhole(folder.File("report/report.html")), HasSubstr("text.txt"));
  const Json report = Json::parse(ReadWhole(folder.File("report/report.json")));
  EXPECT_THAT(report["runs"][0]["command"].get<std::string>(), HasSubstr("eval loss"));
  EXPECT_EQ(report["runs"][0]["plans"][0]["layer_mass"].size(), 2u) << "two layers";
}

TEST(EvalLoss, FreeRunTellsTheLossAlongItsOwnText) {
  const TestFolder folder;
  const std::string file = folder.Write("text.txt", SomeText());
  const std::vector<std::string> args =
      Args({"-f", file, "--windows", "2", "--free-run", "20", "--attention",
            "tidal:budget=24:recent=8:below=0,full"});
  std::vector<std::string> with_json = args;
  with_json.push_back("--json");
  const CliResult result = RunTidal(with_json);
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = Json::parse(result.out);
  ASSERT_EQ(json["plans"].size(), 2u);
  for (const Json& plan : json["plans"]) {
    ASSERT_EQ(plan["texts"].size(), 2u);
    EXPECT_EQ(plan["texts"][0]["kl"].size(), plan["texts"][0]["tokens"].get<size_t>() - 1);
  }
  EXPECT_GT(json["plans"][0]["kl"]["value"].get<double>(), 0);
  std::vector<std::string> with_report = args;
  with_report.insert(with_report.end(), {"--report", folder.File("report")});
  const CliResult table = RunTidal(with_report);
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("at most 20 generated tokens"));
  EXPECT_THAT(ReadWhole(folder.File("report/report.html")),
              HasSubstr("Loss along text of its own"));
}

TEST(EvalLoss, WrongInputIsOneClearLine) {
  const TestFolder folder;
  const std::string file = folder.Write("short.txt", "the ring");
  const struct {
    std::vector<std::string> args;
    int code;
    const char* message;
  } cases[] = {
      {Args({}), 2, "--file is required"},
      {Args({"-f", file, "--decode", "1"}), 2, "--decode is \"1\", expected a whole number from 2"},
      {Args({"-f", file, "-c", "50"}), 2,
       "--ctx-size is 50, but --prefill 100 and --decode 6 need"},
      {Args({"-f", file, "--prefill", "600"}), 1, "--prefill 600 and --decode 6: --ctx-size is"},
      {Args({"-f", file}), 1, "short.txt has "},
      {Args({"-f", file, "--free-run", "8", "-c", "50"}), 2, "--prefill 100 and --free-run 8 need"},
      {Args({"-f", folder.File("none")}), 1, "no such file"},
      {Args({"-f", file, "--attention", "tidy"}), 2, "--attention"},
  };
  for (const auto& wrong : cases) {
    const CliResult result = RunTidal(wrong.args);
    EXPECT_EQ(result.code, wrong.code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(wrong.message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.out.empty());
  }
}

}  // namespace
}  // namespace tidal
