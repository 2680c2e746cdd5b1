// Files that people have: their numbers are those that another program reads.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "model/model_testing.h"

namespace tidal {
namespace {

std::string RealModel(const std::string& name) {
  const char* folder = std::getenv("TIDAL_MODELS_DIR");
  return (folder != nullptr ? std::string(folder) : std::string(TIDAL_SOURCE_DIR) + "/models") +
         "/" + name;
}

struct RealFile {
  const char* file;
  const char* architecture;
  int32_t num_layers, model_dim, ffn_dim, num_heads, num_kv_heads, head_dim, vocab_size,
      trained_seq_len;
  float rope_theta, rms_norm_eps;
  RopeStyle rope_style;
  bool tied, biases;
  int64_t parameters;
  DType embedding, output, first_q, first_v, first_down;
};

// As the Python package gguf prints these files.
constexpr RealFile kRealFiles[] = {
    {"smollm2-135m.gguf",
     "llama",
     30,
     576,
     1536,
     9,
     3,
     64,
     49152,
     8192,
     100000,
     1e-5F,
     RopeStyle::kInterleaved,
     true,
     false,
     134515008,
     DType::kQ8_0,
     DType::kQ8_0,
     DType::kQ4_1,
     DType::kQ4_1,
     DType::kQ4_1},
    {"qwen2.5-coder-0.5b.gguf",
     "qwen2",
     24,
     896,
     4864,
     14,
     2,
     64,
     151936,
     32768,
     1000000,
     1e-6F,
     RopeStyle::kHalf,
     false,
     true,
     630167424,
     DType::kQ5_0,
     DType::kQ8_0,
     DType::kQ5_0,
     DType::kQ8_0,
     DType::kQ6_K},
    {"qwen2.5-coder-1.5b.gguf",
     "qwen2",
     28,
     1536,
     8960,
     12,
     2,
     128,
     151936,
     32768,
     1000000,
     1e-6F,
     RopeStyle::kHalf,
     false,
     true,
     1777088000,
     DType::kQ4_K,
     DType::kQ6_K,
     DType::kQ4_K,
     DType::kQ6_K,
     DType::kQ6_K},
};

class RealFileTest : public testing::TestWithParam<RealFile> {};
INSTANTIATE_TEST_SUITE_P(Files, RealFileTest, testing::ValuesIn(kRealFiles), [](const auto& test) {
  std::string name = test.param.file;
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
});

TEST_P(RealFileTest, LoadsWithTheRightNumbers) {
  const RealFile& expected = GetParam();
  const std::string path = RealModel(expected.file);
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "SKIPPED: no " << path << " (set TIDAL_MODELS_DIR)";
  const Result<Model> model = Model::Load(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.architecture, expected.architecture);
  EXPECT_EQ(config.num_layers, expected.num_layers);
  EXPECT_EQ(config.model_dim, expected.model_dim);
  EXPECT_EQ(config.ffn_dim, expected.ffn_dim);
  EXPECT_EQ(config.num_heads, expected.num_heads);
  EXPECT_EQ(config.num_kv_heads, expected.num_kv_heads);
  EXPECT_EQ(config.head_dim, expected.head_dim);
  EXPECT_EQ(config.rope_dim, expected.head_dim);
  EXPECT_EQ(config.vocab_size, expected.vocab_size);
  EXPECT_EQ(config.trained_seq_len, expected.trained_seq_len);
  EXPECT_EQ(config.rope_theta, expected.rope_theta);
  EXPECT_EQ(config.rms_norm_eps, expected.rms_norm_eps);
  EXPECT_EQ(config.rope_style, expected.rope_style);
  EXPECT_TRUE(config.rope_freq_divisors.empty());
  EXPECT_EQ(config.gqa_ratio(), expected.num_heads / expected.num_kv_heads);
  EXPECT_EQ(model->num_parameters(), expected.parameters);
  const ModelWeights& weights = model->weights();
  EXPECT_EQ(weights.tied_output, expected.tied);
  EXPECT_EQ(weights.token_embd.dtype, expected.embedding);
  EXPECT_EQ(weights.output.dtype, expected.output);
  EXPECT_EQ(weights.output.data == weights.token_embd.data, expected.tied);
  ASSERT_EQ(weights.layers.size(), static_cast<size_t>(expected.num_layers));
  EXPECT_EQ(weights.layers[0].attn_q.dtype, expected.first_q);
  EXPECT_EQ(weights.layers[0].attn_v.dtype, expected.first_v);
  EXPECT_EQ(weights.layers[0].ffn_down.dtype, expected.first_down);
  for (const LayerWeights& layer : weights.layers) {
    EXPECT_EQ(layer.attn_q_bias.present(), expected.biases);
    EXPECT_EQ(layer.attn_k_bias.present(), expected.biases);
    EXPECT_EQ(layer.attn_v_bias.present(), expected.biases);
  }
  EXPECT_LE(model->weight_bytes(), static_cast<int64_t>(model->gguf()->file_bytes()));
  EXPECT_GE(model->weight_bytes(), static_cast<int64_t>(model->gguf()->file_bytes()) - (8 << 20));
}

}  // namespace
}  // namespace tidal
