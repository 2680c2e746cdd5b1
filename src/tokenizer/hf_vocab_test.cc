// What tokenizer.json and the files beside it may hold, and one clear line for what they may not.
#include "tokenizer/hf_vocab.h"

#include <cstdio>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "gguf/gguf_writer.h"
#include "hf/mutate_for_test.h"
#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

using testing::HasSubstr;

const std::string kData = std::string(TIDAL_SOURCE_DIR) + "/tests/data/hf/";

// A copy of an official folder, whose JSON files can be changed.
class Folder {
 public:
  explicit Folder(const std::string& family)
      : path_(fmt::format("{}/tidal_hf_vocab_{}", testing::TempDir(), getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(kData + family, path_);
    tokenizer = *ReadJsonFile(path_ + "/tokenizer.json", kMaxConfigBytes);
    config = *ReadJsonFile(path_ + "/tokenizer_config.json", kMaxConfigBytes);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, std::string_view text) const {
    ASSERT_TRUE(WriteWholeFile(path_ + "/" + name, std::as_bytes(std::span(text))).ok());
  }
  void Remove(const std::string& name) const { std::filesystem::remove(path_ + "/" + name); }
  Result<std::unique_ptr<Tokenizer>> Load() const {
    Write("tokenizer.json", tokenizer.dump());
    Write("tokenizer_config.json", config.dump());
    return Read();
  }
  Result<std::unique_ptr<Tokenizer>> Read() const {
    return Tokenizer::FromHf(*HfFolder::Open(path_));
  }

  JsonValue tokenizer;
  JsonValue config;

 private:
  std::string path_;
};

void ExpectError(const Result<std::unique_ptr<Tokenizer>>& tokenizer, StatusCode code,
                 const std::vector<std::string>& parts) {
  ASSERT_FALSE(tokenizer.ok());
  const std::string& message = tokenizer.status().message();
  EXPECT_EQ(tokenizer.status().code(), code) << message;
  EXPECT_TRUE(IsOneClearLine(message)) << message;
  for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
}

struct Change {
  const char* name;
  const char* family;
  const char* place;  // a JSON pointer into tokenizer.json
  JsonValue value;
  StatusCode code;
  std::vector<std::string> parts;
};

class ChangeTest : public testing::TestWithParam<Change> {};

TEST_P(ChangeTest, IsOneClearError) {
  Folder folder(GetParam().family);
  folder.tokenizer[JsonValue::json_pointer(GetParam().place)] = GetParam().value;
  std::vector<std::string> parts = GetParam().parts;
  parts.push_back("tokenizer.json");
  ExpectError(folder.Load(), GetParam().code, parts);
}

std::vector<Change> Changes() {
  constexpr StatusCode kBad = StatusCode::kCorrupt;
  constexpr StatusCode kNo = StatusCode::kUnsupported;
  const JsonValue byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  const JsonValue other_split = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  return {
      {"Unigram", "qwen2", "/model/type", "Unigram", kNo, {"Unigram", "BPE"}},
      {"Dropout", "qwen2", "/model/dropout", 0.1, kNo, {"dropout"}},
      {"Prefix", "qwen2", "/model/continuing_subword_prefix", "##", kNo, {"##"}},
      {"VocabularyIsAList", "qwen2", "/model/vocab", JsonValue::array(), kBad, {"vocab"}},
      {"NegativeId", "qwen2", "/model/vocab/!", -1, kBad, {"\"!\" has the id -1"}},
      {"HugeId", "qwen2", "/model/vocab/!", 1 << 30, kBad, {"1073741824"}},
      {"ManyHoles", "qwen2", "/model/vocab/!", 4'000'000, kBad, {"no token"}},
      {"IdTwice", "qwen2", "/model/vocab/!", 5, kBad, {"the id 5 is of"}},
      {"MergeOfThree", "qwen2", "/model/merges/0", {"a", "b", "c"}, kBad, {"merge 0"}},
      {"MergeOfNoToken", "qwen2", "/model/merges/0", "qqq zzz", kBad, {"qqq", "no token"}},
      {"MergeIsANumber", "qwen2", "/model/merges/0", 4, kBad, {"merge 0 is 4"}},
      {"StrippingToken", "qwen2", "/added_tokens/0/lstrip", true, kNo, {"lstrip", "endoftext"}},
      {"WordToken", "qwen2", "/added_tokens/0/single_word", true, kNo, {"single_word"}},
      {"AddedTokenIsANumber", "qwen2", "/added_tokens/0", 1, kBad, {"added_tokens"}},
      {"AddedTokenIsEmpty", "qwen2", "/added_tokens/0/content", "", kBad, {"content"}},
      {"Lowercase", "qwen2", "/normalizer", {{"type", "Lowercase"}}, kNo, {"[Lowercase]"}},
      {"Nfkc", "qwen2", "/normalizer/type", "NFKC", kNo, {"[NFKC]", "NFC"}},
      {"NormalizerIsText", "qwen2", "/normalizer", "NFC", kBad, {"normalizer"}},
      {"PrefixSpace", "qwen2", "/pre_tokenizer", byte_level, kNo, {"add_prefix_space true"}},
      {"Whitespace", "qwen2", "/pre_tokenizer", {{"type", "Whitespace"}}, kNo, {"[Whitespace]"}},
      {"NoPreTokenizer", "qwen2", "/pre_tokenizer", nullptr, kNo, {"pre_tokenizer"}},
      {"UnknownPattern", "qwen2", "/pre_tokenizer", other_split, kNo, {"(a+)+$", "GPT-2"}},
      {"Bert", "qwen2", "/post_processor", {{"type", "BertProcessing"}}, kNo, {"BertProcessing"}},
      {"TokenBehind",
       "llama3",
       "/post_processor/processors/1/single/2",
       {{"SpecialToken", {{"id", "<|eot_id|>"}}}},
       kNo,
       {"one token in front"}},
      {"TemplateOfNoToken",
       "llama3",
       "/post_processor/processors/1/special_tokens",
       JsonValue::object(),
       kBad,
       {"begin_of_text"}},
      {"TemplateIdOutOfRange",
       "llama3",
       "/post_processor/processors/1/special_tokens/<|begin_of_text|>/ids",
       {999},
       kBad,
       {"BOS token is 999"}},
      {"WordPieceDecoder", "qwen2", "/decoder", {{"type", "WordPiece"}}, kNo, {"[WordPiece]"}},
      {"OtherPiece", "mistral", "/pre_tokenizer/replacement", "_", kNo, {"replacement is \"_\""}},
      {"OtherScheme", "mistral", "/pre_tokenizer/prepend_scheme", "last", kBad, {"last"}},
      {"OtherReplace", "llama2-linear", "/normalizer/normalizers/1/content", "_", kNo, {"Replace"}},
      {"OtherPrepend", "llama2-linear", "/normalizer/normalizers/0/prepend", "x", kNo, {"\"x\""}},
      {"StripTwo", "llama2-linear", "/decoder/decoders/3/start", 2, kBad, {"start is 2"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Json, ChangeTest, testing::ValuesIn(Changes()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(HfVocabTest, WithoutTokenizerJsonThereIsNone) {
  const Folder folder("qwen2");
  folder.Remove("tokenizer.json");
  ExpectError(folder.Read(), StatusCode::kNotFound, {"tokenizer.json", "no such file"});
}

TEST(HfVocabTest, SpecialTokensComeFromThreeFiles) {
  Folder folder("qwen2");
  folder.config["eos_token"] = {{"content", "<|im_start|>"}};  // the older form
  folder.Write("generation_config.json", R"({"eos_token_id": [1, 2]})");
  const auto tokenizer = folder.Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const TokenId start = (*tokenizer)->Tokenize("<|im_start|>")[0];
  EXPECT_EQ((*tokenizer)->eos(), start);
  for (const TokenId id : {1, 2, start}) EXPECT_TRUE((*tokenizer)->IsEndOfGeneration(id)) << id;
  EXPECT_FALSE((*tokenizer)->IsEndOfGeneration(3));
  folder.Write("generation_config.json", R"({"eos_token_id": 420})");
  ExpectError(folder.Read(), StatusCode::kCorrupt, {"420"});
  folder.Write("generation_config.json", R"({"eos_token_id": "x"})");
  ExpectError(folder.Read(), StatusCode::kCorrupt, {"generation_config.json", "eos_token_id"});
  folder.Remove("generation_config.json");
  folder.config["bos_token"] = "<|nothing|>";
  ExpectError(folder.Load(), StatusCode::kCorrupt, {"<|nothing|>", "no token"});
  folder.Remove("tokenizer_config.json");
  const auto plain = folder.Read();
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  EXPECT_EQ((*plain)->TokenBytes((*plain)->eos(), true), "<|im_end|>");
  EXPECT_EQ((*plain)->TokenBytes((*plain)->bos(), true), "<|endoftext|>");
}

TEST(HfVocabTest, LlamasClassesDecideAboutBos) {
  Folder folder("llama2-linear");
  EXPECT_TRUE((*folder.Load())->adds_bos());
  folder.config["add_bos_token"] = false;
  EXPECT_TRUE((*folder.Load())->adds_bos());
  folder.config["tokenizer_class"] = "LlamaTokenizerFast";
  EXPECT_FALSE((*folder.Load())->adds_bos());
  folder.config["add_eos_token"] = true;
  ExpectError(folder.Load(), StatusCode::kUnsupported, {"add_eos_token"});
}

TEST(HfVocabTest, IdsWithoutATokenAreUnused) {
  Folder folder("qwen2");
  folder.tokenizer["added_tokens"].push_back({{"id", 500}, {"content", "<far>"}});
  const auto tokenizer = folder.Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->vocab_size(), 501);
  EXPECT_EQ((*tokenizer)->TokenBytes(450), "");
  EXPECT_EQ((*tokenizer)->Tokenize("<far>"), std::vector<TokenId>{500});
  EXPECT_NE((*tokenizer)->Tokenize("<|unused 450|>"), std::vector<TokenId>{450});
}

class TokenizerMutationTest : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerMutationTest, NoMutantDoesHarm) {
  constexpr int kMutants = 250;
  Folder folder(GetParam());
  // A small vocabulary, so that most mutants hit what stands around it.
  JsonValue& model = folder.tokenizer["model"];
  model["merges"] =
      JsonValue(std::vector<JsonValue>(model["merges"].begin(), model["merges"].begin() + 10));
  JsonMutator mutator(folder.tokenizer.dump(), 3);
  int loaded = 0;
  for (int i = 0; i < kMutants; ++i) {
    const std::string text = mutator.Next();
    folder.Write("tokenizer.json", text.empty() ? " " : text);
    const auto tokenizer = folder.Read();
    if (!tokenizer.ok()) {
      EXPECT_TRUE(IsOneClearLine(tokenizer.status().message())) << tokenizer.status().message();
      continue;
    }
    ++loaded;
    const std::string sample = "  The caf\u00e9 \xff 12345 <|im_end|></s>\n\n ";
    const std::vector<TokenId> ids = (*tokenizer)->Tokenize(sample);
    EXPECT_LE(ids.size(), 2 * sample.size());
    (void)(*tokenizer)->Detokenize(ids, true);
  }
  std::printf("%d mutants: %d loaded\n", kMutants, loaded);
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, kMutants);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerMutationTest,
                         testing::Values("llama2-linear", "llama3", "llama-yarn", "mistral",
                                         "qwen3"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace tidal
