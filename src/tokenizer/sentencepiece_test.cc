// GGUF files with the tokenizer of Llama 2 and Mistral, against the ids that the Python package
// sentencepiece gives (tests/data/tokenizer, made by tools/make_sentencepiece_fixtures.py), and
// their keys.
#include <cstdio>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

#include <nlohmann/json.hpp>

#include "gguf/gguf_writer.h"
#include "tokenizer/piece_speller.h"
#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

using Json = nlohmann::json;

constexpr TokenId kBegin = 1;

std::string Key(const std::string& name) { return "tokenizer.ggml." + name; }

GgufWriter WriterOf(const std::vector<std::string>& pieces, const std::vector<float>& scores,
                    const std::vector<int32_t>& types) {
  GgufWriter writer;
  writer.AddString(Key("model"), "llama");
  writer.AddString(Key("pre"), "default");
  writer.AddStringArray(Key("tokens"), pieces);
  writer.AddArray(Key("scores"), scores);
  writer.AddArray(Key("token_type"), types);
  writer.Add(Key("bos_token_id"), uint32_t{kBegin});
  writer.Add(Key("eos_token_id"), uint32_t{2});
  return writer;
}

// "ab", with a space before or without.
GgufWriter SmallModel() {
  const std::string space(kSpacePiece);
  return WriterOf({"<unk>", "<s>", "</s>", space, "a", "b", "ab", space + "ab"},
                  {0, 0, 0, -4, -5, -6, -1, -2}, {2, 3, 3, 1, 1, 1, 1, 1});
}

Result<std::unique_ptr<Tokenizer>> Load(const GgufWriter& writer) {
  const std::string path = testing::TempDir() + "pieces_" + std::to_string(getpid()) + ".gguf";
  const Status written = writer.WriteFile(path);
  EXPECT_TRUE(written.ok()) << written.message();
  auto tokenizer = Tokenizer::Open(path);
  std::remove(path.c_str());
  return tokenizer;
}

class SentencePieceModelTest : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceModelTest, GivesTheOfficialTokens) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/tokenizer/sentencepiece.json");
  const Json data = Json::parse(file);
  const Json& model = data["models"][GetParam()];
  GgufWriter writer = WriterOf(model["pieces"], model["scores"], model["types"]);
  writer.Add(Key("add_space_prefix"), model["add_space_prefix"].get<bool>());
  const auto tokenizer = Load(writer);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  ASSERT_GE(data["texts"].size(), 200u);
  ASSERT_EQ(model["ids"].size(), data["texts"].size());
  for (size_t i = 0; i < data["texts"].size(); ++i) {
    SCOPED_TRACE(data["texts"][i].dump());
    const auto text = data["texts"][i].get<std::string>();
    auto ids = model["ids"][i].get<std::vector<TokenId>>();
    EXPECT_EQ((*tokenizer)->Tokenize(text, SpecialTokens::kAsText, AddBos::kNever), ids);
    if (!model["decoded"].empty()) {
      EXPECT_EQ((*tokenizer)->Detokenize(ids), model["decoded"][i].get<std::string>());
    }
    ids.insert(ids.begin(), kBegin);
    EXPECT_EQ((*tokenizer)->Tokenize(text, SpecialTokens::kAsText), ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePieceModelTest,
                         testing::Values("bytes", "unknown", "bare"),
                         [](const auto& tested) { return tested.param; });

TEST(SentencePieceKeysTest, SpecialTokensAreFoundAndTextsBehindThemStartAnew) {
  const auto tokenizer = Load(SmallModel());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->bos(), kBegin);
  EXPECT_EQ((*tokenizer)->eos(), 2);
  EXPECT_TRUE((*tokenizer)->adds_bos());
  EXPECT_TRUE((*tokenizer)->IsEndOfGeneration(2));
  EXPECT_TRUE((*tokenizer)->IsControl(0));
  EXPECT_EQ((*tokenizer)->newline(), kNoToken);
  EXPECT_EQ((*tokenizer)->Tokenize("ab</s>ab ab"), std::vector<TokenId>({kBegin, 7, 2, 7, 7}));
  EXPECT_EQ((*tokenizer)->Detokenize(std::vector<TokenId>({kBegin, 7, 2, 7})), "ab ab");
  EXPECT_EQ((*tokenizer)->Tokenize(""), std::vector<TokenId>({kBegin}));
}

TEST(SentencePieceKeysTest, SomeKeysMayBeMissing) {
  GgufWriter writer = SmallModel();
  ASSERT_TRUE(writer.RemoveEntry(Key("bos_token_id")));
  ASSERT_TRUE(writer.RemoveEntry(Key("eos_token_id")));
  ASSERT_TRUE(writer.RemoveEntry(Key("pre")));
  auto tokenizer = Load(writer);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_FALSE((*tokenizer)->adds_bos());
  // The unknown token is known by its type, "</s>" as an end by its text.
  EXPECT_EQ((*tokenizer)->Tokenize("abxy"), std::vector<TokenId>({7, 0}));
  EXPECT_TRUE((*tokenizer)->IsEndOfGeneration(2));
  // Without types no token is unknown.
  ASSERT_TRUE(writer.RemoveEntry(Key("token_type")));
  tokenizer = Load(writer);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->Tokenize("abxy"), std::vector<TokenId>({7}));
}

TEST(SentencePieceKeysTest, KeysDecide) {
  GgufWriter writer = SmallModel();
  writer.Add(Key("add_bos_token"), false);
  writer.Add(Key("add_eos_token"), false);
  writer.Add(Key("add_space_prefix"), false);
  writer.Add(Key("remove_extra_whitespaces"), false);
  writer.Add(Key("unknown_token_id"), uint32_t{4});
  const auto tokenizer = Load(writer);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->Tokenize("ab abx"), std::vector<TokenId>({6, 7, 4}));
  EXPECT_EQ((*tokenizer)->Detokenize(std::vector<TokenId>({7, 6})), " abab");
}

TEST(SentencePieceKeysTest, BadKeysAreOneLineWithTheKey) {
  using enum StatusCode;
  struct BadKey {
    const char* key;
    std::function<void(GgufWriter*, const std::string& key)> put;
    StatusCode code;
    const char* message;  // a part of it
  };
  const auto nothing = [](GgufWriter*, const std::string&) {};
  const auto yes = [](GgufWriter* writer, const std::string& key) { writer->Add(key, true); };
  const auto text = [](GgufWriter* writer, const std::string& key) {
    writer->AddString(key, "t5");
  };
  const auto large = [](GgufWriter* writer, const std::string& key) {
    writer->Add(key, uint32_t{8});
  };
  const auto floats = [](GgufWriter* writer, const std::string& key) {
    writer->AddArray(key, std::vector<float>{1, 2});
  };
  const BadKey cases[] = {
      {"model", text, kUnsupported,
       "tokenizer.ggml.model is \"t5\"; supported are: gpt2 (byte-level BPE), llama "
       "(SentencePiece's BPE)"},
      {"scores", nothing, kCorrupt, "the key tokenizer.ggml.scores is missing"},
      {"scores", text, kCorrupt, "tokenizer.ggml.scores"},
      {"scores", floats, kCorrupt, "there are 2 token scores for 8 tokens"},
      {"unknown_token_id", large, kCorrupt, "the id of the unknown token is 8"},
      {"bos_token_id", large, kCorrupt, "the id of the BOS token is 8"},
      {"add_space_prefix", text, kCorrupt, "tokenizer.ggml.add_space_prefix"},
      {"add_eos_token", yes, kUnsupported, "tokenizer.ggml.add_eos_token is true"},
      {"remove_extra_whitespaces", yes, kUnsupported,
       "tokenizer.ggml.remove_extra_whitespaces is true"},
      {"precompiled_charsmap", text, kUnsupported, "tokenizer.ggml.precompiled_charsmap is set"},
  };
  for (const BadKey& bad : cases) {
    GgufWriter writer = SmallModel();
    writer.RemoveEntry(Key(bad.key));
    bad.put(&writer, Key(bad.key));
    const auto result = Load(writer);
    ASSERT_FALSE(result.ok()) << bad.message;
    EXPECT_EQ(result.status().code(), bad.code) << result.status().message();
    EXPECT_NE(result.status().message().find(bad.message), std::string::npos)
        << result.status().message();
    EXPECT_NE(result.status().message().find(".gguf"), std::string::npos)
        << result.status().message();
    EXPECT_EQ(result.status().message().find('\n'), std::string::npos) << result.status().message();
  }
}

TEST(SentencePieceKeysTest, NoMutantDoesHarm) {
  const std::vector<std::byte> whole = SmallModel().Build().bytes;
  const std::string path = testing::TempDir() + "mutant_" + std::to_string(getpid()) + ".gguf";
  std::mt19937 rng(17);
  int loaded = 0;
  constexpr int kMutants = 400;
  for (int i = 0; i < kMutants; ++i) {
    std::vector<std::byte> bytes = whole;
    for (int change = 0; change < 1 + i % 3; ++change)
      bytes[rng() % bytes.size()] ^= static_cast<std::byte>(1U << rng() % 8);
    ASSERT_TRUE(WriteWholeFile(path, bytes).ok());
    const auto tokenizer = Tokenizer::Open(path);
    if (!tokenizer.ok()) {
      EXPECT_EQ(tokenizer.status().message().find('\n'), std::string::npos) << i;
      continue;
    }
    ++loaded;
    for (const TokenId id : (*tokenizer)->Tokenize("ab </s>ab\xff b<s>"))
      EXPECT_LT(id, (*tokenizer)->vocab_size()) << i;
  }
  std::remove(path.c_str());
  EXPECT_GT(loaded, kMutants / 10);
  EXPECT_LT(loaded, kMutants);
}

}  // namespace
}  // namespace tidal
