// Attention plans on the command line: flags, what JSON says about them, traces, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"
#include "model/model_hash.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPlan = "tidal:budget=8:sinks=1:recent=2:below=0";

Json JsonOf(const std::vector<std::string>& args, const std::string& input = "") {
  const CliResult result = RunTidal(args, input);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  Json json = Json::parse(result.out, nullptr, false);
  EXPECT_TRUE(json.is_object()) << result.out;
  return json;
}

std::vector<std::string> GenerateArgs(const std::string& plan, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"generate", "-m", TinyModel(), "-p", "the ring and the one", "-n",
                             "12", "--temp", "0", "--ignore-eos", "--attention", plan});
  return more;
}

TEST(Attention, GenerateSaysWhatAPlanRead) {
  const Json attention = JsonOf(GenerateArgs(kPlan, {"--json"}))["attention"];
  EXPECT_EQ(attention["plan"]["preset"], "tidal");
  EXPECT_EQ(attention["plan"]["budget"], 8);
  EXPECT_EQ(attention["plan"]["select"], "all");
  EXPECT_EQ(attention["plan"]["refresh"], "step") << "keys that were not given are there too";
  EXPECT_EQ(attention["tokens_attended"],
            Json({{"full", nullptr}, {"selection", 8.0}, {"reuse", nullptr}}));
  EXPECT_EQ(attention["steps"], Json({{"full", 0}, {"sparse", 11}}));
  const double mean = attention["selected_mass"]["mean"].get<double>();
  const double min = attention["selected_mass"]["min"].get<double>();
  EXPECT_LT(mean, 1);
  EXPECT_LE(min, mean);
  EXPECT_GT(min, 0);
  EXPECT_EQ(attention["guard_rows"], 0);
  EXPECT_EQ(attention["correction"], Json({{"runs", 0}, {"rows", 0}, {"kl", nullptr}}));
}

TEST(Attention, GenerateSaysWhatGuardAndCorrectionDid) {
  const Json attention =
      JsonOf(GenerateArgs(std::string(kPlan) + ":guard=1:correct=4", {"--json"}))["attention"];
  EXPECT_EQ(attention["steps"]["full"], attention["guard_rows"]);
  EXPECT_GT(attention["guard_rows"].get<int>(), 0);
  const Json& correction = attention["correction"];
  EXPECT_EQ(correction["rows"].get<int>(), 4 * correction["runs"].get<int>());
  EXPECT_GT(correction["rows"].get<int>(), 0);
  EXPECT_GE(correction["kl"]["max"].get<double>(), correction["kl"]["mean"].get<double>());
  const Json unscored =
      JsonOf(GenerateArgs("streaming:budget=8:below=0", {"--json"}))["attention"]["selected_mass"];
  EXPECT_EQ(unscored, Json({{"mean", nullptr}, {"min", nullptr}})) << "nothing was scored";
}

TEST(Attention, AShortContextRunsFull) {
  const CliResult full = RunTidal(GenerateArgs("full"));
  EXPECT_EQ(RunTidal(GenerateArgs("tidal")).out, full.out);
  EXPECT_EQ(JsonOf(GenerateArgs("tidal", {"--json"}))["attention"]["steps"],
            Json({{"full", 11}, {"sparse", 0}}));
}

TEST(Attention, StatsSayItToPeople) {
  const CliResult result = RunTidal(GenerateArgs(kPlan, {"--stats"}));
  EXPECT_THAT(result.err, HasSubstr("\nattended  selection 8.0 tokens a layer\n"));
  EXPECT_THAT(result.err, HasSubstr("\nmass  "));
  EXPECT_THAT(result.err, HasSubstr("\nrows      11 sparse, 0 full\n"));
  EXPECT_THAT(result.err, HasSubstr("for its key index"));
  const CliResult full = RunTidal(GenerateArgs("full", {"--stats"}));
  EXPECT_THAT(full.err, Not(HasSubstr("attended")));
  EXPECT_THAT(full.err, Not(HasSubstr("key index")));
}

TEST(Attention, ScoreHasAnEntryPerDecodedRow) {
  const auto score = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"score", "-m", TinyModel(), "-f", "-", "--json"});
    return JsonOf(more, "[10,20,30,40,50,60,70,80,90,100,110,120,130,140,150,160]");
  };
  const Json json = score({"--prefill", "10", "--attention", kPlan});
  EXPECT_EQ(json["next_logprob"].size(), 15u);
  ASSERT_EQ(json["selected_mass"].size(), 6u);
  for (const Json& mass : json["selected_mass"]) EXPECT_LT(mass.get<double>(), 1);
  EXPECT_EQ(json["attention"]["steps"], Json({{"full", 0}, {"sparse", 6}}));
  EXPECT_EQ(score({"--prefill", "14"})["selected_mass"], Json({1.0, 1.0}));
  EXPECT_EQ(score({"--prefill", "15", "--attention",
                   "quest:page=4:budget=8:full=0:below=0"})["selected_mass"],
            Json::array({nullptr}));
  EXPECT_FALSE(score({"--attention", kPlan}).contains("selected_mass")) << "no row is decoded";
}

TEST(Attention, ChatAnswersSayIt) {
  const CliResult result =
      RunTidal({"chat", "-m", TinyModel(), "--json", "-n", "9", "--attention", kPlan}, "hi\n");
  EXPECT_EQ(result.code, 0) << result.err;
  const Json json = Json::parse(result.out, nullptr, false);
  EXPECT_EQ(json["attention"]["plan"]["budget"], 8);
}

TEST(Attention, BenchComparesPlans) {
  const Json rows = JsonOf({"bench", "-m", TinyModel(), "-p", "0", "-n", "4", "-d", "100", "-r",
                            "2", "--attention", std::string("full,") + kPlan, "--json"})["rows"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1]["attention"], kPlan);
  EXPECT_THAT(rows[1]["plan"].get<std::string>(), HasSubstr("tidal:full=none:select=all:"));
  for (const Json& row : rows) {
    double sum = 0;
    for (const auto& [part, bytes] : row["bytes"].items()) sum += bytes.get<double>();
    EXPECT_NEAR(sum, row["bytes_per_token"].get<double>(), 2) << "four numbers, rounded";
  }
  EXPECT_EQ(rows[0]["bytes"]["gather"], 0);
  EXPECT_GT(rows[0]["attention_ms"]["full"].get<double>(), 0);
  EXPECT_EQ(rows[0]["attention_ms"]["scan"], 0);
  EXPECT_EQ(rows[1]["bytes"]["full"], 0);
  EXPECT_GT(rows[1]["bytes"]["gather"].get<double>(), 0);
  EXPECT_GT(rows[1]["bytes"]["scan"].get<double>(), 0);
  EXPECT_GT(rows[1]["attention_ms"]["scan"].get<double>(), 0);
  EXPECT_GT(rows[1]["attention_ms"]["gather"].get<double>(), 0);
  EXPECT_GT(rows[1]["attention_ms_by_role"]["selection"].get<double>(), 0);
  EXPECT_EQ(rows[1]["attention_ms_by_role"]["full"], 0);
}

TEST(Attention, BenchTablesStayReadable) {
  const std::string long_plan = std::string(kPlan) + ":merge=max:scope=kv:guard=0.5";
  const CliResult result = RunTidal({"bench", "-m", TinyModel(), "-p", "4", "-n", "2", "-r", "1",
                                     "--attention", "full," + long_plan});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr(long_plan.substr(0, 29) + "... "));
  EXPECT_THAT(result.out, HasSubstr("attention, ms/token"));
  EXPECT_THAT(result.out, HasSubstr("\nplans:\n  " + long_plan + " is tidal:full=none:"));
}

TEST(Attention, TraceHasALinePerLayerAndRow) {
  const TestFolder folder;
  const std::string path = folder.File("trace.jsonl");
  const CliResult result = RunTidal(GenerateArgs(kPlan, {"--trace", path, "--trace-positions"}));
  EXPECT_EQ(result.code, 0) << result.err;
  std::istringstream lines(ReadWhole(path));
  int count = 0;
  int first_pos = -1;
  for (std::string text; std::getline(lines, text); ++count) {
    const Json line = Json::parse(text, nullptr, false);
    ASSERT_TRUE(line.is_object()) << text;
    if (first_pos < 0) first_pos = line["pos"].get<int>();
    EXPECT_EQ(line["step"], count / 2);
    EXPECT_EQ(line["pos"], first_pos + count / 2);
    EXPECT_EQ(line["layer"], count % 2);
    EXPECT_EQ(line["role"], "selection");
    EXPECT_EQ(line["tokens_attended"], 8);
    EXPECT_LE(line["selected_mass"].get<double>(), 1);
    EXPECT_EQ(line["fresh"], true);
    ASSERT_EQ(line["positions"].size(), 1u);
    EXPECT_EQ(line["positions"][0].size(), 8u);
    EXPECT_EQ(line["positions"][0][0], 0) << "the sink";
  }
  EXPECT_EQ(count, 2 * 11);
  EXPECT_EQ(folder.NumEntries(), 1u);

  const CliResult scored = RunTidal({"score", "-m", TinyModel(), "-f", "-", "--prefill", "3",
                                     "--trace", path, "--attention", "full"},
                                    "[10,20,30,40]");
  EXPECT_EQ(scored.code, 0) << scored.err;
  EXPECT_EQ(ReadWhole(path),
            "{\"step\":0,\"pos\":3,\"layer\":0,\"role\":\"full\",\"tokens_attended\":4,"
            "\"selected_mass\":1}\n"
            "{\"step\":0,\"pos\":3,\"layer\":1,\"role\":\"full\",\"tokens_attended\":4,"
            "\"selected_mass\":1}\n");
}

TEST(Attention, WrongPlansAreWrongUsage) {
  const struct {
    std::vector<std::string> args;
    const char* message;
  } cases[] = {
      // Found in the text alone.
      {GenerateArgs("dense"), "--attention: "},
      {GenerateArgs("tidal:budgt=5"), "budgt"},
      {GenerateArgs("tidal:budget=-5"), "budget"},
      {GenerateArgs("full,tidal"), "--attention: "},
      {{"bench", "-m", "x", "--attention", "full,,tidal"}, "--attention: "},
      {{"score", "-m", "x", "-f", "x", "--attention", "tidal:merge=sum"}, "merge"},
      {{"chat", "-m", "x", "--attention", ""}, "--attention: "},
      {{"bench", "-m", "x", "--index-bits", "3"}, "--index-bits is \"3\""},
      {{"bench", "-m", "x", "--index-layers", "some"}, "--index-layers is \"some\""},
      {{"generate", "-m", "x", "-p", "a", "--trace-positions"}, "needs --trace"},
      // Found beside the model.
      {GenerateArgs("tidal:select=2"), "--attention: "},
      {GenerateArgs("tidal-paper:select=1:full=none"), "--attention: "},
      {{"bench", "-m", TinyModel(), "--attention", "full,tidal:select=9"}, "--attention: "},
      // Found beside the prompt.
      {GenerateArgs("tidal:budget=10%:below=0:sinks=4"), "--attention: "},
  };
  for (const auto& c : cases) {
    const CliResult result = RunTidal(c.args);
    EXPECT_EQ(result.code, 2) << c.message << ": " << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST(Attention, AMissingIndexIsSaidOnce) {
  const CliResult result = RunTidal(GenerateArgs(kPlan, {"--index-layers", "none"}));
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.err, HasSubstr("layer 0 has no key index"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  const CliResult other = RunTidal(GenerateArgs(kPlan, {"--index-bits", "2"}));
  EXPECT_THAT(other.err, HasSubstr("2 bits"));
}

TEST(Attention, ASidecarIsUsedAndSaidSo) {
  const TestFolder folder;
  const std::string model = folder.File("copy.gguf");
  std::filesystem::copy_file(TinyModel(), model);
  const std::string hash = ModelHash(Model::Load(model).value()).value();
  const auto write = [&](const std::string& model_hash) {
    folder.Write("copy.tidal.json", R"({"format":1,"model_hash":")" + model_hash +
                                        R"(","plans":[{"preset":"tidal","budget":1024,)"
                                        R"("select":[1],"full":[0,1],"scope":"shared",)"
                                        R"("scorer":"index4"}]})");
  };
  write(hash);
  const std::vector<std::string> args = {"generate", "-m", model,    "-p",          "the ring",
                                         "-n",       "2",  "--json", "--attention", "tidal"};
  CliResult result = RunTidal(args);
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "tidal: info: copy.tidal.json has calibrated plans for this model\n");
  EXPECT_EQ(Json::parse(result.out, nullptr, false)["attention"]["plan"]["select"], Json({1}));
  write(std::string(64, 'a'));
  result = RunTidal(args);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("copy.tidal.json"));
}

TEST(Attention, InspectShowsWhatTheIndexTakes) {
  EXPECT_THAT(RunTidal({"inspect", TinyModel(), "-c", "100"}).out,
              HasSubstr("key index for a context of 100 tokens"));
  const Json index = JsonOf({"inspect", TinyModel(), "-c", "100", "--json"})["index"];
  ASSERT_EQ(index.size(), 2u);
  EXPECT_EQ(index[0]["bits"], 4);
  EXPECT_EQ(index[1]["bits"], 2);
  EXPECT_GT(index[0]["total_bytes"].get<int64_t>(), index[1]["total_bytes"].get<int64_t>());
}

TEST(Attention, HelpNamesThePresets) {
  for (const char* command : {"generate", "chat", "score", "bench"}) {
    const std::string help = RunTidal({command, "--help"}).out;
    for (const char* word : {"--attention", "tidal-paper", "lessismore", "twilight",
                             "docs/attention_plans.md", "--index-layers", "--index-bits"})
      EXPECT_THAT(help, HasSubstr(word)) << command;
  }
}

}  // namespace
}  // namespace tidal
