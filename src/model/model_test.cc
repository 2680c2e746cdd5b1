// Models of random weights: loaded, they are what they were made of.
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "model/model_testing.h"
#include "model/rope_scaling.h"

namespace tidal {
namespace {

class EveryShapeTest : public testing::TestWithParam<std::tuple<const char*, DType>> {};
INSTANTIATE_TEST_SUITE_P(Shapes, EveryShapeTest,
                         testing::Combine(testing::Values("llama", "qwen2"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16,
                                                          DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                                          DType::kQ8_0, DType::kQ4_K, DType::kQ5_K,
                                                          DType::kQ6_K, DType::kQ5_1)),
                         [](const auto& test) {
                           return fmt::format("{}_{}", std::get<0>(test.param),
                                              NameOf(std::get<1>(test.param)));
                         });

TEST_P(EveryShapeTest, ARandomModelLoadsAndItsWeightsAreFinite) {
  const auto [architecture, dtype] = GetParam();
  const TestModelSpec spec{.architecture = architecture,
                           .model_dim = 256,
                           .ffn_dim = 512,
                           .num_heads = 8,
                           .num_kv_heads = 2,
                           .head_dim = 32,
                           .dtype = dtype};
  const std::string path = TempPath("random.gguf");
  ASSERT_TRUE(WriteRandomModel(path, spec).ok());
  const Result<Model> model = Model::Load(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().head_dim, 32);
  EXPECT_EQ(model->config().vocab_size, TestTokenizerVocabSize());
  for (const LayerWeights& layer : model->weights().layers) {
    EXPECT_EQ(layer.attn_q_bias.present(), std::string(architecture) == "qwen2");
    for (const TensorView* view :
         {&layer.attn_q, &layer.attn_v, &layer.attn_output, &layer.ffn_down}) {
      EXPECT_EQ(view->dtype, dtype);
      std::vector<float> row(static_cast<size_t>(view->cols));
      double squares = 0;
      for (int64_t r = 0; r < view->rows; ++r) {
        DequantizeRow(dtype, view->data + r * BytesOf(dtype, view->cols), row.data(), view->cols);
        for (const float x : row) squares += double{x} * x;
      }
      // Elements of variance 1/cols, so the sum is near the number of rows: 8192 draws or more,
      // whose mean square is off by sqrt(2/8192) = 1.6 %, plus rounding to 4 bits (a step of a
      // quarter of the deviation or so: 1 %).
      EXPECT_NEAR(squares / static_cast<double>(view->rows), 1, 0.05) << view->name;
    }
  }
}

TEST(RandomModelTest, TheSameSeedGivesTheSameBytesAndAnotherSeedOthers) {
  const std::vector<std::byte> first = BuildRandomModel({}).Build().bytes;
  EXPECT_EQ(first, BuildRandomModel({}).Build().bytes);
  EXPECT_NE(first, BuildRandomModel({.seed = 2}).Build().bytes);
}

TEST(RandomModelTest, TiedOutputAndALargerVocabulary) {
  const Result<Model> model =
      LoadChanged({.vocab_size = 400, .embedding_dtype = DType::kQ8_0, .tied_output = true},
                  [](GgufWriter*) {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE(model->weights().tied_output);
  EXPECT_EQ(model->weights().output.data, model->weights().token_embd.data);
  EXPECT_EQ(model->weights().output.dtype, DType::kQ8_0);
  EXPECT_EQ(model->config().vocab_size, 400);
  // Embedding and norm, then per layer two norms, four attention and three feed-forward matrices.
  EXPECT_EQ(model->num_parameters(),
            400 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96));
  EXPECT_EQ(model->weight_bytes(), 400 * 68 + 4 * (model->num_parameters() - 400 * 64));
}

TEST(RandomModelTest, RopeDivisorsComeFromBothSources) {
  std::vector<float> freqs(8);
  for (size_t i = 0; i < freqs.size(); ++i) freqs[i] = 1 + static_cast<float>(i);
  const Result<Model> llama3 = LoadChanged({.rope_freqs = freqs}, [](GgufWriter*) {});
  ASSERT_TRUE(llama3.ok()) << llama3.status().message();
  EXPECT_EQ(llama3->config().rope_freq_divisors, freqs);
  const Result<Model> linear = LoadChanged({.linear_rope_factor = 4.0F}, [](GgufWriter*) {});
  ASSERT_TRUE(linear.ok()) << linear.status().message();
  EXPECT_EQ(linear->config().rope_freq_divisors, std::vector<float>(8, 4.0F));
  const Result<Model> old_name =
      LoadChanged({}, [](GgufWriter* writer) { writer->Add("llama.rope.scale_linear", 2.0F); });
  ASSERT_TRUE(old_name.ok()) << old_name.status().message();
  EXPECT_EQ(old_name->config().rope_freq_divisors, std::vector<float>(8, 2.0F));
}

TEST(RandomModelTest, YarnKeysReachTheConfiguration) {
  const Result<Model> model =
      LoadChanged({.trained_seq_len = 4096, .yarn_rope_factor = 4.0F}, [](GgufWriter* writer) {
        writer->Add("llama.rope.scaling.attn_factor", 0.5F);
        writer->Add("llama.rope.scaling.yarn_beta_fast", 16.0F);
        writer->Add("llama.rope.scaling.yarn_beta_slow", 2.0F);
      });
  ASSERT_TRUE(model.ok()) << model.status().message();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.trained_seq_len, 4 * 4096);
  EXPECT_FLOAT_EQ(config.rope_attn_factor, 0.5F * 1.1386294F);
  // 8 pairs of the base 10000: pair 2 turns 65 times within 4096 tokens, pair 6 turns 0.65 times.
  EXPECT_EQ(config.rope_freq_divisors[2], 1);
  EXPECT_EQ(config.rope_freq_divisors[6], 4);
  const Result<Model> variant = LoadChanged({.yarn_rope_factor = 4.0F}, [](GgufWriter* writer) {
    writer->Add("llama.rope.scaling.yarn_log_multiplier", 0.1F);
  });
  ExpectError(variant, StatusCode::kUnsupported, {"yarn_log_multiplier", "0.1"});
}

// What the command line asks for is what a file would state.
TEST(RandomModelTest, AnotherRopeScalingTakesThePlaceOfTheFiles) {
  const Result<Model> stated =
      LoadChanged({.trained_seq_len = 4096, .yarn_rope_factor = 4.0F}, [](GgufWriter*) {});
  ASSERT_TRUE(stated.ok()) << stated.status().message();
  Result<Model> plain = LoadChanged({.trained_seq_len = 4096}, [](GgufWriter*) {});
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  ASSERT_TRUE(
      plain
          ->OverrideRope(
              {.kind = RopeScalingKind::kYarn, .factor = 4, .attn_factor = YarnAttnFactor(4)})
          .ok());
  EXPECT_EQ(plain->config().rope_freq_divisors, stated->config().rope_freq_divisors);
  EXPECT_EQ(plain->config().rope_attn_factor, stated->config().rope_attn_factor);
  EXPECT_EQ(plain->config().trained_seq_len, stated->config().trained_seq_len);
  ASSERT_TRUE(plain->OverrideRope({.kind = RopeScalingKind::kLinear, .factor = 2}).ok());
  EXPECT_EQ(plain->config().rope_freq_divisors, std::vector<float>(8, 2.0F));
  EXPECT_EQ(plain->config().rope_attn_factor, 1);
  ASSERT_TRUE(plain->OverrideRope({.kind = RopeScalingKind::kNone}).ok());
  EXPECT_TRUE(plain->config().rope_freq_divisors.empty());
}

TEST(RandomModelTest, Qwen3HasQkNormsAndItsOwnHeadDim) {
  const TestModelSpec spec{
      .architecture = "qwen3", .model_dim = 64, .num_heads = 4, .head_dim = 32};
  const Result<Model> model = LoadChanged(spec, [](GgufWriter*) {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().head_dim, 32);
  EXPECT_EQ(model->config().rope_style, RopeStyle::kHalf);
  const LayerWeights& layer = model->weights().layers[1];
  EXPECT_EQ(layer.attn_q_norm.cols, 32);
  EXPECT_EQ(layer.attn_k_norm.name, "blk.1.attn_k_norm.weight");
  EXPECT_FALSE(layer.attn_q_bias.present());
  ExpectError(LoadChanged(spec, [](GgufWriter* w) { w->RemoveTensor("blk.0.attn_k_norm.weight"); }),
              StatusCode::kCorrupt, {"blk.0.attn_k_norm.weight", "missing", "[32]"});
}

TEST(RandomModelTest, OptionalKeysHaveDefaults) {
  const Result<Model> model = LoadChanged({.num_kv_heads = 4}, [](GgufWriter* writer) {
    for (const char* key : {"attention.head_count_kv", "attention.key_length",
                            "attention.value_length", "rope.dimension_count", "rope.freq_base"}) {
      EXPECT_TRUE(writer->RemoveEntry(std::string("llama.") + key)) << key;
    }
    EXPECT_TRUE(writer->RemoveEntry("general.name"));
    writer->AddTensor("some.other.tensor", 24, {7}, std::vector<std::byte>(7));
  });
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().num_kv_heads, 4);
  EXPECT_EQ(model->config().head_dim, 16);
  EXPECT_EQ(model->config().rope_dim, 16);
  EXPECT_EQ(model->config().rope_theta, 10000);
  EXPECT_EQ(model->config().attn_scale(), 0.25F);
  EXPECT_EQ(model->config().name, "");
}

TEST(RandomModelTest, AnArrayOfEqualCountsIsOneCount) {
  const auto with_kv_heads = [](const std::vector<int32_t>& counts) {
    return LoadChanged({}, [&](GgufWriter* writer) {
      writer->RemoveEntry("llama.attention.head_count_kv");
      writer->AddArray("llama.attention.head_count_kv", counts);
    });
  };
  const Result<Model> equal = with_kv_heads({2, 2});
  ASSERT_TRUE(equal.ok()) << equal.status().message();
  EXPECT_EQ(equal->config().num_kv_heads, 2);
  ExpectError(with_kv_heads({2, 4}), StatusCode::kUnsupported,
              {"llama.attention.head_count_kv", "2", "4"});
  ExpectError(with_kv_heads({}), StatusCode::kCorrupt, {"llama.attention.head_count_kv", "empty"});
  ExpectError(with_kv_heads({-2, -2}), StatusCode::kCorrupt,
              {"llama.attention.head_count_kv", "expected 1 to 1024"});
}

}  // namespace
}  // namespace tidal
