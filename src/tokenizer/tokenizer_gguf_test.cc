#include <cstdio>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "gguf/gguf_writer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

constexpr TokenId kAb = 256;
constexpr TokenId kBegin = 257;
constexpr TokenId kEnd = 258;
constexpr TokenId kStop = 259;

GgufWriter SmallModel() {
  GgufWriter writer;
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte)
    tokens.push_back(ByteAlphabetCharacter(static_cast<uint8_t>(byte)));
  std::vector<int32_t> types(256, 1);
  for (const char* text : {"ab", "<|begin|>", "<|finish|>", "<|stop|>"}) {
    tokens.push_back(text);
    types.push_back(types.size() == kAb ? 1 : 3);
  }
  writer.AddString("tokenizer.ggml.model", "gpt2");
  writer.AddString("tokenizer.ggml.pre", "qwen2");
  writer.AddStringArray("tokenizer.ggml.tokens", tokens);
  writer.AddArray("tokenizer.ggml.token_type", types);
  writer.AddStringArray("tokenizer.ggml.merges", {"a b"});
  writer.Add("tokenizer.ggml.bos_token_id", uint32_t{kBegin});
  writer.Add("tokenizer.ggml.eos_token_id", uint32_t{kEnd});
  writer.Add("tokenizer.ggml.eot_token_id", uint32_t{kStop});
  writer.Add("tokenizer.ggml.add_bos_token", true);
  return writer;
}

// The file is gone again when this returns: a tokenizer must not need it.
Result<std::unique_ptr<Tokenizer>> Load(const GgufWriter& writer, std::string* path) {
  *path = testing::TempDir() + "tokenizer_" + std::to_string(getpid()) + ".gguf";
  const Status written = writer.WriteFile(*path);
  EXPECT_TRUE(written.ok()) << written.message();
  auto file = GgufFile::Open(*path);
  std::remove(path->c_str());
  if (!file.ok()) return file.status();
  return Tokenizer::FromGguf(*file);
}

TEST(TokenizerGgufTest, ReadsAllKeys) {
  std::string path;
  const auto result = Load(SmallModel(), &path);
  ASSERT_TRUE(result.ok()) << result.status().message();
  const Tokenizer& tokenizer = **result;
  EXPECT_EQ(tokenizer.vocab_size(), 260);
  EXPECT_EQ(tokenizer.bos(), kBegin);
  EXPECT_EQ(tokenizer.eos(), kEnd);
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_TRUE(tokenizer.IsEndOfGeneration(kEnd));
  EXPECT_TRUE(tokenizer.IsEndOfGeneration(kStop));
  EXPECT_FALSE(tokenizer.IsEndOfGeneration(kBegin));
  EXPECT_EQ(tokenizer.Tokenize("ab12<|stop|>"),
            std::vector<TokenId>({kBegin, kAb, '1', '2', kStop}));
}

TEST(TokenizerGgufTest, SomeKeysMayBeMissing) {
  GgufWriter writer = SmallModel();
  for (const char* key :
       {"pre", "token_type", "bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token"}) {
    ASSERT_TRUE(writer.RemoveEntry(std::string("tokenizer.ggml.") + key)) << key;
  }
  std::string path;
  const auto result = Load(writer, &path);
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ((*result)->bos(), kNoToken);
  EXPECT_EQ((*result)->eos(), kNoToken);
  EXPECT_EQ((*result)->Tokenize("ab12"), std::vector<TokenId>({kAb, '1', '2'}));
}

struct BadKey {
  const char* key;
  std::function<void(GgufWriter*, const std::string& key)> put;  // in place of what was there
  StatusCode code;
  std::string message;  // a part of it
};

void PutNothing(GgufWriter*, const std::string&) {}
void PutString(GgufWriter* writer, const std::string& key) { writer->AddString(key, "x"); }
void PutNumber(GgufWriter* writer, const std::string& key) { writer->Add(key, int32_t{-1}); }
void PutNumbers(GgufWriter* writer, const std::string& key) {
  writer->AddArray(key, std::vector<float>{1, 2});
}
void PutStrings(GgufWriter* writer, const std::string& key) {
  writer->AddStringArray(key, {"x", "y"});
}

TEST(TokenizerGgufTest, BadKeysAreOneLineWithFileAndKey) {
  using enum StatusCode;
  const BadKey cases[] = {
      {"model", PutNothing, kCorrupt, "the key tokenizer.ggml.model is missing"},
      {"tokens", PutNothing, kCorrupt, "the key tokenizer.ggml.tokens is missing"},
      {"merges", PutNothing, kCorrupt, "the key tokenizer.ggml.merges is missing"},
      {"model", PutString, kUnsupported, "tokenizer.ggml.model is \"x\"; supported are: gpt2"},
      {"pre", PutString, kUnsupported, "supported are: gpt2"},
      {"model", PutNumber, kCorrupt, "tokenizer.ggml.model"},
      {"pre", PutNumber, kCorrupt, "tokenizer.ggml.pre"},
      {"tokens", PutNumbers, kCorrupt, "tokenizer.ggml.tokens"},
      {"tokens", PutString, kCorrupt, "tokenizer.ggml.tokens"},
      {"tokens", PutStrings, kCorrupt, "260 token types for 2 tokens"},
      {"merges", PutNumbers, kCorrupt, "tokenizer.ggml.merges"},
      {"merges", PutStrings, kCorrupt, "merge 0 is \"x\""},
      {"token_type", PutStrings, kCorrupt, "tokenizer.ggml.token_type"},
      {"bos_token_id", PutString, kCorrupt, "tokenizer.ggml.bos_token_id"},
      {"bos_token_id", PutNothing, kCorrupt, "the id of the BOS token is missing"},
      {"eos_token_id", PutNumber, kCorrupt, "tokenizer.ggml.eos_token_id"},
      {"eot_token_id", PutStrings, kCorrupt, "tokenizer.ggml.eot_token_id"},
      {"add_bos_token", PutString, kCorrupt, "tokenizer.ggml.add_bos_token"},
  };
  for (const BadKey& bad : cases) {
    GgufWriter writer = SmallModel();
    const std::string key = std::string("tokenizer.ggml.") + bad.key;
    ASSERT_TRUE(writer.RemoveEntry(key));
    bad.put(&writer, key);
    std::string path;
    const auto result = Load(writer, &path);
    ASSERT_FALSE(result.ok()) << key << ": " << bad.message;
    EXPECT_EQ(result.status().code(), bad.code) << result.status().message();
    EXPECT_NE(result.status().message().find(bad.message), std::string::npos)
        << result.status().message();
    EXPECT_NE(result.status().message().find(path), std::string::npos) << result.status().message();
    EXPECT_EQ(result.status().message().find('\n'), std::string::npos) << result.status().message();
  }
}

}  // namespace
}  // namespace tidal
