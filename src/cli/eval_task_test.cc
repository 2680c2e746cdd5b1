// tidal eval task and speed.
#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <optional>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"
#include "cli/eval_task_report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::EndsWith;
using ::testing::HasSubstr;

CliResult EvalTask(std::vector<std::string> args) {
  args.insert(args.begin(), {"eval", "task"});
  args.insert(args.end(), {"-m", TinyModel()});
  return RunTidal(args);
}

void ExpectUsage(const std::vector<std::string>& args, const std::string& message) {
  const CliResult result = EvalTask(args);
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr(message));
}

TEST(EvalTask, SaysWhatIsWrongWithTheCommandLine) {
  ExpectUsage({}, "no task is given, expected NAME[,NAME...] or --prompts FILE");
  ExpectUsage({"passkey", "--prompts", "f"}, "--prompts and names of tasks exclude each other");
  ExpectUsage({"pass"}, "\"pass\" is not a task, expected niah_single_1, ");
  ExpectUsage({"passkey,cwe"}, "task cwe needs a text to be made of, expected -f FILE");
  ExpectUsage({"passkey", "--depths", "0,1.5"},
              "--depths is \"1.5\", expected a number from 0 to 1");
  ExpectUsage({"passkey", "--question", "asked"},
              "--question is \"asked\", expected prefill or decoded");
  ExpectUsage({"passkey", "--lengths", "4096", "-c", "1024"},
              "--ctx-size is 1024, but --lengths asks for 4096");
  ExpectUsage({"passkey", "--attention", "full,tidy"}, "tidy");
}

void ExpectFailure(const std::vector<std::string>& args, const std::string& message) {
  const CliResult result = EvalTask(args);
  EXPECT_EQ(result.code, 1) << result.out;
  EXPECT_THAT(result.err, HasSubstr(message));
}

TEST(EvalTask, SaysWhatIsWrongWithFilesAndLengths) {
  const TestFolder folder;
  ExpectFailure({"passkey", "--lengths", "40"}, "task passkey at a length of 40 tokens");
  ExpectFailure({"passkey", "--lengths", "1000000"}, "--lengths: --ctx-size is 1000000");
  ExpectFailure({"cwe", "-f", folder.Write("short", "Too short.")}, "expected at least 20 and 400");
  ExpectFailure({"cwe", "-f", folder.File("none")}, folder.File("none"));
  ExpectFailure({"longbench:" + folder.Write("lb", "{}\n")}, "line 1: the field \"dataset\"");
  ExpectFailure({"--prompts", folder.Write("p", "{\n")}, "line 1: expected a JSON object");
}

TEST(EvalTask, TheTableLeavesOutAnIntervalThatOneCaseHasNot) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  TaskResult result;
  result.plans = {"full", "tidal"};
  result.question = "prefill";
  result.totals.push_back(
      {"vt", 1024, std::nullopt, 1, 1, 0.5, 0, {0, 0.8}, {0, 1, 0, 0, 1, {-0.5, kNan, kNan}}, 900});
  EXPECT_THAT(TaskResultTable("m.gguf", result), EndsWith(" -50.0\n"));
  result.totals[0].paired.difference = {-0.5, -1, 0};
  EXPECT_THAT(TaskResultTable("m.gguf", result), EndsWith(" -50.0 [-100.0,    0.0]\n"));
}

class EvalTaskModel : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("TIDAL_MODELS_DIR");
    model_ = (folder != nullptr ? std::string(folder) : TIDAL_SOURCE_DIR "/models") +
             "/smollm2-135m.gguf";
    if (!std::filesystem::exists(model_)) GTEST_SKIP() << "SKIPPED: " << model_ << " is not there";
  }

  Json Run(std::vector<std::string> args) const {
    args.insert(args.begin(), {"eval", "task"});
    args.insert(args.end(), {"-m", model_, "--json"});
    const CliResult result = RunTidal(args);
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out, nullptr, false);
  }

  std::string model_;
};

TEST_F(EvalTaskModel, FullAttentionFindsMostPasskeysAndPromptsComeBack) {
  const TestFolder folder;
  const std::string saved = folder.File("prompts.jsonl");
  const Json made =
      Run({"passkey", "--lengths", "1024", "--depths", "0,1", "--cases", "2", "--attention",
           "full,streaming:budget=128:below=0", "--save-prompts", saved});
  ASSERT_TRUE(made.is_object());
  ASSERT_EQ(made["answers"].size(), 8U);
  ASSERT_EQ(made["totals"].size(), 2U);
  EXPECT_GE(made["totals"][0]["right"], 3) << made["answers"];
  for (const Json& answer : made["answers"]) {
    EXPECT_LE(answer["prompt_tokens"], 1024 - 6);
    EXPECT_GT(answer["prompt_tokens"], 950);
  }
  // A pass key at the start is out of reach of the newest 124 tokens and four sinks.
  EXPECT_EQ(made["cells"][1]["plan"], "streaming:budget=128:below=0");
  EXPECT_LT(made["cells"][1]["right"], 2);
  const Json read = Run({"--prompts", saved, "--attention", "full,streaming:budget=128:below=0"});
  EXPECT_EQ(read["answers"], made["answers"]) << "in a context as long as the prompts ask for";
}

TEST_F(EvalTaskModel, PlansAnswerSideBySideWhatTheyAnswerAlone) {
  const std::vector<std::string> args = {"passkey", "--lengths", "512", "--depths",
                                         "0.5",     "--cases",   "2"};
  const auto with_plans = [&](const std::string& plans) {
    std::vector<std::string> all = args;
    all.insert(all.end(), {"--attention", plans});
    return Run(all);
  };
  const Json together = with_plans("full,tidal:budget=128:below=0");
  const Json alone = with_plans("tidal:budget=128:below=0");
  ASSERT_EQ(alone["answers"].size(), 2U);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(alone["answers"][i]["text"], together["answers"][2 * i + 1]["text"]);
}

TEST_F(EvalTaskModel, AnAnswerThatIsSureEnds) {
  const TestFolder folder;
  // Any answer contains the empty reference from its first token on.
  const std::string prompts = folder.Write(
      "p.jsonl",
      R"({"task":"t","length":256,"depth":null,"number":0,"context":"One. ","question":"Two?",)"
      R"("answer_prefix":"","answers":[""],"classes":[],"max_tokens":100,"metric":"all_parts",)"
      R"("chat":false})"
      "\n");
  const Json result = Run({"--prompts", prompts, "--attention", "full"});
  ASSERT_EQ(result["answers"].size(), 1U);
  EXPECT_EQ(result["answers"][0]["score"], 1);
  EXPECT_LT(result["answers"][0]["text"].get<std::string>().size(), 20U)
      << "a token, not a hundred";
}

TEST_F(EvalTaskModel, AnswersLongerThanThereIsRoomForAreRefused) {
  const TestFolder folder;
  const std::string prompts = folder.Write(
      "p.jsonl",
      R"({"task":"t","length":4096,"depth":null,"number":0,"context":"One. ","question":"Two?",)"
      R"("answer_prefix":"","answers":["x"],"classes":[],"max_tokens":2000,"metric":"all_parts",)"
      R"("chat":false})"
      "\n");
  const CliResult result = RunTidal({"eval", "task", "--prompts", prompts, "-m", model_});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("prompt 1 (t of 4096 tokens) needs 2048 tokens for its answer"));
}

TEST_F(EvalTaskModel, TheQuestionCanBeDecoded) {
  const Json decoded =
      Run({"passkey", "--lengths", "512", "--depths", "0.5", "--cases", "2", "--question",
           "decoded", "--attention", "full,tidal:budget=500:below=0"});
  ASSERT_TRUE(decoded.is_object());
  EXPECT_EQ(decoded["question"], "decoded");
  // Decoding the question with everything in reach is reading it.
  EXPECT_GE(decoded["totals"][0]["right"], 1) << decoded["answers"];
  EXPECT_EQ(decoded["totals"][0]["right"], decoded["totals"][1]["right"]) << decoded["answers"];
}

TEST(EvalSpeed, TellsBytesOfAStep) {
  const CliResult result =
      RunTidal({"eval", "speed", "-m", TinyModel(), "--contexts", "64", "-n", "2", "-r", "1",
                "--attention", "full,tidal:budget=32:sinks=1:recent=8:below=0", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json rows = Json::parse(result.out, nullptr, false)["rows"];
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_GT(rows[0]["full_bytes"], 0);
  EXPECT_EQ(rows[0]["gather_bytes"], 0);
  EXPECT_GT(rows[1]["gather_bytes"], 0);
  EXPECT_GT(rows[1]["scan_bytes"], 0);
  const CliResult wrong =
      RunTidal({"eval", "speed", "-m", TinyModel(), "--contexts", "64", "-c", "32"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--ctx-size is 32, but --contexts and -n need"));
  const CliResult too_long = RunTidal({"eval", "speed", "-m", TinyModel(), "--contexts", "600"});
  EXPECT_EQ(too_long.code, 1);
  EXPECT_THAT(too_long.err, HasSubstr("--contexts and -n: --ctx-size is 63"));
}

}  // namespace
}  // namespace tidal
