#include "tokenizer/bpe.h"

#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

#include "tokenizer/token_table.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

Bpe MakeBpe(const BpeVocab& vocab) {
  const TokenTable tokens = TokenTable::Create(vocab).value();
  const TokenIndex index = IndexTokens(vocab).value();
  return Bpe(MergeTable::Create(vocab, index).value(), tokens.byte_tokens());
}

std::vector<TokenId> Tokenize(const Bpe& bpe, std::string_view word) {
  BpeScratch scratch;
  std::vector<TokenId> tokens;
  bpe.Tokenize(word, &scratch, &tokens);
  return tokens;
}

std::vector<TokenId> Expected(const VocabForTest& vocab, std::string_view word) {
  std::vector<TokenId> tokens;
  for (const std::string& part : vocab.PlainBpe(word)) tokens.push_back(vocab.IdOf(part));
  return tokens;
}

TEST(BpeTest, LowestRankFirstAndLeftmostAmongEqualOnes) {
  VocabForTest vocab;
  const TokenId bc = vocab.AddMerge("b", "c");
  const TokenId ab = vocab.AddMerge("a", "b");
  const TokenId aa = vocab.AddMerge("a", "a");
  const Bpe bpe = MakeBpe(vocab.View("gpt2"));
  EXPECT_EQ(Tokenize(bpe, ""), std::vector<TokenId>());
  EXPECT_EQ(Tokenize(bpe, "x"), std::vector<TokenId>({'x'}));
  EXPECT_EQ(Tokenize(bpe, "abc"), std::vector<TokenId>({'a', bc}));
  EXPECT_EQ(Tokenize(bpe, "aab"), std::vector<TokenId>({'a', ab}));
  EXPECT_EQ(Tokenize(bpe, "aaa"), std::vector<TokenId>({aa, 'a'}));
}

// Lengths on both sides of where the algorithm changes.
TEST(BpeTest, EqualsTheDefinitionOnRandomVocabularies) {
  std::mt19937 rng(3);
  for (int round = 0; round < 40; ++round) {
    const VocabForTest vocab = VocabForTest::Random(&rng, 5 + rng() % 200);
    const Bpe bpe = MakeBpe(vocab.View("gpt2"));
    for (int i = 0; i < 60; ++i) {
      std::string word(1 + rng() % (i < 50 ? 70 : 400), 'a');
      for (char& c : word) c = "abcd"[rng() % 8 % 4];
      ASSERT_EQ(Tokenize(bpe, word), Expected(vocab, word)) << "round " << round << " " << word;
    }
  }
}

TEST(BpeTest, AScratchCanBeUsedAgain) {
  std::mt19937 rng(4);
  const VocabForTest vocab = VocabForTest::Random(&rng, 100);
  const Bpe bpe = MakeBpe(vocab.View("gpt2"));
  BpeScratch scratch;
  for (const size_t length : {200, 50, 33, 32, 300, 1}) {
    std::string word(length, 'a');
    for (char& c : word) c = "abc"[rng() % 3];
    std::vector<TokenId> tokens;
    bpe.Tokenize(word, &scratch, &tokens);
    EXPECT_EQ(tokens, Expected(vocab, word)) << length;
  }
}

TEST(BpeTest, LeavesOutBytesWithoutATokenAndMergesNothingAcrossThem) {
  VocabForTest vocab;
  const TokenId ab = vocab.AddMerge("a", "b");
  BpeVocab view = vocab.View("gpt2");
  view.tokens['x'] = "other";
  const Bpe bpe = MakeBpe(view);
  EXPECT_EQ(Tokenize(bpe, "axbabx"), std::vector<TokenId>({'a', 'b', ab}));
  const std::string many(100, 'x');
  EXPECT_EQ(Tokenize(bpe, many + "axb" + many + "ab"), std::vector<TokenId>({'a', 'b', ab}));
}

TEST(BpeTest, TheFirstOfTwoEqualMergesCounts) {
  VocabForTest vocab;
  const TokenId ab = vocab.AddMerge("a", "b");
  const TokenId bc = vocab.AddMerge("b", "c");
  BpeVocab view = vocab.View("gpt2");
  view.merges.push_back("a b");
  EXPECT_EQ(Tokenize(MakeBpe(view), "abcbc"), std::vector<TokenId>({ab, 'c', bc}));
}

}  // namespace
}  // namespace tidal
