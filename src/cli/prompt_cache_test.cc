// --prompt-cache of generate and chat.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

constexpr const char* kLongText =
    "in the ring of the king, the ring and the thing; in the ring of the king and so on and on";

class PromptCacheTest : public testing::Test {
 protected:
  std::string cache() const { return folder_.File("prompt.kv"); }
  CliResult Generate(const std::string& prompt, std::vector<std::string> args = {}) const {
    args.insert(args.begin(), {"generate", "-m", TinyModel(), "-p", prompt, "-n", "5", "--temp",
                               "0", "--ignore-eos", "--json", "--prompt-cache", cache()});
    return RunTidal(args);
  }
  static Json Parsed(const CliResult& result) {
    EXPECT_EQ(result.code, 0) << result.err;
    Json json = Json::parse(result.out, nullptr, false);
    EXPECT_TRUE(json.is_object()) << result.out;
    return json;
  }
  void ExpectRefused(const CliResult& result, const std::string& message) const {
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }

  TestFolder folder_;
};

TEST_F(PromptCacheTest, GenerateTakesUpWhatItSaved) {
  const Json first = Parsed(Generate(kLongText));
  const int64_t prompt_n = first["timings"]["prompt_n"];
  EXPECT_EQ(first["timings"]["reused_n"], 0);
  EXPECT_EQ(first["prompt_cache"]["loaded_n"], 0);
  EXPECT_EQ(folder_.NumEntries(), 1u) << "the file alone";
  const std::string written = ReadWhole(cache());
  const Json second = Parsed(Generate(kLongText));
  EXPECT_EQ(second["timings"]["reused_n"], prompt_n - 1) << "the newest token runs again";
  EXPECT_EQ(second["prompt_cache"]["loaded_n"], prompt_n);
  EXPECT_EQ(second["tokens"], first["tokens"]);
  EXPECT_TRUE(ReadWhole(cache()) == written) << "there was nothing to add";
  // Under a plan that chooses by an index, which the file has not.
  const Json sparse = Parsed(Generate(kLongText, {"--attention", "tidal:below=0:budget=80"}));
  EXPECT_EQ(sparse["timings"]["reused_n"], prompt_n - 1);
  // A longer prompt takes the beginning, and the file then has all of it.
  const Json longer = Parsed(Generate(std::string(kLongText) + ", the end"));
  EXPECT_EQ(longer["timings"]["reused_n"], prompt_n);
  EXPECT_GT(ReadWhole(cache()).size(), 0u);
  const Json again = Parsed(Generate(std::string(kLongText) + ", the end"));
  EXPECT_EQ(again["timings"]["reused_n"], again["timings"]["prompt_n"].get<int64_t>() - 1);
  EXPECT_EQ(again["tokens"], longer["tokens"]);
}

TEST_F(PromptCacheTest, ReadOnlyNeverWrites) {
  Parsed(Generate(kLongText, {"--prompt-cache-ro"}));
  EXPECT_EQ(folder_.NumEntries(), 0u);
  Parsed(Generate(kLongText));
  const std::string written = ReadWhole(cache());
  const Json other = Parsed(Generate("in the ring, then", {"--prompt-cache-ro"}));
  EXPECT_GT(other["timings"]["reused_n"], 0);
  EXPECT_TRUE(ReadWhole(cache()) == written);
  const CliResult alone = RunTidal({"generate", "-m", TinyModel(), "-p", "x", "--prompt-cache-ro"});
  EXPECT_EQ(alone.code, 2);
  EXPECT_THAT(alone.err, HasSubstr("--prompt-cache-ro needs --prompt-cache FILE"));
  EXPECT_EQ(RunTidal({"chat", "-m", TinyModel(), "--prompt-cache-ro"}).code, 2);
}

TEST_F(PromptCacheTest, StatsSayWhatCameFromTheFile) {
  Parsed(Generate(kLongText));
  const CliResult result = Generate(kLongText, {"--stats"});
  EXPECT_THAT(result.err, HasSubstr(" more were in the cache)"));
  EXPECT_THAT(result.err, HasSubstr("\nfile      "));
}

TEST_F(PromptCacheTest, AFileThatCannotBeUsedIsRefusedAndLeftAlone) {
  Parsed(Generate(kLongText));
  const std::string written = ReadWhole(cache());
  ExpectRefused(Generate(kLongText, {"-ctk", "q8_0"}), "saved with the cache \"cpu 1: ");
  ExpectRefused(Generate(kLongText, {"--precision", "f32"}), "saved with --precision \"fast\"");
  EXPECT_TRUE(ReadWhole(cache()) == written);
  folder_.Write("prompt.kv", written.substr(0, written.size() / 2));
  ExpectRefused(Generate(kLongText), "--prompt-cache: ");
  std::string damaged = written;
  damaged[damaged.size() - 20] ^= 1;
  folder_.Write("prompt.kv", damaged);
  ExpectRefused(Generate(kLongText), "is damaged; delete the file");
  EXPECT_TRUE(ReadWhole(cache()) == damaged);
  folder_.Write("prompt.kv", "some notes");
  ExpectRefused(Generate(kLongText), "this is no saved prompt; name another file");
  EXPECT_EQ(ReadWhole(cache()), "some notes");
}

// As a script leaves it whose variable was never set.
TEST_F(PromptCacheTest, AnEmptyNameIsRefused) {
  for (const char* command : {"generate", "chat"}) {
    const CliResult result = RunTidal({command, "-m", TinyModel(), "--prompt-cache", ""});
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, HasSubstr("--prompt-cache is given an empty text, expected FILE"));
  }
}

TEST_F(PromptCacheTest, WhereNothingCanBeWrittenNothingIsComputed) {
  const CliResult result = RunTidal({"generate", "-m", "absent.gguf", "-p", "x", "--prompt-cache",
                                     folder_.File("no_folder/prompt.kv")});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write"));
}

TEST_F(PromptCacheTest, AChatBeginsFromTheFile) {
  const auto chat = [&](const std::string& input) {
    return RunTidal({"chat", "-m", TinyModel(), "--no-history", "-n", "3", "--temp", "0", "--json",
                     "--system", kLongText, "--prompt-cache", cache()},
                    input);
  };
  const CliResult first = chat("the ring\nand on\n");
  ASSERT_EQ(first.code, 0) << first.err;
  std::vector<Json> turns;
  for (const std::string& line :
       {first.out.substr(0, first.out.find('\n')), first.out.substr(first.out.find('\n') + 1)})
    turns.push_back(Json::parse(line, nullptr, false));
  EXPECT_EQ(turns[0]["timings"]["reused_n"], 0);
  EXPECT_GE(turns[1]["timings"]["reused_n"], turns[0]["timings"]["prompt_n"])
      << "the cache is kept from turn to turn";
  // Another conversation with the same system message.
  const CliResult second = chat("something else\n");
  const Json answer = Json::parse(second.out, nullptr, false);
  EXPECT_GT(answer["timings"]["reused_n"].get<int>(), 20) << second.err;
  // A conversation that was forgotten is not written.
  const std::string written = ReadWhole(cache());
  EXPECT_EQ(chat("a third one\n/clear\n").code, 0);
  EXPECT_TRUE(ReadWhole(cache()) == written);
}

}  // namespace
}  // namespace tidal
