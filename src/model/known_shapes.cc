#include "model/known_shapes.h"

#include <algorithm>
#include <cctype>
#include <fmt/ranges.h>

namespace tidal {
namespace {

struct Shape {
  std::string_view name;
  int32_t num_layers, model_dim, ffn_dim, num_heads, num_kv_heads, head_dim, vocab_size;
};
constexpr Shape kShapes[] = {
    {"llama2-7b", 32, 4096, 11008, 32, 32, 128, 32000},
    {"llama3-8b", 32, 4096, 14336, 32, 8, 128, 128256},
    {"llama3.2-1b", 16, 2048, 8192, 32, 8, 64, 128256},
    {"qwen2.5-1.5b", 28, 1536, 8960, 12, 2, 128, 151936},
    {"qwen2.5-0.5b", 24, 896, 4864, 14, 2, 64, 151936},
    {"smollm2-135m", 30, 576, 1536, 9, 3, 64, 49152},
};
// Beyond any memory, and far from overflow.
constexpr int32_t kLongContext = 1 << 24;

std::string LowerCase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::vector<std::string> KnownShapeNames() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

std::vector<std::string> WeightTypeNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (KeptAs(dtype) == dtype) names.push_back(LowerCase(NameOf(dtype)));
  }
  return names;
}

Result<ModelConfig> FindKnownShape(std::string_view flag, std::string_view name) {
  const auto* shape = std::find_if(std::begin(kShapes), std::end(kShapes),
                                   [&](const Shape& s) { return s.name == name; });
  if (shape == std::end(kShapes))
    return InvalidArgument("{} is \"{}\", expected one of {}", flag, name,
                           fmt::join(KnownShapeNames(), ", "));
  ModelConfig config;
  config.architecture = "llama";
  config.name = shape->name;
  config.num_layers = shape->num_layers;
  config.model_dim = shape->model_dim;
  config.ffn_dim = shape->ffn_dim;
  config.num_heads = shape->num_heads;
  config.num_kv_heads = shape->num_kv_heads;
  config.head_dim = config.rope_dim = shape->head_dim;
  config.vocab_size = shape->vocab_size;
  config.trained_seq_len = kLongContext;
  config.rms_norm_eps = 1e-5F;
  return config;
}

Result<DType> ParseWeightType(std::string_view flag, std::string_view text) {
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (KeptAs(dtype) == dtype && LowerCase(NameOf(dtype)) == text) return dtype;
  }
  return InvalidArgument("{} is \"{}\", expected one of {}", flag, text,
                         fmt::join(WeightTypeNames(), ", "));
}

Status CheckRandomModel(const RandomModel& model) {
  const ModelConfig& config = model.config;
  const int32_t block = InfoOf(model.dtype).quant_block_size;
  for (const int32_t cols :
       {config.model_dim, config.num_heads * config.head_dim, config.ffn_dim}) {
    if (cols % block != 0) {
      return InvalidArgument(
          "{} has rows of {} elements, which are no whole blocks of {} as {} has them; take "
          "another type",
          config.name, cols, block, LowerCase(NameOf(model.dtype)));
    }
  }
  return OkStatus();
}

}  // namespace tidal
