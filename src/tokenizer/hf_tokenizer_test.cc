// tokenizer.json against the ids that the Python package tokenizers gives (tests/data/hf, made by
// tools/make_goldens.py).
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "hf/hf_folder.h"
#include "tokenizer/nfc.h"
#include "tokenizer/piece_speller.h"
#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

using OrderedJson = nlohmann::ordered_json;

const std::string kData = std::string(TIDAL_SOURCE_DIR) + "/tests/data/hf/";

OrderedJson ReadData(const std::string& name) {
  std::ifstream file(kData + name);
  return OrderedJson::parse(file);
}

struct Golden {
  const char* family;
  // Whether a space is put in front of texts in the way of GGUF files: always, and behind special
  // tokens too.
  bool prefixes_as_gguf = true;

  // Whether the family's GGUF file must give the same tokens. It cannot say that text is to be
  // normalised.
  bool GgufGivesTheSame(const std::string& text) const {
    if (ToNfc(text) != text) return false;
    if (prefixes_as_gguf) return true;
    const bool has_special = text.find("<s>") != std::string::npos ||
                             text.find("</s>") != std::string::npos ||
                             text.find("<unk>") != std::string::npos;
    return !has_special && !text.starts_with(' ') && !text.starts_with(kSpacePiece);
  }
};

class HfTokenizerTest : public testing::TestWithParam<Golden> {};

template <typename Includes>
void ExpectGoldenTokens(const Tokenizer& tokenizer, const OrderedJson& golden,
                        const Includes& includes) {
  const OrderedJson texts = ReadData("texts.json");
  const OrderedJson& cases = golden["texts"];
  ASSERT_EQ(texts.size(), cases.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    if (!includes(text)) continue;
    SCOPED_TRACE(texts[i].dump());
    const auto ids = cases[i]["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer.Tokenize(text, SpecialTokens::kParse, AddBos::kNever), ids);
    EXPECT_EQ(tokenizer.Tokenize(text), cases[i]["with_special"].get<std::vector<TokenId>>());
    EXPECT_EQ(tokenizer.Detokenize(ids), cases[i]["decoded"].get<std::string>());
  }
}

TEST_P(HfTokenizerTest, GivesTheOfficialTokens) {
  const std::string folder_path = kData + GetParam().family;
  const Result<HfFolder> folder = HfFolder::Open(folder_path);
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  const auto tokenizer = Tokenizer::FromHf(*folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const OrderedJson golden = ReadData(std::string(GetParam().family) + "/golden.json");
  ExpectGoldenTokens(**tokenizer, golden, [](const std::string&) { return true; });
}

TEST_P(HfTokenizerTest, TheGgufGivesTheSame) {
  const Result<GgufFile> file = GgufFile::Open(kData + GetParam().family + "/model.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto gguf = Tokenizer::FromGguf(*file);
  ASSERT_TRUE(gguf.ok()) << gguf.status().message();
  const OrderedJson golden = ReadData(std::string(GetParam().family) + "/golden.json");
  ExpectGoldenTokens(**gguf, golden,
                     [](const std::string& text) { return GetParam().GgufGivesTheSame(text); });
  const auto hf = Tokenizer::FromHf(*HfFolder::Open(kData + GetParam().family));
  ASSERT_TRUE(hf.ok());
  EXPECT_EQ((*hf)->vocab_size(), (*gguf)->vocab_size());
  EXPECT_EQ((*hf)->bos(), (*gguf)->bos());
  EXPECT_EQ((*hf)->eos(), (*gguf)->eos());
  EXPECT_EQ((*hf)->newline(), (*gguf)->newline());
  EXPECT_EQ((*hf)->adds_bos(), (*gguf)->adds_bos());
  for (TokenId id = 0; id < (*hf)->vocab_size(); ++id) {
    EXPECT_EQ((*hf)->TokenBytes(id, true), (*gguf)->TokenBytes(id, true)) << id;
    EXPECT_EQ((*hf)->IsControl(id), (*gguf)->IsControl(id)) << id;
    EXPECT_EQ((*hf)->IsEndOfGeneration(id), (*gguf)->IsEndOfGeneration(id)) << id;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, HfTokenizerTest,
                         testing::Values(Golden{"llama2-linear"}, Golden{"llama3"},
                                         Golden{"llama-yarn"}, Golden{"mistral", false},
                                         Golden{"mistral-nemo"}, Golden{"qwen2"}, Golden{"qwen3"}),
                         [](const auto& tested) {
                           std::string name = tested.param.family;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace tidal
