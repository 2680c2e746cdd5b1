// Real models, against token ids that llama.cpp gave. Each test skips loudly where the model's file
// is absent.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

std::filesystem::path ModelPath(const std::string& name) {
  const char* folder = std::getenv("TIDAL_MODELS_DIR");
  return std::filesystem::path(folder != nullptr ? folder : TIDAL_SOURCE_DIR "/models") /
         (name + ".gguf");
}

class TokenizerModelsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto path = ModelPath(GetParam());
    if (!std::filesystem::exists(path)) {
      GTEST_SKIP() << "NOT TESTED: there is no " << path
                   << " (TIDAL_MODELS_DIR says where models are)";
    }
    auto file = GgufFile::Open(path.string());
    ASSERT_TRUE(file.ok()) << file.status().message();
    auto tokenizer = Tokenizer::FromGguf(*file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_ = std::move(tokenizer).value();
  }

  // SmolLM2's vocabulary has no tokens for some bytes; such are left out of a text.
  std::string WithoutBytesThatHaveNoToken(const std::string& text) const {
    std::string kept;
    for (const char c : text) {
      if (!tokenizer_->Tokenize(std::string(1, c)).empty()) kept += c;
    }
    return kept;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerModelsTest, TokensEqualThoseOfLlamaCpp) {
  std::ifstream file(std::string(TIDAL_SOURCE_DIR "/tests/data/tokenizer/") + GetParam() +
                     ".tokens.json");
  const nlohmann::json data = nlohmann::json::parse(file);
  ASSERT_GE(data["tokenize"].size(), 15u);
  for (const auto& sample : data["tokenize"]) {
    const auto special =
        sample["parse_special"].get<bool>() ? SpecialTokens::kParse : SpecialTokens::kAsText;
    const auto text = sample["text"].get<std::string>();
    const std::vector<TokenId> tokens = tokenizer_->Tokenize(text, special);
    EXPECT_EQ(tokens, sample["ids"].get<std::vector<TokenId>>()) << sample["name"];
    EXPECT_EQ(tokenizer_->Detokenize(tokens, /*show_special=*/true), text) << sample["name"];
  }
}

TEST_P(TokenizerModelsTest, TextsComeBack) {
  std::mt19937 rng(12);
  for (int i = 0; i < 3000; ++i) {
    const std::string random =
        i % 2 == 0 ? RandomText(&rng, rng() % 80) : RandomBytes(&rng, rng() % 80);
    const std::vector<TokenId> tokens = tokenizer_->Tokenize(random);
    ASSERT_EQ(tokenizer_->Detokenize(tokens), WithoutBytesThatHaveNoToken(random)) << i;
    IncrementalDetokenizer detokenizer(*tokenizer_);
    std::string joined;
    for (const TokenId id : tokens) joined += detokenizer.Push(id);
    joined += detokenizer.Finish();
    if (i % 2 == 0 && WithoutBytesThatHaveNoToken(random) == random) {
      ASSERT_EQ(joined, random) << i;
    }
    ASSERT_EQ(ValidUtf8Prefix(joined), joined.size());
  }
}

TEST_P(TokenizerModelsTest, RandomTokensGiveValidUtf8) {
  std::mt19937 rng(13);
  for (int i = 0; i < 200; ++i) {
    IncrementalDetokenizer detokenizer(*tokenizer_, i % 2 == 0);
    for (int k = 0; k < 100; ++k) {
      const auto id = static_cast<TokenId>(rng() % static_cast<uint32_t>(tokenizer_->vocab_size()));
      const std::string piece = k < 99 ? detokenizer.Push(id) : detokenizer.Finish();
      ASSERT_EQ(ValidUtf8Prefix(piece), piece.size());
    }
  }
}

TEST_P(TokenizerModelsTest, KnowsItsSpecialTokens) {
  const auto only = [this](const char* text) {
    const std::vector<TokenId> tokens = tokenizer_->Tokenize(text);
    EXPECT_EQ(tokens.size(), 1u) << text;
    return tokens[0];
  };
  EXPECT_FALSE(tokenizer_->adds_bos());
  EXPECT_EQ(tokenizer_->eos(), only("<|im_end|>"));
  EXPECT_EQ(tokenizer_->newline(), only("\n"));
  EXPECT_TRUE(tokenizer_->IsEndOfGeneration(only("<|im_end|>")));
  EXPECT_TRUE(tokenizer_->IsEndOfGeneration(only("<|endoftext|>")));
  EXPECT_FALSE(tokenizer_->IsEndOfGeneration(only("<|im_start|>")));
  EXPECT_TRUE(tokenizer_->IsControl(only("<|im_start|>")));
  EXPECT_EQ(tokenizer_->TokenBytes(only("<|im_end|>")), "");
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizerModelsTest,
                         testing::Values("smollm2-135m", "qwen2.5-coder-0.5b",
                                         "qwen2.5-coder-1.5b"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::erase_if(name, [](char c) {
                             return !std::isalnum(static_cast<unsigned char>(c));
                           });
                           return name;
                         });

}  // namespace
}  // namespace tidal
