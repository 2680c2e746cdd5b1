// Models of every family, from Hugging Face folders and from GGUF files, against the logits of the
// official code (tests/data/hf, made by tools/make_goldens.py); and a real model in both formats.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine_testing.h"
#include "model/test_hf_folder.h"
#include "reference_forward.h"

namespace tidal {
namespace {

const std::string kData = std::string(TIDAL_SOURCE_DIR) + "/tests/data/";

struct Golden {
  std::vector<int32_t> prompt;
  std::vector<size_t> positions;
  std::vector<std::vector<float>> logits;  // [positions][vocab_size]
};

Golden ReadGolden(const std::string& family) {
  std::ifstream text(kData + "hf/" + family + "/golden.json");
  const auto json = nlohmann::json::parse(text);
  Golden golden{json["prompt"], json["positions"], {}};
  const std::string path = kData + "hf/" + family + "/logits.f32";
  const size_t vocab_size =
      std::filesystem::file_size(path) / sizeof(float) / golden.positions.size();
  std::ifstream file(path, std::ios::binary);
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    auto& row = golden.logits.emplace_back(vocab_size);
    file.read(reinterpret_cast<char*>(row.data()),
              static_cast<std::streamsize>(vocab_size * sizeof(float)));
  }
  EXPECT_TRUE(file.good());
  return golden;
}

// The models have logits of size 1 to 10, two layers, and sums of at most 64 products; both sides
// (the official code, and the engine) round in float32, the angles of RoPE included.
constexpr double kTolerance = 4 * 1.2e-7 * 10 * 8;

// log-softmax of logits.
template <typename T>
std::vector<double> Logprobs(const std::vector<T>& logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const T value : logits) sum += std::exp(static_cast<double>(value) - largest);
  std::vector<double> logprobs;
  for (const T value : logits)
    logprobs.push_back(static_cast<double>(value) - largest - std::log(sum));
  return logprobs;
}

class OfficialLogitsTest : public testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  std::string family() const { return std::get<0>(GetParam()); }
  std::string path() const {
    return kData + "hf/" + family() + (std::get<1>(GetParam()) ? "/model.gguf" : "");
  }
};

TEST_P(OfficialLogitsTest, PlainCodeGivesThem) {
  const Result<Model> model = Model::Load(path());
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Golden golden = ReadGolden(family());
  const auto logits = ReferenceLogits(*model, golden.prompt);
  double worst = 0;
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    const auto& row = logits[golden.positions[i]];
    ASSERT_EQ(row.size(), golden.logits[i].size());
    for (size_t id = 0; id < row.size(); ++id)
      worst = std::max(worst, std::abs(row[id] - static_cast<double>(golden.logits[i][id])));
  }
  RecordProperty("worst_over_tolerance", std::to_string(worst / kTolerance));
  EXPECT_LE(worst, kTolerance);
  EXPECT_GT(worst, 0);
}

TEST_P(OfficialLogitsTest, TheEngineGivesThem) {
  const auto engine = Engine::Create({.model_path = path(),
                                      .num_threads = 2,
                                      .precision = Precision::kF32,
                                      .k_cache_type = CacheType::kF32,
                                      .v_cache_type = CacheType::kF32},
                                     nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const Golden golden = ReadGolden(family());
  const auto vocab_size = static_cast<int32_t>(golden.logits[0].size());
  const SequenceId sequence = (*engine)->OpenSequence().value();
  const Scores scores =
      ScorePrompt(engine->get(), sequence, golden.prompt, std::min(vocab_size, 100));
  double worst = 0;
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    const std::vector<double> expected = Logprobs(golden.logits[i]);
    const auto& top = scores.top[golden.positions[i]];
    ASSERT_FALSE(top.empty());
    EXPECT_NEAR(static_cast<double>(top[0].logprob),
                *std::max_element(expected.begin(), expected.end()), kTolerance);
    for (const TokenLogprob& entry : top) {
      worst = std::max(worst, std::abs(static_cast<double>(entry.logprob) -
                                       expected[static_cast<size_t>(entry.id)]));
    }
  }
  RecordProperty("worst_over_tolerance", std::to_string(worst / kTolerance));
  EXPECT_LE(worst, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Families, OfficialLogitsTest,
                         testing::Combine(testing::Values("llama2-linear", "llama3", "llama-yarn",
                                                          "mistral", "mistral-nemo", "qwen2",
                                                          "qwen3"),
                                          testing::Bool()),
                         [](const auto& tested) {
                           std::string name = std::get<0>(tested.param);
                           std::erase(name, '-');
                           return name + (std::get<1>(tested.param) ? "Gguf" : "Folder");
                         });

class SmolLm2FolderTest : public testing::Test {
 protected:
  SmolLm2FolderTest()
      : folder_(testing::TempDir() + "/tidal_smollm2_" + std::to_string(::getpid())) {}
  ~SmolLm2FolderTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

std::unique_ptr<Engine> F32Engine(const std::string& path) {
  auto engine = Engine::Create({.model_path = path,
                                .ctx_size = 256,
                                .num_threads = 2,
                                .precision = Precision::kF32,
                                .k_cache_type = CacheType::kF32,
                                .v_cache_type = CacheType::kF32},
                               nullptr);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return std::move(engine).value();
}

// Written out as F32, each weight is exactly what the GGUF's blocks stand for. Sums run in another
// order: through 30 layers, on logits of size 20.
TEST_F(SmolLm2FolderTest, GivesTheTokensAndLogitsOfTheGguf) {
  const std::optional<std::string> path = FindRealModel("smollm2-135m");
  if (!path) GTEST_SKIP() << "smollm2-135m.gguf is not there";
  {
    const Result<Model> model = Model::Load(*path);
    ASSERT_TRUE(model.ok()) << model.status().message();
    const Status status = WriteTestFolder(*model, folder_, {.num_shards = 4});
    ASSERT_TRUE(status.ok()) << status.message();
  }
  std::ifstream document(kData + "documents/skerrow.txt");
  std::stringstream text;
  text << document.rdbuf();
  std::vector<TokenId> prompt;
  Scores gguf_scores;
  std::vector<TokenId> all_tokens;
  {
    const auto gguf = F32Engine(*path);
    all_tokens = gguf->tokenizer().Tokenize(text.str());
    prompt.assign(all_tokens.begin(), all_tokens.begin() + 96);
    gguf_scores = ScorePrompt(gguf.get(), gguf->OpenSequence().value(), prompt, 5);
  }
  const auto hf = F32Engine(folder_);
  EXPECT_EQ(hf->tokenizer().Tokenize(text.str()), all_tokens);
  EXPECT_EQ(hf->tokenizer().eos(), hf->tokenizer().Tokenize("<|im_end|>")[0]);
  const Scores hf_scores = ScorePrompt(hf.get(), hf->OpenSequence().value(), prompt, 5);
  constexpr double kSmolLmTolerance = 8 * 1.2e-7 * 20 * 30;
  double worst = 0;
  for (size_t pos = 0; pos < prompt.size(); ++pos) {
    for (size_t i = 0; i < gguf_scores.top[pos].size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(gguf_scores.top[pos][i].logprob) -
                                       static_cast<double>(hf_scores.top[pos][i].logprob)));
    }
  }
  RecordProperty("worst_over_tolerance", std::to_string(worst / kSmolLmTolerance));
  std::printf("worst difference %.3g of %.3g\n", worst, kSmolLmTolerance);
  EXPECT_LE(worst, kSmolLmTolerance);
}

}  // namespace
}  // namespace tidal
