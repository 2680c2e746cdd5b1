// Vocabularies in the way of SentencePiece, from merges and from scores.
#include "tokenizer/piece_speller.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

// Owns the texts that a BpeVocab points into.
struct Pieces {
  std::vector<std::string> texts;
  std::vector<int64_t> types;
  std::vector<float> scores;

  TokenId Add(std::string text, float score, TokenType type = TokenType::kNormal) {
    texts.push_back(std::move(text));
    types.push_back(static_cast<int64_t>(type));
    scores.push_back(score);
    return static_cast<TokenId>(texts.size() - 1);
  }
  void AddBytes() {
    for (int byte = 0; byte < 256; ++byte)
      Add(fmt::format("<0x{:02X}>", byte), 0, TokenType::kByte);
  }
  BpeVocab View() const {
    BpeVocab vocab;
    vocab.spelling = TokenSpelling::kSentencePiece;
    vocab.tokens.assign(texts.begin(), texts.end());
    vocab.types = types;
    vocab.scores = scores;
    vocab.add_bos = false;
    return vocab;
  }
};

// The definition: of all neighbours that make a piece, the highest score first, and of equal ones
// the leftmost.
std::vector<std::string> PlainMerges(const Pieces& pieces, std::vector<std::string> parts) {
  std::map<std::string, float> scores;
  for (size_t i = 0; i < pieces.texts.size(); ++i) scores[pieces.texts[i]] = pieces.scores[i];
  while (true) {
    size_t best = parts.size();
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = scores.find(parts[i] + parts[i + 1]);
      if (found == scores.end()) continue;
      if (best == parts.size() || found->second > scores[parts[best] + parts[best + 1]]) best = i;
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(SentencePieceTest, ScoresMergeAsDefined) {
  std::mt19937 rng(11);
  const std::vector<std::string> letters = {"a", "b", std::string(kSpacePiece)};
  for (int round = 0; round < 30; ++round) {
    Pieces pieces;
    for (const std::string& letter : letters) pieces.Add(letter, -100);
    while (pieces.texts.size() < 40) {
      const std::string joined =
          pieces.texts[rng() % pieces.texts.size()] + pieces.texts[rng() % pieces.texts.size()];
      // Some scores are equal.
      if (std::ranges::find(pieces.texts, joined) == pieces.texts.end() && joined.size() < 20)
        pieces.Add(joined, -static_cast<float>(rng() % 16));
    }
    const auto tokenizer = Tokenizer::FromVocab(pieces.View());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (const size_t length : {1, 2, 7, 30, 33, 200}) {
      std::string text;
      std::vector<std::string> parts = {letters[2]};
      for (size_t i = 0; i < length; ++i) {
        parts.push_back(letters[rng() % 3]);
        text += parts.back() == letters[2] ? " " : parts.back();
      }
      std::vector<std::string> found;
      for (const TokenId id : (*tokenizer)->Tokenize(text))
        found.push_back(pieces.texts[static_cast<size_t>(id)]);
      EXPECT_EQ(found, PlainMerges(pieces, parts)) << text;
    }
  }
}

TEST(SentencePieceTest, CharactersWithoutATokenBecomeBytes) {
  Pieces pieces;
  pieces.AddBytes();
  const TokenId space = pieces.Add(std::string(kSpacePiece), -1);
  const TokenId a = pieces.Add("a", -1);
  const auto tokenizer = Tokenizer::FromVocab(pieces.View());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->Tokenize("a\u00e9 "),
            (std::vector<TokenId>{space, a, 0xc3, 0xa9, space}));
  // What is no UTF-8 is bytes as well, and a text may hold the space's own character.
  EXPECT_EQ((*tokenizer)->Tokenize("\xff\xe2\x96"),
            (std::vector<TokenId>{space, 0xff, 0xe2, 0x96}));
  EXPECT_EQ((*tokenizer)->Tokenize(kSpacePiece), (std::vector<TokenId>{space, space}));
  EXPECT_EQ((*tokenizer)->Tokenize(""), std::vector<TokenId>{});
  EXPECT_EQ((*tokenizer)->Detokenize(std::vector<TokenId>{space, a, 0xc3, 0xa9, space}),
            "a\u00e9 ");
  EXPECT_EQ((*tokenizer)->TokenBytes(space), " ");
  EXPECT_EQ((*tokenizer)->newline(), 0x0a);
}

TEST(SentencePieceTest, UnknownCharacters) {
  Pieces pieces;
  const TokenId unknown = pieces.Add("<unk>", 0, TokenType::kUnknown);
  const TokenId space = pieces.Add(std::string(kSpacePiece), -1);
  const TokenId a = pieces.Add("a", -1);
  BpeVocab vocab = pieces.View();
  const auto tokens_of = [&](std::string_view text) {
    return (*Tokenizer::FromVocab(vocab))->Tokenize(text);
  };
  EXPECT_EQ(tokens_of("xya"), (std::vector<TokenId>{space, a}));  // there is no token for them
  vocab.unknown = static_cast<uint64_t>(unknown);
  EXPECT_EQ(tokens_of("xya\u00e9"), (std::vector<TokenId>{space, unknown, a, unknown}));
  vocab.sentence_piece.fuses_unknown = false;
  EXPECT_EQ(tokens_of("xya"), (std::vector<TokenId>{space, unknown, unknown, a}));
}

TEST(SentencePieceTest, WhereASpaceIsPutInFront) {
  Pieces pieces;
  const TokenId mark = pieces.Add("<m>", 0, TokenType::kControl);
  const TokenId space = pieces.Add(std::string(kSpacePiece), -1);
  const TokenId a = pieces.Add("a", -1);
  BpeVocab vocab = pieces.View();
  const auto expect = [&](SpacePrefix prefix, std::string_view text,
                          const std::vector<TokenId>& ids) {
    vocab.sentence_piece.prefix = prefix;
    EXPECT_EQ((*Tokenizer::FromVocab(vocab))->Tokenize(text), ids) << text;
  };
  expect(SpacePrefix::kNever, "a<m>a", {a, mark, a});
  expect(SpacePrefix::kAlways, "a<m> a", {space, a, mark, space, space, a});
  expect(SpacePrefix::kUnlessThere, "a<m> a<m>a", {space, a, mark, space, a, mark, space, a});
  expect(SpacePrefix::kAtStartUnlessThere, "a<m>a", {space, a, mark, a});
  expect(SpacePrefix::kAtStartUnlessThere, "<m>a", {mark, a});
  expect(SpacePrefix::kAtStartUnlessThere, " a", {space, a});
}

TEST(SentencePieceTest, MergesMayEndAtSpaces) {
  Pieces pieces;
  const TokenId space = pieces.Add(std::string(kSpacePiece), -9);
  const TokenId a = pieces.Add("a", -9);
  const TokenId a_space = pieces.Add("a" + std::string(kSpacePiece), -1);
  BpeVocab vocab = pieces.View();
  EXPECT_EQ((*Tokenizer::FromVocab(vocab))->Tokenize("a a"),
            (std::vector<TokenId>{space, a_space, a}));
  vocab.sentence_piece.splits_at_spaces = true;
  EXPECT_EQ((*Tokenizer::FromVocab(vocab))->Tokenize("a a"),
            (std::vector<TokenId>{space, a, space, a}));
}

TEST(SentencePieceTest, BadScoresAreOneClearError) {
  Pieces pieces;
  pieces.Add("a", -1);
  BpeVocab vocab = pieces.View();
  vocab.scores = {1, 2};
  EXPECT_EQ(Tokenizer::FromVocab(vocab).status().message(),
            "there are 2 token scores for 1 tokens, expected one a token");
  vocab.scores = {std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(Tokenizer::FromVocab(vocab).status().message(), "the score of token 0 is not a number");
  vocab = pieces.View();
  vocab.unknown = 1;
  EXPECT_EQ(Tokenizer::FromVocab(vocab).status().code(), StatusCode::kCorrupt);
  const std::string long_text(100'000, 'a');
  vocab = pieces.View();
  vocab.tokens[0] = long_text;
  EXPECT_EQ(Tokenizer::FromVocab(vocab).status().code(), StatusCode::kCorrupt);
}

TEST(SentencePieceTest, ALongTextWithoutWordsTakesSeconds) {
  Pieces pieces;
  pieces.AddBytes();
  pieces.Add(std::string(kSpacePiece), -50);
  pieces.Add("a", -50);
  for (size_t length = 2; length <= 64; length *= 2)
    pieces.Add(std::string(length, 'a'), -static_cast<float>(length));
  const auto tokenizer = Tokenizer::FromVocab(pieces.View());
  ASSERT_TRUE(tokenizer.ok());
  const size_t length = size_t{1} << 20;
  EXPECT_EQ((*tokenizer)->Tokenize(std::string(length, 'a')).size(), length / 64 + 1);
}

}  // namespace
}  // namespace tidal
