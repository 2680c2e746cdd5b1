#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include "tokenizer/utf8.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

using Tokens = std::vector<TokenId>;
constexpr const char* kFamilies[] = {"gpt2", "llama-bpe", "qwen2", "smollm"};

std::unique_ptr<Tokenizer> Make(const BpeVocab& vocab) {
  auto tokenizer = Tokenizer::FromVocab(vocab);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

// Bytes, "ab", "he", "hell", "hello" by merges, and one token of each special type.
struct SmallVocab {
  VocabForTest tokens;
  TokenId ab = tokens.AddMerge("a", "b");
  TokenId he = tokens.AddMerge("h", "e");
  TokenId ll = tokens.AddMerge("l", "l");
  TokenId hell = tokens.AddMerge("he", "ll");
  TokenId begin = tokens.AddToken("<|begin|>", TokenType::kControl);
  TokenId end = tokens.AddToken("<|im_end|>", TokenType::kControl);
  TokenId call = tokens.AddToken("<tool_call>", TokenType::kUserDefined);
  TokenId unused = tokens.AddToken("[PAD1]", TokenType::kUnused);
  TokenId unknown = tokens.AddToken("<unk>", TokenType::kUnknown);
  TokenId byte = tokens.AddToken("<0x0a>", TokenType::kByte);
};

TEST(TokenizerTest, MergesWithinWordsOnly) {
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("gpt2"));
  EXPECT_EQ(tokenizer->Tokenize("hello"), Tokens({v.hell, 'o'}));
  EXPECT_EQ(tokenizer->Tokenize("ab h ell"), Tokens({v.ab, ' ', 'h', ' ', 'e', v.ll}));
  EXPECT_EQ(tokenizer->Tokenize(""), Tokens());
  EXPECT_EQ(tokenizer->newline(), '\n');
  EXPECT_EQ(tokenizer->Tokenize("\n"), Tokens({tokenizer->newline()}));
  EXPECT_EQ(tokenizer->vocab_size(), v.byte + 1);
}

TEST(TokenizerTest, ParsesSpecialTokensByType) {
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("gpt2"));
  EXPECT_EQ(tokenizer->Tokenize("a<|im_end|><unk>b<tool_call>"),
            Tokens({'a', v.end, v.unknown, 'b', v.call}));
  EXPECT_EQ(tokenizer->Tokenize("ab<tool_call>ab", SpecialTokens::kAsText),
            Tokens({v.ab, v.call, v.ab}));
  // As text they come back, and nothing but user-defined tokens is special.
  for (const char* text : {"<|im_end|>", "<unk>", "[PAD1]", "<0x0a>"}) {
    const Tokens tokens = tokenizer->Tokenize(text, SpecialTokens::kAsText);
    EXPECT_EQ(tokens.size(), std::string(text).size()) << text;
    EXPECT_EQ(tokenizer->Detokenize(tokens), text);
  }
  EXPECT_EQ(tokenizer->Tokenize("[PAD1]").size(), 6u);
  EXPECT_EQ(tokenizer->Tokenize("<0x0a>").size(), 6u);
}

TEST(TokenizerTest, ShowsSpecialTokensOnlyWhenAsked) {
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("gpt2"));
  const Tokens tokens = {v.begin, v.hell, 'o', ' ', v.call, v.unused, v.unknown, v.byte, v.end};
  EXPECT_EQ(tokenizer->Detokenize(tokens), "hello <tool_call>\n");
  EXPECT_EQ(tokenizer->Detokenize(tokens, true),
            "<|begin|>hello <tool_call>[PAD1]<unk>\n<|im_end|>");
  EXPECT_EQ(tokenizer->TokenBytes(v.end), "");
  EXPECT_EQ(tokenizer->TokenBytes(v.end, true), "<|im_end|>");
  EXPECT_TRUE(tokenizer->IsControl(v.end));
  EXPECT_TRUE(tokenizer->IsControl(v.unknown));
  EXPECT_FALSE(tokenizer->IsControl(v.call));
  EXPECT_FALSE(tokenizer->IsControl('a'));
}

TEST(TokenizerTest, ATokenOutsideTheAlphabetIsPlainText) {
  VocabForTest v;
  const TokenId id = v.AddToken("two words\n\xE4\xB8\xAD", TokenType::kNormal);
  EXPECT_EQ(Make(v.View("gpt2"))->TokenBytes(id), "two words\n\xE4\xB8\xAD");
}

TEST(TokenizerTest, AddsBosAsTheFileOrTheFamilySays) {
  const SmallVocab v;
  for (const std::string family : kFamilies) {
    for (const std::optional<bool> key :
         {std::optional<bool>(), std::optional(false), std::optional(true)}) {
      BpeVocab vocab = v.tokens.View(family);
      vocab.bos = static_cast<uint64_t>(v.begin);
      vocab.add_bos = key;
      const auto tokenizer = Make(vocab);
      const bool adds = key.value_or(family == "llama-bpe");
      EXPECT_EQ(tokenizer->bos(), v.begin);
      EXPECT_EQ(tokenizer->adds_bos(), adds) << family;
      EXPECT_EQ(tokenizer->Tokenize("a"), adds ? Tokens({v.begin, 'a'}) : Tokens({'a'})) << family;
      EXPECT_EQ(tokenizer->Tokenize("", SpecialTokens::kAsText),
                adds ? Tokens({v.begin}) : Tokens());
      EXPECT_EQ(tokenizer->Tokenize("a", SpecialTokens::kParse, AddBos::kNever), Tokens({'a'}));
    }
  }
}

TEST(TokenizerTest, WithoutABosTokenNoneIsAdded) {
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("llama-bpe"));
  EXPECT_EQ(tokenizer->bos(), kNoToken);
  EXPECT_EQ(tokenizer->eos(), kNoToken);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->Tokenize("a"), Tokens({'a'}));
}

TEST(TokenizerTest, KnowsTheEndsOfAGeneration) {
  SmallVocab v;
  const TokenId eot = v.tokens.AddToken("<|eot_id|>", TokenType::kUserDefined);
  BpeVocab vocab = v.tokens.View("gpt2");
  vocab.eos = static_cast<uint64_t>(v.begin);
  vocab.more_ends = {'x'};
  const auto tokenizer = Make(vocab);
  EXPECT_EQ(tokenizer->eos(), v.begin);
  for (const TokenId id : {v.begin, v.end, eot, TokenId{'x'}})
    EXPECT_TRUE(tokenizer->IsEndOfGeneration(id)) << id;
  for (const TokenId id : {v.call, v.unknown, TokenId{'a'}, kNoToken, TokenId{1 << 30}}) {
    EXPECT_FALSE(tokenizer->IsEndOfGeneration(id)) << id;
  }
}

// Some converters give added tokens the type of normal ones.
TEST(TokenizerTest, AnEndTextOfNormalTypeIsAnEndUnlessMergesMakeIt) {
  VocabForTest v;
  v.AddMerge("<", "/");
  v.AddMerge("s", ">");
  const TokenId html = v.AddMerge("</", "s>");
  const TokenId end = v.AddToken("<|endoftext|>", TokenType::kNormal);
  const TokenId unused = v.AddToken("<|end|>", TokenType::kUnused);
  const auto tokenizer = Make(v.View("gpt2"));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(end));
  EXPECT_TRUE(tokenizer->IsControl(end));
  EXPECT_EQ(tokenizer->Tokenize("<|endoftext|>"), Tokens({end}));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(html));
  EXPECT_EQ(tokenizer->TokenBytes(html), "</s>");
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(unused));
}

TEST(TokenizerTest, OnlyLlamaTakesWholeWordsAgainstTheMerges) {
  SmallVocab v;
  const TokenId hello = v.tokens.AddToken("hello", TokenType::kNormal);
  EXPECT_EQ(Make(v.tokens.View("llama-bpe"))->Tokenize("hello"), Tokens({hello}));
  EXPECT_EQ(Make(v.tokens.View("gpt2"))->Tokenize("hello"), Tokens({v.hell, 'o'}));
}

TEST(TokenizerTest, UsesByteTokensWhereTheAlphabetIsMissing) {
  VocabForTest v;
  const TokenId byte = v.AddToken("<0xFF>", TokenType::kByte);
  v.AddToken("<0x41>", TokenType::kByte);
  BpeVocab vocab = v.View("gpt2");
  vocab.tokens[0xFF] = "other";
  vocab.tokens[0xFE] = "another";
  vocab.tokens['\n'] = "third";
  const auto tokenizer = Make(vocab);
  EXPECT_EQ(tokenizer->Tokenize("A\xFF\xFE"
                                "B\n"),
            Tokens({'A', byte, 'B'}));
  EXPECT_EQ(tokenizer->newline(), kNoToken);
}

TEST(TokenizerTest, InvalidUtf8IsTokenizedByteByByte) {
  const SmallVocab v;
  for (const char* family : kFamilies) {
    const auto tokenizer = Make(v.tokens.View(family));
    EXPECT_EQ(tokenizer->Tokenize("ab\xE4\xB8"
                                  "ab\xFF"),
              Tokens({v.ab, 0xE4, 0xB8, v.ab, 0xFF}));
    EXPECT_EQ(tokenizer->Tokenize("\xED\xA0\x80"), Tokens({0xED, 0xA0, 0x80}));
  }
}

TEST(TokenizerTest, AnyBytesComeBack) {
  std::mt19937 rng(5);
  for (const char* family : kFamilies) {
    const auto tokenizer = Make(VocabForTest::Random(&rng, 60).View(family));
    for (int i = 0; i < 2000; ++i) {
      const std::string text =
          i % 2 == 0 ? RandomText(&rng, rng() % 60) : RandomBytes(&rng, rng() % 60);
      ASSERT_EQ(tokenizer->Detokenize(tokenizer->Tokenize(text)), text) << family << " " << i;
    }
  }
}

TEST(IncrementalDetokenizerTest, HoldsBackHalfCharacters) {
  const auto tokenizer = Make(SmallVocab().tokens.View("gpt2"));
  IncrementalDetokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.Push('a'), "a");
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Push(0x9F), "");
  EXPECT_EQ(detokenizer.Push(0x8C), "");
  EXPECT_EQ(detokenizer.Push(0x8D), "\xF0\x9F\x8C\x8D");
  EXPECT_EQ(detokenizer.Push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.Push(0xE4), "");
  EXPECT_EQ(detokenizer.Push('b'),
            "\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(detokenizer.Push(0xE4), "");
  EXPECT_EQ(detokenizer.Push(0xB8), "");
  EXPECT_EQ(detokenizer.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST(IncrementalDetokenizerTest, ShowsSpecialTokensOnlyWhenAsked) {
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("gpt2"));
  EXPECT_EQ(IncrementalDetokenizer(*tokenizer).Push(v.end), "");
  EXPECT_EQ(IncrementalDetokenizer(*tokenizer, true).Push(v.end), "<|im_end|>");
}

TEST(IncrementalDetokenizerTest, PiecesOfValidTextJoinToTheText) {
  std::mt19937 rng(6);
  const auto tokenizer = Make(VocabForTest::Random(&rng, 60).View("qwen2"));
  for (int i = 0; i < 500; ++i) {
    const std::string text = RandomText(&rng, rng() % 60);
    IncrementalDetokenizer detokenizer(*tokenizer);
    std::string joined;
    for (const TokenId id : tokenizer->Tokenize(text)) {
      const std::string piece = detokenizer.Push(id);
      ASSERT_EQ(ValidUtf8Prefix(piece), piece.size());
      joined += piece;
    }
    ASSERT_EQ(joined + detokenizer.Finish(), text);
  }
}

TEST(IncrementalDetokenizerTest, RandomTokensGiveValidUtf8) {
  std::mt19937 rng(7);
  const SmallVocab v;
  const auto tokenizer = Make(v.tokens.View("gpt2"));
  for (int i = 0; i < 500; ++i) {
    IncrementalDetokenizer detokenizer(*tokenizer, i % 2 == 0);
    for (int k = 0; k < 50; ++k) {
      const std::string piece =
          k < 49 ? detokenizer.Push(static_cast<TokenId>(rng() % static_cast<uint32_t>(v.byte + 1)))
                 : detokenizer.Finish();
      ASSERT_EQ(ValidUtf8Prefix(piece), piece.size());
    }
  }
}

TEST(TokenizerTest, ThreadsShareATokenizer) {
  std::mt19937 rng(8);
  const auto tokenizer = Make(VocabForTest::Random(&rng, 100).View("llama-bpe"));
  const std::string text = RandomText(&rng, 20000) + std::string(1000, 'a');
  const Tokens expected = tokenizer->Tokenize(text);
  std::vector<Tokens> results(4);
  std::vector<std::thread> threads;
  for (Tokens& result : results) threads.emplace_back([&] { result = tokenizer->Tokenize(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Tokens& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace tidal
