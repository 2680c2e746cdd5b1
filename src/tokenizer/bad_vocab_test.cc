// Vocabularies that no sound file has: each is one clear line, and nothing else happens.
#include <functional>
#include <gtest/gtest.h>
#include <string>

#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

struct BadVocab {
  std::string message;
  std::function<void(BpeVocab*)> spoil;
};

const BadVocab kBadVocabs[] = {
    {"the vocabulary has no tokens", [](BpeVocab* v) { *v = {.pre_tokenizer = "gpt2"}; }},
    {"token 7 is empty", [](BpeVocab* v) { v->tokens[7] = ""; }},
    {"the tokens 65 and 66 are both \"A\", expected each once",
     [](BpeVocab* v) { v->tokens[66] = "A"; }},
    {"there are 256 token types for 257 tokens, expected one type a token",
     [](BpeVocab* v) { v->types.pop_back(); }},
    {"there are 258 token types for 257 tokens, expected one type a token",
     [](BpeVocab* v) { v->types.push_back(1); }},
    {"token 3 has the type 7, expected 0 to 6", [](BpeVocab* v) { v->types[3] = 7; }},
    {"token 3 has the type -9223372036854775808, expected 0 to 6",
     [](BpeVocab* v) { v->types[3] = INT64_MIN; }},
    {"the byte token 3 is \"<0x-1>\", expected <0x00> to <0xFF>",
     [](BpeVocab* v) {
       v->types[3] = 6;
       v->tokens[3] = "<0x-1>";
     }},
    {"the byte token 3 is \"<0x1FF>\", expected <0x00> to <0xFF>",
     [](BpeVocab* v) {
       v->types[3] = 6;
       v->tokens[3] = "<0x1FF>";
     }},
    {"the byte token 3 is \"<0x\", expected <0x00> to <0xFF>",
     [](BpeVocab* v) {
       v->types[3] = 6;
       v->tokens[3] = "<0x";
     }},
    {"merge 1 is \"ab\", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back("ab"); }},
    {"merge 1 is \"\", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back(""); }},
    {"merge 1 is \" \", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back(" "); }},
    {"merge 1 is \" a\", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back(" a"); }},
    {"merge 1 is \"a \", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back("a "); }},
    {"merge 1 is \"a b c\", expected two tokens with one space between",
     [](BpeVocab* v) { v->merges.push_back("a b c"); }},
    {"merge 1 is \"xy a\", but \"xy\" is no token",
     [](BpeVocab* v) { v->merges.push_back("xy a"); }},
    {"merge 1 is \"a xy\\n\", but \"xy\\n\" is no token",
     [](BpeVocab* v) { v->merges.push_back("a xy\n"); }},
    {"merge 1 is \"a c\", but \"ac\" is no token", [](BpeVocab* v) { v->merges.push_back("a c"); }},
    {"the id of the BOS token is 257, expected less than the 257 tokens of the vocabulary",
     [](BpeVocab* v) { v->bos = 257; }},
    {"the id of the EOS token is 18446744073709551615, expected less than the 257 tokens of the "
     "vocabulary",
     [](BpeVocab* v) { v->eos = UINT64_MAX; }},
    {"the id of the end token is 4294967296, expected less than the 257 tokens of the vocabulary",
     [](BpeVocab* v) {
       v->more_ends = {1, uint64_t{1} << 32};
     }},
    {"a BOS token is to be added to each text, but the id of the BOS token is missing",
     [](BpeVocab* v) { v->add_bos = true; }},
};

VocabForTest OneMerge() {
  VocabForTest vocab;
  vocab.AddMerge("a", "b");
  return vocab;
}

TEST(BadVocabTest, EachIsOneClearLine) {
  const VocabForTest tokens = OneMerge();
  ASSERT_TRUE(Tokenizer::FromVocab(tokens.View("gpt2")).ok());
  for (const BadVocab& bad : kBadVocabs) {
    BpeVocab vocab = tokens.View("gpt2");
    bad.spoil(&vocab);
    const auto result = Tokenizer::FromVocab(vocab);
    ASSERT_FALSE(result.ok()) << bad.message;
    EXPECT_EQ(result.status().message(), bad.message);
    EXPECT_EQ(result.status().code(), StatusCode::kCorrupt);
  }
}

TEST(BadVocabTest, ALongSpecialTokenIsRefused) {
  VocabForTest tokens;
  tokens.AddToken(std::string(1025, '<'), TokenType::kControl);
  const auto result = Tokenizer::FromVocab(tokens.View("gpt2"));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().message(),
            "the special token 256 has 1025 bytes, expected at most 1024");
}

TEST(BadVocabTest, AnUnknownPreTokenizerIsUnsupported) {
  const auto result = Tokenizer::FromVocab(OneMerge().View("bloom"));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(result.status().message().find("supported are: gpt2"), std::string::npos);
}

// Bytes of the file may be anything; whatever is accepted must work.
TEST(BadVocabTest, RandomDamageNeverCrashes) {
  std::mt19937 rng(9);
  int num_accepted = 0;
  for (int i = 0; i < 2000; ++i) {
    const VocabForTest tokens = VocabForTest::Random(&rng, 20);
    BpeVocab vocab = tokens.View("llama-bpe");
    std::deque<std::string> owned;
    for (uint32_t k = 0; k < rng() % 4; ++k) {
      auto& texts = rng() % 2 == 0 ? vocab.tokens : vocab.merges;
      std::string_view& text = texts[rng() % texts.size()];
      owned.emplace_back(text);
      owned.back().insert(rng() % (text.size() + 1), RandomBytes(&rng, rng() % 3));
      text = owned.back();
    }
    if (rng() % 2 == 0) vocab.types[rng() % vocab.types.size()] = static_cast<int64_t>(rng() % 8);
    const auto result = Tokenizer::FromVocab(vocab);
    if (!result.ok()) {
      EXPECT_EQ(result.status().message().find('\n'), std::string::npos);
      continue;
    }
    ++num_accepted;
    const std::string text = RandomBytes(&rng, 50) + "abcabccbaabc";
    for (const TokenId id : (*result)->Tokenize(text)) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, (*result)->vocab_size());
    }
  }
  EXPECT_GT(num_accepted, 100);
  EXPECT_LT(num_accepted, 1900);
}

}  // namespace
}  // namespace tidal
