// tidal tokenize, score, inspect, bench and completion.
#include <cmath>
#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

Json JsonOf(const std::vector<std::string>& args, const std::string& input = "") {
  const CliResult result = RunTidal(args, input);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(IsUtf8(result.out));
  Json json = Json::parse(result.out, nullptr, false);
  EXPECT_TRUE(json.is_object()) << result.out;
  return json;
}

Json TokensOf(const std::string& text, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"tokenize", "-m", TinyModel(), "-f", "-", "--json"});
  return JsonOf(more, text)["tokens"];
}

TEST(Tokenize, ThereAndBack) {
  const std::string text = "the ring \xc3\xa9\n<|im_end|>\xff";
  const Json tokens = TokensOf(text);
  const CliResult back = RunTidal({"tokenize", "-m", TinyModel(), "--decode", "-f", "-"},
                                  Json{{"tokens", tokens}}.dump());
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(back.out, text) << "bytes, as they were";
  const Json json =
      JsonOf({"tokenize", "-m", TinyModel(), "--decode", "--json", "-f", "-"}, tokens.dump());
  EXPECT_EQ(json["text"], "the ring \xc3\xa9\n<|im_end|>\xef\xbf\xbd");
}

TEST(Tokenize, FlagsAndPlainOutput) {
  EXPECT_EQ(TokensOf("<|im_end|>"), Json({2}));
  EXPECT_GT(TokensOf("<|im_end|>", {"--no-special"}).size(), 1u);
  EXPECT_EQ(TokensOf("<|im_end|>", {"--no-bos"}), Json({2}));
  const CliResult plain = RunTidal({"tokenize", "-m", TinyModel(), "-p", "<|im_end|>a"});
  EXPECT_THAT(plain.out, HasSubstr("      2  \"<|im_end|>\"\n"));
  EXPECT_THAT(plain.out, HasSubstr("  \"a\"\n"));
  EXPECT_EQ(RunTidal({"tokenize", "-m", TinyModel(), "--decode", "-p", "2, 2"}).out,
            "<|im_end|><|im_end|>");
}

TEST(Score, ShapeIsNAndNMinusOne) {
  const Json json = JsonOf({"score", "-m", TinyModel(), "-f", "-", "--top", "4", "--json"},
                           R"({"tokens":[10,20,30,40,50]})");
  ASSERT_EQ(json.size(), 2u);
  ASSERT_EQ(json["top"].size(), 5u);
  ASSERT_EQ(json["next_logprob"].size(), 4u);
  for (const Json& entry : json["top"]) {
    ASSERT_EQ(entry.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(entry[i][0].is_number_integer());
      EXPECT_LE(entry[i][1].get<double>(), i == 0 ? 0 : entry[i - 1][1].get<double>());
    }
  }
  for (const Json& logprob : json["next_logprob"]) EXPECT_LT(logprob.get<double>(), 0);
}

TEST(Score, RowByRowEqualsPrefilledEqualsText) {
  const std::string text = "the ring and the one in the hall";
  const std::string tokens = Json{{"tokens", TokensOf(text)}}.dump();
  const auto score = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"score", "-m", TinyModel(), "--json", "-f", "-", "--precision",
                               "f32", "-ctk", "f32", "-ctv", "f32"});
    return JsonOf(more, tokens)["next_logprob"];
  };
  const Json prefilled = score({});
  // Other sums in other orders: float32 rounding of logits of a few units.
  constexpr double kTolerance = 1e-4;
  for (const Json& other :
       {score({"--prefill", "0"}), score({"--prefill", "3"}), score({"-b", "2"})}) {
    ASSERT_EQ(other.size(), prefilled.size());
    for (size_t i = 0; i < other.size(); ++i)
      EXPECT_NEAR(other[i].get<double>(), prefilled[i].get<double>(), kTolerance);
  }
  const TestFolder folder;
  const std::string file = folder.Write("text.txt", text);
  const std::vector<std::string> f32 = {"--json", "--precision", "f32", "-ctk",
                                        "f32",    "-ctv",        "f32"};
  for (std::vector<std::string> args :
       {std::vector<std::string>{"score", "-m", TinyModel(), "--text", file},
        std::vector<std::string>{"score", "-m", TinyModel(), "--text", "-f", file},
        std::vector<std::string>{"score", "-m", TinyModel(), "-f", file, "--text"}}) {
    args.insert(args.end(), f32.begin(), f32.end());
    EXPECT_EQ(JsonOf(args)["next_logprob"], prefilled);
  }
}

TEST(Score, PlainOutputIsASummary) {
  const CliResult result = RunTidal({"score", "-m", TinyModel(), "-f", "-"}, "[10, 20, 30]");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              testing::MatchesRegex("3 tokens, mean log-probability -[0-9.]+, perplexity "
                                    "[0-9.]+, [0-9.]+ tokens/s\n"));
}

TEST(Inspect, TextAndJson) {
  const CliResult text = RunTidal({"inspect", TinyModel(), "-c", "100"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("token_embd.weight"));
  EXPECT_THAT(text.out, HasSubstr("llama.block_count"));
  const Json json = JsonOf({"inspect", TinyModel(), "-c", "100", "--json"});
  EXPECT_EQ(json["context_tokens"], 100);
  // Any machine that runs this holds the tiny model's 512 tokens.
  EXPECT_THAT(text.out, HasSubstr(", for a context of 512 tokens (f16 cache)\n"));
  EXPECT_EQ(json["largest_context_tokens"], 512);
  EXPECT_GT(json["available_bytes"].get<int64_t>(), 0);
}

TEST(Memory, EveryLoadSaysWhatItTakesToWhoWantsToKnow) {
  const std::vector<std::string> args = {"generate", "-m", TinyModel(), "-p", "the", "-n", "1"};
  EXPECT_EQ(RunTidal(args).err, "");
  std::vector<std::string> told = args;
  told.insert(told.end(), {"--log-level", "info", "-c", "128"});
  // 2 layers of 2 KV heads of 16 elements, K and V of 2 bytes: 256 bytes a token.
  EXPECT_THAT(RunTidal(told).err, HasSubstr("cache 32.0 KiB for 128 tokens\n"));
  told.insert(told.end(), {"--index-layers", "all"});
  EXPECT_THAT(RunTidal(told).err, HasSubstr("for 128 tokens, key index "));
}

TEST(Bench, JsonHasTheContractsShape) {
  const Json json = JsonOf({"bench", "-m", TinyModel(), "-p", "8", "-n", "4", "-d", "0,16",
                            "--attention", "full", "-r", "2", "--json"});
  ASSERT_EQ(json.size(), 2u);
  for (const char* key : {"cpu", "cores", "threads", "isa", "read_gbps"})
    EXPECT_TRUE(json["machine"].contains(key)) << key;
  EXPECT_GT(json["machine"]["read_gbps"].get<double>(), 0);
  ASSERT_EQ(json["rows"].size(), 4u);
  const char* tests[] = {"pp8", "tg4", "pp8", "tg4"};
  for (size_t i = 0; i < 4; ++i) {
    const Json& row = json["rows"][i];
    EXPECT_EQ(row["test"], tests[i]);
    EXPECT_EQ(row["depth"], i < 2 ? 0 : 16);
    EXPECT_EQ(row["attention"], "full");
    EXPECT_EQ(row["plan"], "full");
    const Json& speed = row["tokens_per_s"];
    EXPECT_GT(speed["min"].get<double>(), 0);
    EXPECT_LE(speed["min"].get<double>(), speed["median"].get<double>());
    EXPECT_LE(speed["median"].get<double>(), speed["max"].get<double>());
    EXPECT_NEAR(row["ms_per_token"].get<double>() * speed["median"].get<double>(), 1000, 1);
    EXPECT_GT(row["bytes_per_token"].get<double>(), 0);
    for (const char* part : {"scan", "merge", "top_k", "gather", "full"})
      EXPECT_TRUE(row["attention_ms"].contains(part)) << part;
    EXPECT_GT(row["attention_ms_by_role"]["full"].get<double>(), 0);
    EXPECT_TRUE(row.contains("gbps"));
    EXPECT_EQ(row["read_gbps_limit"], json["machine"]["read_gbps"]);
  }
}

TEST(Bench, ZeroLeavesATestOutAndPlansTakeTurns) {
  const Json decode = JsonOf({"bench", "-m", TinyModel(), "-p", "0", "-n", "2,3", "-r", "1",
                              "--attention", "full,full", "--json"});
  ASSERT_EQ(decode["rows"].size(), 4u);
  EXPECT_EQ(decode["rows"][0]["test"], "tg2");
  EXPECT_EQ(decode["rows"][3]["test"], "tg3");
  const CliResult table = RunTidal({"bench", "-m", TinyModel(), "-p", "4", "-n", "0", "-r", "1"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("\npp4 "));
  EXPECT_THAT(table.out, HasSubstr("tokens/s"));
  EXPECT_THAT(table.out, HasSubstr("%"));
  EXPECT_THAT(table.out, testing::Not(HasSubstr("attention, ms/token"))) << "no plan chooses";
}

TEST(Bench, RandomWeightsOfAKnownShape) {
  const Json json = JsonOf({"bench", "--shape", "smollm2-135m", "--weights", "q4_0", "-p", "0",
                            "-n", "2", "-d", "70", "-r", "1", "--sequences", "2", "--attention",
                            "full,tidal:below=0:budget=70", "--json"});
  ASSERT_EQ(json["rows"].size(), 2u);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["sequences"], 2);
    EXPECT_GT(row["bytes"]["weights"].get<double>(), 0);
    // Each of the three is rounded for print.
    const double limit_ms =
        row["bytes_per_token"].get<double>() / row["read_gbps_limit"].get<double>() / 1e6;
    EXPECT_NEAR(row["limit_ms_per_token"].get<double>(), limit_ms, 1e-3 * limit_ms);
  }
  // 30 layers of 3 KV heads of 64: K and V of 2 bytes, of the tokens that the steps see.
  constexpr double kTokenBytes = 30 * 3 * 64 * 2 * 2;
  EXPECT_NEAR(json["rows"][0]["bytes"]["full"].get<double>(), kTokenBytes * 72.5, kTokenBytes);
  EXPECT_EQ(json["rows"][1]["bytes"]["full"], 0);
}

TEST(Completion, NamesEveryCommandAndOption) {
  const std::string help = RunTidal({"generate", "--help"}).out;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const CliResult script = RunTidal({"completion", shell});
    EXPECT_EQ(script.code, 0);
    for (const char* word : {"generate", "chat", "score", "bench", "inspect", "tokenize", "temp",
                             "cache-type-k", "ctk", "avx512", "logit-bias", "repetitions"})
      EXPECT_THAT(script.out, HasSubstr(word)) << shell;
  }
}

TEST(Completion, ShellsCanReadTheirScripts) {
  const TestFolder folder;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string name = shell;
    if (std::system(("command -v " + name + " > /dev/null").c_str()) != 0) {
      std::printf("SKIPPED for %s, which is not installed\n", shell);
      continue;
    }
    const std::string path = folder.Write(name, RunTidal({"completion", name}).out);
    EXPECT_EQ(std::system((name + " -n " + path).c_str()), 0) << shell;
  }
  // What bash would offer for "tidal gen<Tab>" and for a value.
  const std::string path = folder.Write("script", RunTidal({"completion", "bash"}).out);
  const auto offered = [&](const std::string& words) {
    const std::string out = folder.File("offered");
    const std::string command = "bash -c 'source " + path + "; COMP_WORDS=(" + words +
                                "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _tidal; echo "
                                "\"${COMPREPLY[@]}\"' > " +
                                out;
    EXPECT_EQ(std::system(command.c_str()), 0);
    return ReadWhole(out);
  };
  EXPECT_EQ(offered("tidal gen"), "generate\n");
  EXPECT_EQ(offered("tidal bench --isa av"), "avx2 avx512\n");
  EXPECT_EQ(offered("tidal generate --ignore"), "--ignore-eos\n");
}

}  // namespace
}  // namespace tidal
