// Texts that make quadratic algorithms hang for hours. There is nothing to measure: these tests
// end, or they do not.
#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

// Sanitizers make the same steps some twenty times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kMegabyte = 100'000;
#else
constexpr size_t kMegabyte = 1'000'000;
#endif
constexpr size_t kBytes = 2 * kMegabyte;

// Runs of one byte double up to 64 of them, as in the vocabularies of real models.
VocabForTest DoublingVocab() {
  VocabForTest vocab;
  for (const char c : {'a', ' ', '\n', '7', '<'}) {
    for (size_t length = 1; length <= 32; length *= 2) {
      vocab.AddMerge(std::string(length, c), std::string(length, c));
    }
  }
  vocab.AddToken(std::string(1000, '<') + ">", TokenType::kControl);
  for (int i = 0; i < 5000; ++i) {
    vocab.AddToken("<|special_" + std::to_string(i) + "|>", TokenType::kControl);
  }
  return vocab;
}

class LongTextTest : public testing::TestWithParam<const char*> {
 protected:
  void ExpectBack(const std::string& text, size_t most_tokens) {
    const auto tokenizer = Tokenizer::FromVocab(DoublingVocab().View(GetParam())).value();
    const std::vector<TokenId> tokens = tokenizer->Tokenize(text);
    EXPECT_LE(tokens.size(), most_tokens);
    // Not EXPECT_EQ, which would print both.
    EXPECT_TRUE(tokenizer->Detokenize(tokens, true) == text);
  }
};

TEST_P(LongTextTest, OneLetter) { ExpectBack(std::string(kBytes, 'a'), kBytes / 64 + 6); }
TEST_P(LongTextTest, Spaces) { ExpectBack(std::string(kBytes, ' '), kBytes / 64 + 6); }
TEST_P(LongTextTest, SpacesBeforeAWord) {
  ExpectBack(std::string(kBytes, ' ') + "x", kBytes / 64 + 8);
}
TEST_P(LongTextTest, Newlines) { ExpectBack(std::string(kBytes, '\n'), kBytes / 64 + 6); }
TEST_P(LongTextTest, Digits) { ExpectBack(std::string(kBytes, '7'), kBytes); }
TEST_P(LongTextTest, RandomBytes) {
  std::mt19937 rng(10);
  ExpectBack(RandomBytes(&rng, kBytes), kBytes);
}
TEST_P(LongTextTest, RandomLetters) {
  std::mt19937 rng(11);
  std::string text(kBytes, ' ');
  for (char& c : text) c = static_cast<char>('a' + rng() % 4);
  ExpectBack(text, kBytes);
}
TEST_P(LongTextTest, NewlinesAndSpacesByTurns) {
  std::string text;
  while (text.size() < kBytes) text += "\n  ";
  ExpectBack(text + "x", kBytes + 4);
}

INSTANTIATE_TEST_SUITE_P(Families, LongTextTest, testing::Values("llama-bpe", "smollm"),
                         [](const auto& family) {
                           return std::string(family.param) == "smollm" ? "SmolLm" : "Llama";
                         });

TEST(LongWordTest, TenMegabytesOfOneLetter) {
  const auto tokenizer = Tokenizer::FromVocab(DoublingVocab().View("llama-bpe")).value();
  const std::string text(10 * kMegabyte, 'a');
  EXPECT_TRUE(tokenizer->Detokenize(tokenizer->Tokenize(text)) == text);
}

TEST(LongSpecialTextTest, ManySpecialTokensAndAlmostSpecialOnes) {
  const auto tokenizer = Tokenizer::FromVocab(DoublingVocab().View("gpt2")).value();
  std::string text;
  size_t num_special = 0;
  while (text.size() < kBytes) {
    text += "<|special_" + std::to_string(num_special++ % 5000) + "|><|special_";
  }
  const std::vector<TokenId> tokens = tokenizer->Tokenize(text);
  EXPECT_TRUE(tokenizer->Detokenize(tokens, true) == text);
  EXPECT_EQ(std::count_if(tokens.begin(), tokens.end(),
                          [&](TokenId id) { return tokenizer->IsControl(id); }),
            static_cast<std::ptrdiff_t>(num_special));
  // Each position starts like the longest special token.
  const std::string near(kMegabyte / 20, '<');
  EXPECT_TRUE(tokenizer->Detokenize(tokenizer->Tokenize(near)) == near);
}

}  // namespace
}  // namespace tidal
