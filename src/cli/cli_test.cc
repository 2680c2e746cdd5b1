#include "cli/cli.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli_test_util.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// An error is one line.
void ExpectOneLine(const std::string& err) {
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  EXPECT_TRUE(err.ends_with('\n')) << err;
}

TEST(Cli, HelpOfTheProgramListsTheCommands) {
  const CliResult result = RunTidal({"--help"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* command :
       {"generate", "chat", "score", "bench", "inspect", "tokenize", "completion"})
    EXPECT_THAT(result.out, HasSubstr("\n  " + std::string(command) + " "));
  EXPECT_THAT(result.out, HasSubstr("Exit codes: 0 fine, 1 failed, 2 wrong usage"));
  EXPECT_EQ(RunTidal({"-h"}).out, result.out);
}

TEST(Cli, HelpOfEveryCommandFitsTheTerminal) {
  for (const char* command :
       {"generate", "chat", "score", "bench", "inspect", "tokenize", "completion"}) {
    const CliResult result = RunTidal({command, "--help"});
    EXPECT_EQ(result.code, 0) << command;
    EXPECT_THAT(result.out, StartsWith("tidal " + std::string(command) + " - "));
    EXPECT_THAT(result.out, HasSubstr("Usage: tidal " + std::string(command)));
    size_t begin = 0;
    for (size_t end; (end = result.out.find('\n', begin)) != std::string::npos; begin = end + 1)
      EXPECT_LE(end - begin, 90u) << result.out.substr(begin, end - begin);
  }
}

TEST(Cli, HelpNamesLlamaCppsFlags) {
  const std::string help = RunTidal({"generate", "--help"}).out;
  for (const char* names : {"-m, --model FILE",
                            "-p, --prompt TEXT",
                            "-f, --file FILE",
                            "-n, --predict, --n-predict N",
                            "-c, --ctx-size N",
                            "--rope-scaling none|linear|yarn",
                            "--rope-scale N",
                            "--yarn-orig-ctx N",
                            "-t, --threads N",
                            "-s, --seed N",
                            "--temp T",
                            "--top-k N",
                            "--top-p P",
                            "--min-p P",
                            "-ctk, --cache-type-k f32|f16|bf16|q8_0|f8e4m3",
                            "-ctv, --cache-type-v f32|f16|bf16|q8_0|f8e4m3",
                            "-b, --batch-size N",
                            "-ub, --ubatch-size N",
                            "--repeat-penalty X",
                            "--presence-penalty X",
                            "--frequency-penalty X",
                            "--repeat-last-n N",
                            "--logit-bias ID(+|-)BIAS",
                            "--ignore-eos",
                            "--attention PLAN",
                            "--device cpu|cuda|cuda:N",
                            "--isa auto|portable|avx2|avx512",
                            "--precision fast|f32",
                            "--log-level"})
    EXPECT_THAT(help, HasSubstr(names));
}

TEST(Cli, Version) {
  const CliResult result = RunTidal({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, ::testing::MatchesRegex("tidal [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(Cli, WrongUsageIsOneLineAndExitCodeTwo) {
  struct Case {
    std::vector<std::string> args;
    const char* message;
  };
  const Case cases[] = {
      {{}, "no command is given, expected one of generate, chat, score"},
      {{"serve"}, "\"serve\" is not a command"},
      {{"generat"}, "\"generat\" is not a command (is it generate?)"},
      {{"--verbose"}, "--verbose is not an option"},
      {{"generate"}, "--model is required"},
      {{"generate", "-m", "x.gguf"}, "no prompt is given, expected -p TEXT or -f FILE"},
      {{"generate", "-m"}, "--model"},
      {{"generate", "-m", "x", "-p", "a", "--tmep", "1"},
       "--tmep is not an option of this command (is it --temp?)"},
      {{"generate", "-m", "x", "-p", "a", "b"}, "\"b\" is one argument too many"},
      {{"generate", "-m", "x", "-p", "a", "-n", "many"},
       "--predict is \"many\", expected a whole number from -1 to 2147483647"},
      {{"generate", "-m", "x", "-p", "a", "-n", "-2"}, "--predict is \"-2\""},
      {{"generate", "-m", "x", "-p", "a", "-n", "99999999999"}, "--predict is \"99999999999\""},
      {{"generate", "-m", "x", "-p", "a", "-n", "1.5"}, "--predict is \"1.5\""},
      {{"generate", "-m", "x", "-p", "a", "-n", ""}, "--predict is \"\""},
      {{"generate", "-m", "x", "-p", "a", "-t", "0"},
       "--threads is \"0\", expected a whole number from 1 to 1024"},
      {{"generate", "-m", "x", "-p", "a", "-c", "-1"}, "--ctx-size is \"-1\""},
      {{"generate", "-m", "x", "-p", "a", "--rope-scaling", "ntk"},
       "--rope-scaling is \"ntk\", expected one of none, linear, yarn"},
      {{"generate", "-m", "x", "-p", "a", "--rope-scale", "0.5"},
       "--rope-scale is \"0.5\", expected a number from 1 to 1024"},
      {{"generate", "-m", "x", "-p", "a", "-s", "-5"}, "--seed is \"-5\""},
      {{"generate", "-m", "x", "-p", "a", "--temp", "nan"},
       "--temp is \"nan\", expected a number from 0 to"},
      {{"generate", "-m", "x", "-p", "a", "--temp", "-1"}, "--temp is \"-1\""},
      {{"generate", "-m", "x", "-p", "a", "--top-k", "-1"}, "--top-k is \"-1\""},
      {{"generate", "-m", "x", "-p", "a", "--top-p", "1.01"},
       "--top-p is \"1.01\", expected a number from 0 to 1"},
      {{"generate", "-m", "x", "-p", "a", "--min-p", "x"}, "--min-p is \"x\""},
      {{"generate", "-m", "x", "-p", "a", "--repeat-penalty", "0"}, "--repeat-penalty is \"0\""},
      {{"generate", "-m", "x", "-p", "a", "--presence-penalty", "inf"},
       "--presence-penalty is \"inf\""},
      {{"generate", "-m", "x", "-p", "a", "--repeat-last-n", "-2"}, "--repeat-last-n is \"-2\""},
      {{"generate", "-m", "x", "-p", "a", "--logit-bias", "5"},
       "--logit-bias is \"5\", expected a token id, + or -, and a number"},
      {{"generate", "-m", "x", "-p", "a", "--logit-bias", "5+nan"}, "--logit-bias is \"5+nan\""},
      {{"generate", "-m", "x", "-p", "a", "--isa", "sse"},
       "--isa is \"sse\", expected one of auto, portable, avx2, avx512"},
      {{"generate", "-m", "x", "-p", "a", "--precision", "f64"},
       "--precision is \"f64\", expected one of fast, f32"},
      {{"generate", "-m", "x", "-p", "a", "-ctk", "q4"},
       "--cache-type-k is \"q4\", expected one of f32, f16, bf16, q8_0, f8e4m3"},
      {{"generate", "-m", "x", "-p", "a", "-ctv", "f64"}, "--cache-type-v is \"f64\""},
      {{"generate", "-m", "x", "-p", "a", "-ub", "0"}, "--ubatch-size is \"0\""},
      {{"generate", "-m", "x", "-p", "a", "-b", "0"}, "--batch-size is \"0\""},
      {{"generate", "-m", "x", "-p", "a", "--device", "gpu"},
       "--device is \"gpu\", expected cpu, cuda or cuda:N"},
      {{"generate", "-m", "x", "-p", "a", "--device", "cuda:x"}, "--device is \"cuda:x\""},
      {{"generate", "-m", "x", "-p", "a", "--attention", "nonsense"}, "--attention"},
      {{"generate", "-m", "x", "-p", "a", "--log-level", "loud"},
       "--log-level is \"loud\", expected one of trace, debug, info, warn, error, off"},
      {{"generate", "-m", "x", "-p", "a", "--logprobs", "3"}, "--logprobs needs --json"},
      {{"generate", "-m", "x", "-p", "a", "--system", "s"}, "--system needs --chat"},
      {{"generate", "-m", "x", "-p", "a", "--chat", "--no-bos"},
       "--no-bos and --chat exclude each other"},
      {{"score", "-m", "x"}, "no input is given, expected -f FILE"},
      {{"score", "-m", "x", "-f", "a", "--text", "b"}, "-f and --text name a file each"},
      {{"score", "-m", "x", "-f", "a", "--top", "3"}, "--top needs --json"},
      {{"bench", "-m", "x", "-p", "0", "-n", "0"}, "-p and -n are both 0"},
      {{"bench", "-m", "x", "-d", "0,,5"}, "--n-depth is \"\""},
      {{"bench", "-m", "x", "-d", "1024", "-c", "512"},
       "--ctx-size is 512, but the deepest test needs 1536"},
      {{"bench", "-m", "x", "-r", "0"}, "--repetitions is \"0\""},
      {{"bench"}, "expected one of -m FILE and --shape NAME, neither is given"},
      {{"bench", "-m", "x", "--shape", "llama3-8b"}, "both are given"},
      {{"bench", "--shape", "gpt"}, "--shape is \"gpt\", expected one of llama2-7b"},
      {{"bench", "-m", "x", "--weights", "q8_0"}, "--weights needs --shape"},
      {{"bench", "--shape", "llama3-8b", "--weights", "int3"}, "--weights is \"int3\""},
      {{"bench", "--shape", "smollm2-135m", "--weights", "q4_k"},
       "--weights: smollm2-135m has rows of 576 elements"},
      {{"bench", "--shape", "smollm2-135m", "--weights", "q4_0", "--attention",
        "tidal:keep=newline"},
       "random weights have no tokenizer"},
      {{"bench", "-m", "x", "--sequences", "0"}, "--sequences is \"0\""},
      {{"bench", "-m", "x", "--sequences", "9", "-b", "8"},
       "--sequences is 9, but a step takes only 8 rows"},
      {{"bench", "-m", "x", "--attention", "full,nope"}, "nope"},
      {{"tokenize", "-m", "x"}, "no prompt is given"},
      {{"inspect"}, "required"},
      {{"inspect", "x", "-c", "0x10"}, "--ctx-size is \"0x10\""},
      {{"completion", "tcsh"}, "\"tcsh\", expected one of bash, zsh, fish"},
  };
  for (const Case& c : cases) {
    const CliResult result = RunTidal(c.args);
    EXPECT_EQ(result.code, 2) << c.message;
    EXPECT_EQ(result.out, "") << c.message;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_THAT(result.err, StartsWith("tidal"));
    EXPECT_THAT(result.err, HasSubstr("--help"));
    ExpectOneLine(result.err);
  }
}

TEST(Cli, FailuresAreOneLineAndExitCodeOne) {
  const TestFolder folder;
  const std::string empty = folder.Write("empty.txt", "");
  const std::string not_gguf =
      folder.Write("not.gguf", "This is no model at all, but long enough.");
  const std::string bad_json = folder.Write("bad.json", "{\"tokens\": [1, 2");
  const std::string bad_id = folder.Write("id.json", "{\"tokens\": [1, 999999]}");
  const std::string no_list = folder.Write("list.json", "{\"tokens\": 5}");
  const std::string& model = TinyModel();
  struct Case {
    std::vector<std::string> args;
    const char* message;
  };
  const Case cases[] = {
      {{"generate", "-m", folder.File("none.gguf"), "-p", "a"}, "none.gguf"},
      {{"generate", "-m", not_gguf, "-p", "a"}, "not.gguf"},
      {{"generate", "-m", model, "-f", folder.File("none.txt")}, "none.txt: no such file"},
      {{"generate", "-m", model, "-f", folder.File("")}, "is a directory, expected a file"},
      {{"generate", "-m", model, "-p", "a", "--rope-scale", "4"},
       "--rope-scale is 4, expected --rope-scaling linear or yarn beside it"},
      {{"generate", "-m", model, "-p", "a", "-c", "100000", "--rope-scaling", "linear",
        "--rope-scale", "2"},
       "with --rope-scaling linear --rope-scale 2 takes at most"},
      {{"generate", "-m", model, "-p", "a", "--rope-scaling", "yarn"},
       "--rope-scale is 1, expected more than 1 and at most 1024"},
      {{"generate", "-m", model, "-p", "a", "--yarn-orig-ctx", "9"},
       "--yarn-orig-ctx is 9, expected --rope-scaling yarn beside it"},
      {{"generate", "-m", model, "-p", ""}, "the prompt is empty"},
      {{"generate", "-m", model, "-f", empty}, "the prompt is empty"},
      {{"generate", "-m", model, "-f", "-"}, "the prompt is empty"},
      {{"generate", "-m", model, "-p", "a", "--device", "cuda"}, "--device cuda"},
      {{"generate", "-m", model, "-p", "a", "-ctk", "f8e4m3"},
       "an f8e4m3 KV cache is for --device cuda; with --device cpu use f16, bf16, f32 or q8_0"},
      {{"generate", "-m", model, "-p", "a", "-ctv", "f8e4m3"}, "an f8e4m3 KV cache"},
      {{"generate", "-m", model, "-p", "a", "-c", "100000"}, "--ctx-size is 100000"},
      {{"generate", "-m", model, "-p", std::string(600, 'x')}, "the context holds 512"},
      {{"generate", "-m", model, "-p", "a", "--logit-bias", "999999+1"}, "999999"},
      {{"generate", "-m", model, "-p", "a", "-o", folder.File("no/such/dir.txt")},
       "dir.txt: cannot write"},
      {{"generate", "-m", model, "-p", "a", "-o", folder.File("")}, "Is a directory"},
      {{"score", "-m", model, "-f", bad_json}, "bad.json: is not valid JSON"},
      {{"score", "-m", model, "-f", bad_id}, "entry 1 of the tokens is 999999"},
      {{"score", "-m", model, "-f", no_list}, "list.json: expected {\"tokens\":[...]}"},
      {{"bench", "-m", model, "-p", "1024", "-n", "0"}, "--ctx-size is 1024"},
      {{"tokenize", "-m", not_gguf, "-p", "a"}, "not.gguf"},
      {{"tokenize", "-m", model, "--decode", "-p", "1 x"}, "entry 1 of the tokens is \"x\""},
      {{"inspect", folder.File("none.gguf")}, "none.gguf"},
  };
  for (const Case& c : cases) {
    const CliResult result = RunTidal(c.args);
    EXPECT_EQ(result.code, 1) << c.message;
    EXPECT_EQ(result.out, "") << c.message;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_THAT(result.err, StartsWith("tidal " + c.args[0] + ": "));
    ExpectOneLine(result.err);
  }
}

TEST(Cli, ValuesThatLookLikeFlagsStayValues) {
  const CliResult result = RunTidal({"tokenize", "-m", TinyModel(), "-p", "-ctk", "--json"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(RunTidal({"tokenize", "-m", TinyModel(), "-f", "-", "--json"}, "-ctk").out, result.out);
}

}  // namespace
}  // namespace tidal
