// Models whose matrices are of the types that are widened when they are loaded, through the whole
// engine, against plain double-precision code that reads the blocks as the file has them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

#include "base/float16.h"
#include "engine/engine.h"
#include "engine_testing.h"
#include "model/test_model.h"
#include "quant/quant_blocks.h"
#include "reference_forward.h"

namespace tidal {
namespace {

// Logits reach about 10, and a row of products goes through two layers of seven matrices and the
// output, whose errors add up as the square root of their number. Each matrix may be off by...
const double kSpread = 10 * std::sqrt(15.0);
const double kF32Tolerance = kSpread * 16 * 1.2e-7;       // roundings of float32 sums
const double kRoundedTolerance = kSpread * 0x1p-11;       // weights or scales rounded to f16
const double kActivationTolerance = kSpread * 2 / 127.0;  // steps of activations of 8 bits

constexpr TestModelSpec kSpec = {.model_dim = 256,
                                 .ffn_dim = 512,
                                 .num_heads = 8,
                                 .num_kv_heads = 2,
                                 .head_dim = 32,
                                 .dtype = DType::kQ8_0};

void SetScales(BlockQ5_1* block, float d) {
  block->d = F32ToF16(d);
  block->m = F32ToF16(-15.5F * d);
}
void SetScales(BlockQ2_K* block, float d) {
  block->d = F32ToF16(d);
  block->dmin = F32ToF16(1.5F * d);
}
template <typename Block>
void SetScales(Block* block, float d) {
  block->d = F32ToF16(d);
}

// `count` blocks of random codes whose elements have about the mean 0.
template <typename Block>
std::vector<std::byte> RandomBlocks(size_t count, float d, std::mt19937* rng) {
  std::vector<std::byte> bytes(count * sizeof(Block));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>((*rng)());
  for (size_t i = 0; i < count; ++i) {
    Block block;
    std::memcpy(&block, bytes.data() + i * sizeof(Block), sizeof(Block));
    SetScales(&block, d * (0.5F + static_cast<float>((*rng)() % 1024) / 1024));
    std::memcpy(bytes.data() + i * sizeof(Block), &block, sizeof(Block));
  }
  return bytes;
}

std::vector<std::byte> RandomBlocks(DType dtype, int64_t elements, float d, std::mt19937* rng) {
  const auto count = static_cast<size_t>(elements / InfoOf(dtype).quant_block_size);
  switch (dtype) {
    case DType::kQ5_1:
      return RandomBlocks<BlockQ5_1>(count, d, rng);
    case DType::kQ2_K:
      return RandomBlocks<BlockQ2_K>(count, d, rng);
    case DType::kQ3_K:
      return RandomBlocks<BlockQ3_K>(count, d, rng);
    case DType::kIQ4_NL:
      return RandomBlocks<BlockIQ4_NL>(count, d, rng);
    case DType::kIQ4_XS:
      return RandomBlocks<BlockIQ4_XS>(count, d, rng);
    default:
      TIDAL_CHECK(false, "{}", NameOf(dtype));
  }
}

float Deviation(DType dtype, const std::vector<std::byte>& bytes, int64_t elements) {
  std::vector<float> values(static_cast<size_t>(elements));
  DequantizeRow(dtype, bytes.data(), values.data(), elements);
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  return static_cast<float>(std::sqrt(squares / static_cast<double>(elements)));
}

// The model of kSpec with every matrix of `dtype`, of the same deviation as before.
GgufWriter ModelOf(DType dtype) {
  const std::string path = testing::TempDir() + "rarer_base_" + std::to_string(getpid()) + ".gguf";
  GgufWriter writer = BuildRandomModel(kSpec);
  EXPECT_TRUE(writer.WriteFile(path).ok());
  const Result<Model> base = Model::Load(path);
  std::filesystem::remove(path);
  EXPECT_TRUE(base.ok());
  std::mt19937 rng(29);
  base->ForEachWeight([&](const TensorView& view) {
    if (view.dtype == DType::kF32) return;
    const int64_t elements = view.rows * view.cols;
    const std::vector<std::byte> old(view.data, view.data + view.bytes());
    std::mt19937 copy = rng;
    const auto unit = RandomBlocks(dtype, elements, 1, &copy);
    const float d = Deviation(view.dtype, old, elements) / Deviation(dtype, unit, elements);
    EXPECT_TRUE(writer.RemoveTensor(view.name));
    writer.AddTensor(view.name, InfoOf(dtype).ggml_type, {view.cols, view.rows},
                     RandomBlocks(dtype, elements, d, &rng));
  });
  return writer;
}

// The largest difference between log-probabilities and those of plain code, over a whole prompt.
double WorstDifference(const std::string& path, Precision precision) {
  const Result<Model> model = Model::Load(path);
  EXPECT_TRUE(model.ok()) << model.status().message();
  if (!model.ok()) return INFINITY;
  const auto engine = Engine::Create({.model_path = path,
                                      .num_threads = 2,
                                      .precision = precision,
                                      .k_cache_type = CacheType::kF32,
                                      .v_cache_type = CacheType::kF32},
                                     nullptr);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  if (!engine.ok()) return INFINITY;
  // The embedding stays in the file; the kernels' layout takes up to 3 % more.
  const auto kept =
      static_cast<double>(model->weight_bytes() - model->weights().token_embd.kept_bytes());
  EXPECT_NEAR(static_cast<double>((*engine)->memory().weight_bytes), kept, 0.03 * kept);
  std::vector<TokenId> prompt;
  for (TokenId i = 0; i < 24; ++i) prompt.push_back(3 + 37 * i % 250);
  const auto expected = ReferenceLogits(*model, prompt);
  const Scores scores = ScorePrompt(engine->get(), (*engine)->OpenSequence().value(), prompt, 100);
  double worst = 0;
  for (size_t pos = 0; pos < prompt.size(); ++pos) {
    const std::vector<double>& logits = expected[pos];
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit - largest);
    for (const TokenLogprob& entry : scores.top[pos]) {
      const double logprob = logits[static_cast<size_t>(entry.id)] - largest - std::log(sum);
      worst = std::max(worst, std::abs(static_cast<double>(entry.logprob) - logprob));
    }
  }
  return worst;
}

class RarerTypesTest : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DType, RarerTypesTest,
                         testing::Values(DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kIQ4_NL,
                                         DType::kIQ4_XS),
                         [](const auto& test) { return std::string(NameOf(test.param)); });

TEST_P(RarerTypesTest, TheEngineGivesThePlainLogits) {
  const std::string path = testing::TempDir() + "rarer_" + std::to_string(getpid()) + ".gguf";
  ASSERT_TRUE(ModelOf(GetParam()).WriteFile(path).ok());
  const bool exact = GetParam() != DType::kQ2_K && GetParam() != DType::kIQ4_XS;
  EXPECT_LE(WorstDifference(path, Precision::kF32), exact ? kF32Tolerance : kRoundedTolerance);
  // Weights kept as F16 meet activations of full precision.
  EXPECT_LE(WorstDifference(path, Precision::kFast),
            GetParam() == DType::kQ2_K ? kRoundedTolerance : kActivationTolerance);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tidal
