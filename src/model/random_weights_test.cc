#include <cmath>
#include <gtest/gtest.h>
#include <vector>

#include "model/model.h"

namespace tidal {
namespace {

TEST(RandomWeights, HaveTheShapeAndFiniteVariedValues) {
  ModelConfig config;
  config.num_layers = 3;
  config.model_dim = 256;
  config.ffn_dim = 512;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = config.rope_dim = 64;
  config.vocab_size = 1000;
  for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
    const Model model = Model::WithRandomWeights(config, dtype);
    ASSERT_EQ(model.weights().layers.size(), 3U);
    int64_t matrices = 0;
    model.ForEachWeight([&](const TensorView& view) {
      std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
      DequantizeRow(view.dtype, view.data, values.data(), view.rows * view.cols);
      if (view.rows == 1) {
        EXPECT_EQ(values, std::vector<float>(256, 1.0F));
        return;
      }
      ++matrices;
      EXPECT_EQ(view.dtype, dtype);
      double sum_of_squares = 0;
      for (const float x : values)
        sum_of_squares += static_cast<double>(x) * static_cast<double>(x);
      // Drawn with a deviation of 0.02; thousands of them are near it whatever the rounding.
      EXPECT_NEAR(std::sqrt(sum_of_squares / static_cast<double>(values.size())), 0.02, 0.002);
    });
    EXPECT_EQ(matrices, 3 * 7 + 2);
  }
}

}  // namespace
}  // namespace tidal
