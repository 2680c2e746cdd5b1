#include "model/known_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidal {
namespace {

using ::testing::HasSubstr;

TEST(KnownShapes, HaveTheSizesOfTheirModels) {
  Result<ModelConfig> config = FindKnownShape("--shape", "llama2-7b");
  ASSERT_TRUE(config.ok()) << config.status().message();
  // Published: 6.74 billion parameters, 2 x 16,000 x 4096 of which are left out here. A model of
  // random weights holds its largest matrix, and no test of this program may allocate more than 64
  // MB (mutation_test.cc).
  EXPECT_EQ(config->vocab_size, 32000);
  config->vocab_size = 16000;
  const Model model = Model::WithRandomWeights(*config, DType::kQ4_0);
  EXPECT_NEAR(static_cast<double>(model.num_parameters()), 6.74e9 - 2 * 16000.0 * 4096, 0.005e9);
  EXPECT_EQ(FindKnownShape("--shape", "llama3-8b")->gqa_ratio(), 4);
}

TEST(KnownShapes, AreConsistent) {
  for (const std::string& name : KnownShapeNames()) {
    const Result<ModelConfig> config = FindKnownShape("--shape", name);
    ASSERT_TRUE(config.ok()) << config.status().message();
    EXPECT_EQ(config->num_heads % config->num_kv_heads, 0) << name;
    EXPECT_EQ(config->num_heads * config->head_dim, config->model_dim) << name;
    EXPECT_TRUE(CheckRandomModel({*config, DType::kBF16}).ok()) << name;
  }
}

TEST(KnownShapes, SayWhatThereIs) {
  EXPECT_THAT(FindKnownShape("--shape", "gpt").status().message(),
              HasSubstr("--shape is \"gpt\", expected one of llama2-7b, llama3-8b"));
  for (const std::string& name : WeightTypeNames())
    EXPECT_TRUE(ParseWeightType("--weights", name).ok()) << name;
  EXPECT_EQ(ParseWeightType("--weights", "q4_k").value(), DType::kQ4_K);
  const Result<DType> rare = ParseWeightType("--weights", "q2_k");
  EXPECT_THAT(rare.status().message(),
              HasSubstr("--weights is \"q2_k\", expected one of f32, f16"));
  const ModelConfig odd = FindKnownShape("--shape", "smollm2-135m").value();
  EXPECT_THAT(CheckRandomModel({odd, DType::kQ4_K}).message(),
              HasSubstr("smollm2-135m has rows of 576 elements, which are no whole blocks of 256"));
}

}  // namespace
}  // namespace tidal
