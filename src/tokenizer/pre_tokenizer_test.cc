#include "tokenizer/pre_tokenizer.h"

#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

std::vector<std::string> Words(const PreTokenizer& pre_tokenizer, std::string_view text) {
  WordScanner scanner(pre_tokenizer);
  std::vector<std::string> words;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = scanner.WordEnd(text, pos);
    words.emplace_back(text.substr(pos, end - pos));
    pos = end;
  }
  return words;
}

std::vector<std::string> Words(std::string_view name, std::string_view text) {
  return Words(PreTokenizer::Create(name).value(), text);
}

using Strings = std::vector<std::string>;

// Made by tests/data/tokenizer/make_words.py with another program.
TEST(PreTokenizerTest, CutsRandomTextsAsTheTokenizersPackageDoes) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/tokenizer/words.json");
  const nlohmann::json data = nlohmann::json::parse(file);
  ASSERT_GE(data["cases"].size(), 50u);
  for (const char* name : {"gpt2", "llama-bpe", "qwen2", "smollm"}) {
    const PreTokenizer compiled = PreTokenizer::Create(name).value();
    const PreTokenizer interpreted = PreTokenizer::Create(name, PreTokenizer::Jit::kNever).value();
    for (const auto& sample : data["cases"]) {
      const auto text = sample["text"].get<std::string>();
      const auto expected = sample["words"][name].get<Strings>();
      EXPECT_EQ(Words(compiled, text), expected) << name << ": " << sample["text"].dump();
      EXPECT_EQ(Words(interpreted, text), expected) << name << ": " << sample["text"].dump();
    }
  }
}

TEST(PreTokenizerTest, FamiliesDifferInDigitsAndApostrophes) {
  EXPECT_EQ(Words("gpt2", "a 1234 'S"), Strings({"a", " 1234", " '", "S"}));
  EXPECT_EQ(Words("smollm", "a 12'S"), Strings({"a", " ", "1", "2", "'", "S"}));
  EXPECT_EQ(Words("qwen2", "a 12x'S"), Strings({"a", " ", "1", "2", "x", "'S"}));
  EXPECT_EQ(Words("llama-bpe", "a 1234'S"), Strings({"a", " ", "123", "4", "'S"}));
}

TEST(PreTokenizerTest, MongolianVowelSeparatorIsNoSpace) {
  EXPECT_EQ(Words("gpt2", "\xE1\xA0\x8E!"), Strings({"\xE1\xA0\x8E!"}));
}

TEST(PreTokenizerTest, KnowsOtherNamesOfTheFamilies) {
  const std::string text = "I'LL 12345 go\n\n  on";
  EXPECT_EQ(Words("default", text), Words("gpt2", text));
  EXPECT_EQ(Words("gpt-2", text), Words("gpt2", text));
  EXPECT_EQ(Words("llama3", text), Words("llama-bpe", text));
  EXPECT_EQ(Words("llama-v3", text), Words("llama-bpe", text));
  EXPECT_EQ(Words("deepseek-r1-qwen", text), Words("qwen2", text));
}

TEST(PreTokenizerTest, OnlyLlamaAddsBosAndIgnoresMerges) {
  for (const char* name : {"gpt2", "qwen2", "smollm", "llama-bpe"}) {
    const PreTokenizer pre_tokenizer = PreTokenizer::Create(name).value();
    EXPECT_EQ(pre_tokenizer.adds_bos(), name == std::string("llama-bpe"));
    EXPECT_EQ(pre_tokenizer.ignores_merges(), name == std::string("llama-bpe"));
  }
}

TEST(PreTokenizerTest, AnUnknownNameListsTheKnownOnes) {
  const auto result = PreTokenizer::Create("tekken\n");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(result.status().message(),
            "the pre-tokenizer \"tekken\\n\" is not known; supported are: gpt2, gpt-2, default, "
            "llama-bpe, llama3, "
            "llama-v3, qwen2, deepseek-r1-qwen, smollm, tekken");
}

// More steps back than the library's default limit allows; the interpreter, which counts more of
// them, too.
TEST(PreTokenizerTest, AWordMayBeAsLongAsTheText) {
  constexpr size_t kSize = 12'000'000;
  const std::string spaces(kSize, ' ');
  for (const char* name : {"gpt2", "llama-bpe"}) {
    EXPECT_EQ(Words(name, spaces + "x"), Strings({std::string(kSize - 1, ' '), " x"})) << name;
  }
  const PreTokenizer interpreted = PreTokenizer::Create("qwen2", PreTokenizer::Jit::kNever).value();
  EXPECT_EQ(Words(interpreted, spaces + "x"), Strings({std::string(kSize - 1, ' '), " x"}));
}

}  // namespace
}  // namespace tidal
