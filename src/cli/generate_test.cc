#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

CliResult Generate(std::vector<std::string> args, const std::string& input = "") {
  args.insert(args.begin(), {"generate", "-m", TinyModel()});
  return RunTidal(args, input);
}

Json GenerateJson(std::vector<std::string> args, const std::string& input = "") {
  args.emplace_back("--json");
  const CliResult result = Generate(args, input);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(IsUtf8(result.out));
  EXPECT_EQ(result.out.find('\n'), result.out.size() - 1) << "one line";
  Json json = Json::parse(result.out, nullptr, false);
  EXPECT_TRUE(json.is_object()) << result.out;
  return json;
}

std::vector<std::string> KeysOf(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST(Generate, JsonHasTheContractsShape) {
  const Json json = GenerateJson(
      {"-p", "in the ring", "-n", "12", "--temp", "0", "--ignore-eos", "--logprobs", "3"});
  EXPECT_THAT(KeysOf(json),
              ::testing::ElementsAre("prompt_tokens", "tokens", "text", "finish_reason", "timings",
                                     "attention", "seed", "logprobs"));
  const size_t num_prompt = json["prompt_tokens"].size();
  EXPECT_GT(num_prompt, 0u);
  EXPECT_EQ(json["tokens"].size(), 12u);
  EXPECT_TRUE(json["text"].is_string());
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_THAT(KeysOf(json["timings"]),
              ::testing::ElementsAre("load_ms", "prompt_n", "reused_n", "prompt_ms", "predicted_n",
                                     "predicted_ms"));
  EXPECT_EQ(json["timings"]["reused_n"], 0);
  EXPECT_EQ(json["timings"]["prompt_n"], num_prompt);
  EXPECT_EQ(json["timings"]["predicted_n"], 12);
  const Json& attention = json["attention"];
  EXPECT_EQ(attention["plan"], Json({{"preset", "full"}, {"full", "all"}, {"select", "none"}}));
  EXPECT_EQ(attention["selected_mass"], Json({{"mean", 1.0}, {"min", 1.0}}));
  EXPECT_EQ(attention["steps"], Json({{"full", 11}, {"sparse", 0}}));
  // Step i of 11 reads the prompt and i answer tokens.
  EXPECT_EQ(attention["tokens_attended"]["full"], static_cast<double>(num_prompt) + 6);
  ASSERT_EQ(json["logprobs"].size(), 12u);
  for (size_t i = 0; i < 12; ++i) {
    const Json& entry = json["logprobs"][i];
    EXPECT_EQ(entry["token"], json["tokens"][i]);
    ASSERT_EQ(entry["top"].size(), 3u);
    // Greedy: the token is the best of the three.
    EXPECT_EQ(entry["top"][0][0], entry["token"]);
    EXPECT_EQ(entry["top"][0][1], entry["logprob"]);
    EXPECT_LE(entry["logprob"].get<double>(), 0);
    EXPECT_GE(entry["top"][0][1].get<double>(), entry["top"][1][1].get<double>());
  }
}

TEST(Generate, StreamedTextIsTheJsonsText) {
  const std::vector<std::string> args = {"-p",     "the ring", "-n",          "60",
                                         "--temp", "0",        "--ignore-eos"};
  const CliResult streamed = Generate(args);
  EXPECT_EQ(streamed.code, 0);
  EXPECT_EQ(streamed.err, "") << "no progress bar where there is no terminal";
  EXPECT_TRUE(IsUtf8(streamed.out));
  EXPECT_EQ(streamed.out, GenerateJson(args)["text"].get<std::string>());
}

TEST(Generate, PromptIsFileBlankLineText) {
  const TestFolder folder;
  const auto tokens = [](std::vector<std::string> args, const std::string& input = "") {
    args.insert(args.end(), {"-n", "1"});
    return GenerateJson(args, input)["prompt_tokens"];
  };
  const std::string with_newline = folder.Write("a.txt", "ring\n");
  const std::string without = folder.Write("b.txt", "ring");
  EXPECT_EQ(tokens({"-f", with_newline}), tokens({"-p", "ring\n"}));
  EXPECT_EQ(tokens({"-f", with_newline, "-p", "the"}), tokens({"-p", "ring\n\nthe"}));
  EXPECT_EQ(tokens({"-f", without, "-p", "the"}), tokens({"-p", "ring\n\nthe"}));
  EXPECT_EQ(tokens({"-f", "-"}, "ring"), tokens({"-p", "ring"}));
  EXPECT_EQ(tokens({"-f", "-", "-p", "the"}, "ring"), tokens({"-p", "ring\n\nthe"}));
}

TEST(Generate, AnyBytesAreAPrompt) {
  const std::string bytes("\xff\xfe\0\x80 abc \xed\xa0\x80 \xf0\x9f", 15);
  const Json json = GenerateJson({"-f", "-", "-n", "4"}, bytes);
  // Every byte is a token of its own where nothing merges: none was dropped.
  EXPECT_GE(json["prompt_tokens"].size(), 12u);
}

TEST(Generate, ChatWrapsTheMessageInTheTemplate) {
  const auto tokens = [](std::vector<std::string> args) {
    args.insert(args.end(), {"-n", "1"});
    return GenerateJson(args)["prompt_tokens"];
  };
  EXPECT_EQ(tokens({"--chat", "-p", "ring"}),
            tokens({"-p", "<|im_start|>user\nring<|im_end|>\n<|im_start|>assistant\n"}));
  EXPECT_EQ(
      tokens({"--chat", "--system", "the", "-p", "ring"}),
      tokens({"-p",
              "<|im_start|>system\nthe<|im_end|>\n<|im_start|>user\nring<|im_end|>\n<|im_start|>"
              "assistant\n"}));
  EXPECT_GT(tokens({"--no-special", "-p", "<|im_end|>"}).size(), 1u);
  EXPECT_EQ(tokens({"-p", "<|im_end|>"}).size(), 1u);
}

TEST(Generate, SeedMakesTheTextAndThreadsDoNot) {
  const auto text = [](std::vector<std::string> args) {
    args.insert(args.end(), {"-p", "the", "-n", "40", "--temp", "1.5", "--ignore-eos"});
    return GenerateJson(args)["tokens"];
  };
  const Json first = text({"-s", "7", "-t", "1"});
  EXPECT_EQ(first, text({"-s", "7", "-t", "2"}));
  EXPECT_EQ(first, text({"-s", "7", "-t", "3"}));
  EXPECT_NE(first, text({"-s", "8"}));
  const Json random = GenerateJson({"-p", "the", "-n", "2"});
  EXPECT_EQ(random["tokens"],
            GenerateJson({"-p", "the", "-n", "2", "-s",
                          std::to_string(random["seed"].get<int64_t>())})["tokens"]);
}

TEST(Generate, LogitBiasForcesAndBans) {
  const Json forced = GenerateJson(
      {"-p", "the", "-n", "5", "--temp", "0", "--logit-bias", "70+inf", "--logit-bias", "71-inf"});
  for (const Json& token : forced["tokens"]) EXPECT_EQ(token, 70);
}

TEST(Generate, EndsAtAnEndToken) {
  // Token 2 is <|im_end|>.
  const std::vector<std::string> args = {"-p",     "the", "-n",           "5",
                                         "--temp", "0",   "--logit-bias", "2+inf"};
  const Json stopped = GenerateJson(args);
  EXPECT_EQ(stopped["finish_reason"], "stop");
  EXPECT_EQ(stopped["tokens"], Json({2}));
  EXPECT_EQ(stopped["text"], "");
  std::vector<std::string> on = args;
  on.emplace_back("--ignore-eos");
  EXPECT_EQ(GenerateJson(on)["finish_reason"], "length");
}

TEST(Generate, FullContextEndsWithLength) {
  const Json json = GenerateJson({"-p", "the ring and the ring", "-c", "32", "--ignore-eos"});
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["prompt_tokens"].size() + json["tokens"].size(), 32u);
}

TEST(Generate, NoTokensAskedForGivesNone) {
  const Json json = GenerateJson({"-p", "the", "-n", "0"});
  EXPECT_EQ(json["tokens"], Json::array());
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["attention"]["steps"]["full"], 0);
}

TEST(Generate, OutputFileIsWholeAndKeepsItsMode) {
  const TestFolder folder;
  const std::string path = folder.Write("out.txt", "old");
  std::filesystem::permissions(
      path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const std::vector<std::string> args = {"-p",     "the ring", "-n",          "20",
                                         "--temp", "0",        "--ignore-eos"};
  std::vector<std::string> with_file = args;
  with_file.insert(with_file.end(), {"-o", path});
  const CliResult result = Generate(with_file);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(ReadWhole(path), Generate(args).out);
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(folder.NumEntries(), 1u) << "nothing else is left behind";
}

TEST(Generate, StatsAreAShortTable) {
  const CliResult result = Generate({"-p", "the", "-n", "3", "--stats", "--temp", "0"});
  EXPECT_EQ(result.code, 0);
  for (const char* row : {"\nmodel ", "\nplan ", "\nprompt ", "\ndecode ", "\nmemory "})
    EXPECT_THAT(result.err, HasSubstr(row));
  EXPECT_THAT(result.err, HasSubstr("tokens/s"));
}

TEST(Generate, CacheTypesBatchesAndPrecisionAreTaken) {
  for (const char* type : {"f32", "f16", "bf16", "q8_0"})
    EXPECT_EQ(
        GenerateJson({"-p",    "the ring", "-n",          "3",    "-ctk",     type,          "-ctv",
                      type,    "-ub",      "4",           "-b",   "8",        "--precision", "f32",
                      "--isa", "portable", "--attention", "full", "--device", "cpu"})["tokens"]
            .size(),
        3u);
}

}  // namespace
}  // namespace tidal
