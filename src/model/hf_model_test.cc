// Models from Hugging Face folders: those of the official code (tests/data/hf) hold what their GGUF
// twins hold, and a GGUF written out as a folder is the same model.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

#include "hf/hf_folder.h"
#include "model/describe.h"
#include "model/model.h"
#include "model/model_hash.h"
#include "model/test_hf_folder.h"
#include "model/test_model.h"

namespace tidal {
namespace {

const std::string kData = std::string(TIDAL_SOURCE_DIR) + "/tests/data/hf/";

std::string TempFolder(const std::string& name) {
  const std::string folder =
      fmt::format("{}/tidal_hf_model_test_{}_{}", testing::TempDir(), getpid(), name);
  std::filesystem::remove_all(folder);
  return folder;
}

std::vector<float> RowOf(const TensorView& view, int64_t row) {
  std::vector<float> values(static_cast<size_t>(view.cols));
  DequantizeRow(view.dtype, view.data + row * BytesOf(view.dtype, view.cols), values.data(),
                view.cols);
  return values;
}

// `head_dim`: rows of each head stand in pairs in `a` and in halves in `b`.
void ExpectSameRows(const TensorView& a, const TensorView& b, int64_t head_dim = 0) {
  ASSERT_EQ(a.present(), b.present()) << a.name << " and " << b.name;
  if (!a.present()) return;
  ASSERT_EQ(a.rows, b.rows) << a.name;
  ASSERT_EQ(a.cols, b.cols) << a.name;
  for (int64_t row = 0; row < a.rows; ++row) {
    int64_t other = row;
    if (head_dim > 0) {
      const int64_t in_head = row % head_dim;
      other = row - in_head + in_head / 2 + (in_head % 2 == 1 ? head_dim / 2 : 0);
    }
    EXPECT_EQ(RowOf(a, row), RowOf(b, other)) << a.name << " row " << row;
  }
}

void ExpectSameWeights(const Model& gguf, const Model& hf) {
  const ModelWeights& a = gguf.weights();
  const ModelWeights& b = hf.weights();
  const bool in_pairs = gguf.config().rope_style == RopeStyle::kInterleaved;
  const int64_t head_dim = in_pairs ? gguf.config().head_dim : 0;
  EXPECT_EQ(a.tied_output, b.tied_output);
  ExpectSameRows(a.token_embd, b.token_embd);
  ExpectSameRows(a.output_norm, b.output_norm);
  ExpectSameRows(a.output, b.output);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i) {
    const LayerWeights& x = a.layers[i];
    const LayerWeights& y = b.layers[i];
    ExpectSameRows(x.attn_norm, y.attn_norm);
    ExpectSameRows(x.attn_q, y.attn_q, head_dim);
    ExpectSameRows(x.attn_k, y.attn_k, head_dim);
    ExpectSameRows(x.attn_v, y.attn_v);
    ExpectSameRows(x.attn_q_bias, y.attn_q_bias);
    ExpectSameRows(x.attn_k_bias, y.attn_k_bias);
    ExpectSameRows(x.attn_v_bias, y.attn_v_bias);
    ExpectSameRows(x.attn_q_norm, y.attn_q_norm);
    ExpectSameRows(x.attn_k_norm, y.attn_k_norm);
    ExpectSameRows(x.attn_output, y.attn_output);
    ExpectSameRows(x.ffn_norm, y.ffn_norm);
    ExpectSameRows(x.ffn_gate, y.ffn_gate);
    ExpectSameRows(x.ffn_up, y.ffn_up);
    ExpectSameRows(x.ffn_down, y.ffn_down);
  }
}

void ExpectSameConfig(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.num_layers, b.num_layers);
  EXPECT_EQ(a.model_dim, b.model_dim);
  EXPECT_EQ(a.ffn_dim, b.ffn_dim);
  EXPECT_EQ(a.num_heads, b.num_heads);
  EXPECT_EQ(a.num_kv_heads, b.num_kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.rope_dim, b.rope_dim);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.trained_seq_len, b.trained_seq_len);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.rope_theta, b.rope_theta);
  EXPECT_EQ(a.rope_attn_factor, b.rope_attn_factor);
  EXPECT_EQ(b.rope_style, RopeStyle::kHalf);
  ASSERT_EQ(a.rope_freq_divisors.size(), b.rope_freq_divisors.size());
  // The GGUF of the llama3 kind holds quotients of frequencies that were rounded to float32.
  constexpr float kRounding = 1e-6F;
  for (size_t i = 0; i < a.rope_freq_divisors.size(); ++i)
    EXPECT_NEAR(a.rope_freq_divisors[i] / b.rope_freq_divisors[i], 1, kRounding) << i;
}

class OfficialFolderTest : public testing::TestWithParam<const char*> {};

TEST_P(OfficialFolderTest, HoldsWhatItsGgufHolds) {
  const Result<Model> gguf = Model::Load(kData + GetParam() + "/model.gguf");
  ASSERT_TRUE(gguf.ok()) << gguf.status().message();
  const Result<Model> hf = Model::Load(kData + GetParam());
  ASSERT_TRUE(hf.ok()) << hf.status().message();
  ExpectSameConfig(gguf->config(), hf->config());
  ExpectSameWeights(*gguf, *hf);
  EXPECT_EQ(hf->gguf(), nullptr);
  EXPECT_EQ(hf->config().name, GetParam());
  EXPECT_EQ(Model::Load(kData + GetParam() + "/")->config().name, GetParam());
  EXPECT_EQ(*hf->ReadChatTemplate(), *gguf->ReadChatTemplate());
  EXPECT_EQ(ModelHash(*hf)->size(), 64u);
  EXPECT_NE(*ModelHash(*hf), *ModelHash(*gguf));
  const Result<std::string> text = DescribeModel(*hf, 0);
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("Hugging Face folder"), std::string::npos);
  EXPECT_NE(text->find("model.layers.1.mlp.down_proj.weight"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, OfficialFolderTest,
                         testing::Values("llama2-linear", "llama3", "llama-yarn", "mistral",
                                         "mistral-nemo", "qwen2", "qwen3"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(TestFolderTest, AGgufWrittenOutIsTheSameModel) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      SCOPED_TRACE(fmt::format("{} {}", architecture, NameOf(dtype)));
      const std::string folder = TempFolder("same");
      const std::string path = folder + "/model.gguf";
      std::filesystem::create_directories(folder);
      ASSERT_TRUE(WriteRandomModel(path, {.architecture = architecture,
                                          .embedding_dtype = DType::kF16,
                                          .tied_output = dtype == DType::kF16})
                      .ok());
      const Result<Model> gguf = Model::Load(path);
      ASSERT_TRUE(gguf.ok()) << gguf.status().message();
      ASSERT_TRUE(WriteTestFolder(*gguf, folder, {.dtype = dtype, .num_shards = 3}).ok());
      const Result<Model> hf = Model::Load(folder);
      ASSERT_TRUE(hf.ok()) << hf.status().message();
      ExpectSameConfig(gguf->config(), hf->config());
      if (dtype == DType::kF32) ExpectSameWeights(*gguf, *hf);
      EXPECT_EQ(hf->weights().layers[0].ffn_norm.dtype, DType::kF32);
      EXPECT_EQ(hf->weights().layers[0].ffn_gate.dtype, dtype);
      EXPECT_EQ(*hf->ReadChatTemplate(), *gguf->ReadChatTemplate());
      std::filesystem::remove_all(folder);
    }
  }
}

}  // namespace
}  // namespace tidal
