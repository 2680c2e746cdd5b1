// --report of tidal eval: a run's way into the folder.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string ReadWhole(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(EvalReport, AFolderThatCannotBeMadeIsSaidBeforeTheModelIsLoaded) {
  const TestFolder folder;
  const std::string missing = folder.File("no/such/parent");
  const CliResult result =
      RunTidal({"eval", "task", "passkey", "-m", folder.File("none.gguf"), "--report", missing});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("--report " + missing + ": cannot make this folder"));
}

TEST(EvalReport, HoldsTheCommandLineAndWhatWasAnswered) {
  const char* models = std::getenv("TIDAL_MODELS_DIR");
  const std::string model =
      (models != nullptr ? std::string(models) : TIDAL_SOURCE_DIR "/models") + "/smollm2-135m.gguf";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "SKIPPED: " << model << " is not there";
  const TestFolder folder;
  const CliResult result =
      RunTidal({"eval", "task", "passkey", "-m", model, "--lengths", "512", "--depths", "0.5",
                "--cases", "1", "--attention", "full", "--report", folder.File("it's a report")});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json report = Json::parse(ReadWhole(folder.File("it's a report/report.json")));
  const Json& run = report["runs"][0];
  EXPECT_THAT(run["command"].get<std::string>(), EndsWith("it'\\''s a report'"));
  EXPECT_EQ(run["model"], "smollm2-135m.gguf");
  EXPECT_EQ(run["model_hash"].get<std::string>().size(), 64u);
  EXPECT_EQ(run["cells"][0]["cases"], 1);
  EXPECT_THAT(ReadWhole(folder.File("it's a report/report.html")), HasSubstr("passkey, full"));
}

}  // namespace
}  // namespace tidal
