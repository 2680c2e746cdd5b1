#include <algorithm>
#include <cstring>
#include <random>

#include "model/model.h"
#include "quant/quantize.h"

namespace tidal {
namespace {

// Drawn once and repeated: drawing billions of numbers would take minutes.
constexpr int64_t kDistinct = int64_t{1} << 20;

std::vector<std::byte> RandomBlocks(DType dtype, int64_t elements) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> values(static_cast<size_t>(kDistinct));
  for (float& x : values) x = normal(random);
  std::vector<std::byte> blocks(static_cast<size_t>(BytesOf(dtype, elements)));
  const auto distinct = static_cast<size_t>(BytesOf(dtype, kDistinct));
  std::vector<std::byte> drawn(distinct);
  QuantizeRow(dtype, values.data(), drawn.data(), kDistinct);
  for (size_t begin = 0; begin < blocks.size(); begin += distinct)
    std::memcpy(blocks.data() + begin, drawn.data(), std::min(distinct, blocks.size() - begin));
  return blocks;
}

}  // namespace

Model Model::WithRandomWeights(const ModelConfig& config, DType dtype) {
  Model model;
  model.path_ = config.name;
  model.config_ = config;
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  const int64_t model_dim = config.model_dim;
  const int64_t largest =
      model_dim * std::max({int64_t{config.vocab_size}, int64_t{config.ffn_dim}, q_dim});
  model.random_ = RandomBlocks(dtype, largest);
  model.widened_.emplace_back(static_cast<size_t>(model_dim), 1.0F);
  const auto matrix = [&](const char* name, int64_t rows, int64_t cols) {
    return TensorView{
        .name = name, .dtype = dtype, .rows = rows, .cols = cols, .data = model.random_.data()};
  };
  const auto norm = [&](const char* name) {
    return TensorView{.name = name,
                      .dtype = DType::kF32,
                      .rows = 1,
                      .cols = model_dim,
                      .data = reinterpret_cast<const std::byte*>(model.widened_[0].data())};
  };
  model.weights_.token_embd = matrix("token_embd", config.vocab_size, model_dim);
  model.weights_.output = matrix("output", config.vocab_size, model_dim);
  model.weights_.output_norm = norm("output_norm");
  for (int32_t i = 0; i < config.num_layers; ++i) {
    LayerWeights layer;
    layer.attn_norm = norm("attn_norm");
    layer.attn_q = matrix("attn_q", q_dim, model_dim);
    layer.attn_k = matrix("attn_k", kv_dim, model_dim);
    layer.attn_v = matrix("attn_v", kv_dim, model_dim);
    layer.attn_output = matrix("attn_output", model_dim, q_dim);
    layer.ffn_norm = norm("ffn_norm");
    layer.ffn_gate = matrix("ffn_gate", config.ffn_dim, model_dim);
    layer.ffn_up = matrix("ffn_up", config.ffn_dim, model_dim);
    layer.ffn_down = matrix("ffn_down", model_dim, config.ffn_dim);
    model.weights_.layers.push_back(std::move(layer));
  }
  return model;
}

}  // namespace tidal
