#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gguf/printable.h"
#include "model/model_reader.h"
#include "model/rope_scaling.h"

namespace tidal {
namespace {

constexpr const char* kDamaged = "the file is damaged or made for another program";

// Reads keys of one architecture and completes each error with file, key, value and expectation.
class KeyReader {
 public:
  KeyReader(const GgufFile& file, std::string prefix)
      : file_(file), path_(PrintablePath(file.path())), prefix_(std::move(prefix)) {}

  const std::string& path() const { return path_; }
  std::string Key(std::string_view suffix) const { return fmt::format("{}.{}", prefix_, suffix); }
  bool Has(std::string_view suffix) const { return file_.Has(Key(suffix)); }

  // An integer from min to max, or an array of equal ones (some writers repeat a value for each
  // layer).
  Result<int32_t> Count(std::string_view suffix, int64_t min, int64_t max) const {
    const std::string key = Key(suffix);
    if (!file_.Has(key)) return Missing(key);
    const Result<std::vector<int64_t>> per_layer = file_.GetIntArray(key);
    uint64_t value = 0;
    if (per_layer.ok()) {
      TIDAL_ASSIGN_OR_RETURN(value, OneValueOf(key, *per_layer));
    } else {
      TIDAL_ASSIGN_OR_RETURN(value, file_.GetUint(key));
    }
    if (value < static_cast<uint64_t>(min) || value > static_cast<uint64_t>(max)) {
      return Corrupt("{}: metadata key {} is {}, expected {} to {}; {}", path_, key, value, min,
                     max, kDamaged);
    }
    return static_cast<int32_t>(value);
  }
  Result<int32_t> CountOr(std::string_view suffix, int64_t min, int64_t max,
                          int32_t fallback) const {
    return Has(suffix) ? Count(suffix, min, max) : fallback;
  }

  // A finite number above 0, at most max, also as a float.
  Result<float> Positive(std::string_view suffix, double max) const {
    const std::string key = Key(suffix);
    if (!file_.Has(key)) return Missing(key);
    TIDAL_ASSIGN_OR_RETURN(const double value, file_.GetFloat(key));
    // Written so that NaN fails.
    if (!(value >= std::numeric_limits<float>::min() && value <= max)) {
      return Corrupt("{}: metadata key {} is {}, expected more than 0 and at most {}; {}", path_,
                     key, value, max, kDamaged);
    }
    return static_cast<float>(value);
  }
  Result<float> PositiveOr(std::string_view suffix, double max, float fallback) const {
    return Has(suffix) ? Positive(suffix, max) : fallback;
  }

 private:
  Status Missing(const std::string& key) const {
    return Corrupt("{}: metadata key {} is missing; {}", path_, key, kDamaged);
  }
  Result<uint64_t> OneValueOf(const std::string& key, const std::vector<int64_t>& values) const {
    if (values.empty())
      return Corrupt("{}: metadata key {} is an empty array; {}", path_, key, kDamaged);
    for (const int64_t value : values) {
      if (value == values.front()) continue;
      return Unsupported(
          "{}: metadata key {} differs between layers ({} and {}); supported are models with one "
          "value",
          path_, key, values.front(), value);
    }
    return static_cast<uint64_t>(std::max<int64_t>(values.front(), 0));
  }

  const GgufFile& file_;
  std::string path_;
  std::string prefix_;
};

Result<const Architecture*> ReadArchitecture(const GgufFile& file) {
  const std::string path = PrintablePath(file.path());
  if (file.Has("general.type")) {
    TIDAL_ASSIGN_OR_RETURN(const std::string_view type, file.GetString("general.type"));
    if (type != "model") {
      return Unsupported(
          "{}: metadata key general.type is \"{}\", expected \"model\"; this file is not a whole "
          "model",
          path, Printable(type));
    }
  }
  if (!file.Has("general.architecture")) {
    return Corrupt("{}: metadata key general.architecture is missing; {}", path, kDamaged);
  }
  TIDAL_ASSIGN_OR_RETURN(const std::string_view name, file.GetString("general.architecture"));
  Result<const Architecture*> architecture = FindArchitecture(name);
  if (!architecture.ok()) return architecture.status().Annotate(path);
  return architecture;
}

Status ReadSizes(const KeyReader& keys, ModelConfig* config) {
  TIDAL_ASSIGN_OR_RETURN(config->num_layers, keys.Count("block_count", 1, kMaxLayers));
  TIDAL_ASSIGN_OR_RETURN(config->model_dim, keys.Count("embedding_length", 1, kMaxModelDim));
  TIDAL_ASSIGN_OR_RETURN(config->ffn_dim, keys.Count("feed_forward_length", 1, kMaxFfnDim));
  TIDAL_ASSIGN_OR_RETURN(config->trained_seq_len, keys.Count("context_length", 1, kMaxSeqLen));
  TIDAL_ASSIGN_OR_RETURN(config->rms_norm_eps,
                         keys.Positive("attention.layer_norm_rms_epsilon", kMaxRmsNormEps));
  return OkStatus();
}

Status ReadHeads(const KeyReader& keys, ModelConfig* config) {
  TIDAL_ASSIGN_OR_RETURN(config->num_heads, keys.Count("attention.head_count", 1, kMaxHeads));
  TIDAL_ASSIGN_OR_RETURN(config->num_kv_heads,
                         keys.CountOr("attention.head_count_kv", 1, kMaxHeads, config->num_heads));
  if (config->num_heads % config->num_kv_heads != 0) {
    return Corrupt("{}: metadata key {} is {}, expected a divisor of the {} heads; {}", keys.path(),
                   keys.Key("attention.head_count_kv"), config->num_kv_heads, config->num_heads,
                   kDamaged);
  }
  std::string source = keys.Key("attention.key_length");
  if (keys.Has("attention.key_length")) {
    TIDAL_ASSIGN_OR_RETURN(config->head_dim,
                           keys.Count("attention.key_length", kMinHeadDim, kMaxHeadDim));
  } else {
    if (config->model_dim % config->num_heads != 0) {
      return Corrupt(
          "{}: metadata key {} is {}, expected a multiple of the {} heads (there is no key {}); {}",
          keys.path(), keys.Key("embedding_length"), config->model_dim, config->num_heads, source,
          kDamaged);
    }
    config->head_dim = config->model_dim / config->num_heads;
    source = fmt::format("{} / {}", keys.Key("embedding_length"), keys.Key("attention.head_count"));
  }
  const int32_t head_dim = config->head_dim;
  if (head_dim < kMinHeadDim || head_dim > kMaxHeadDim || head_dim % 2 != 0) {
    return Corrupt("{}: the head dimension ({}) is {}, expected an even number from {} to {}; {}",
                   keys.path(), source, head_dim, kMinHeadDim, kMaxHeadDim, kDamaged);
  }
  TIDAL_ASSIGN_OR_RETURN(const int32_t value_length,
                         keys.CountOr("attention.value_length", 1, kMaxHeadDim, head_dim));
  if (value_length != head_dim) {
    return Unsupported(
        "{}: metadata key {} is {}, expected {} as for keys; supported are models with equal "
        "lengths",
        keys.path(), keys.Key("attention.value_length"), value_length, head_dim);
  }
  return OkStatus();
}

// Features that would change the result, so that leaving them out must not go unnoticed.
Status RefuseUnsupported(const GgufFile& file, const KeyReader& keys, const ModelConfig& config) {
  TIDAL_ASSIGN_OR_RETURN(const int32_t experts,
                         keys.CountOr("expert_count", 0, std::numeric_limits<int32_t>::max(), 0));
  if (experts > 0) {
    return Unsupported("{}: metadata key {} is {}; mixture-of-experts models are not supported",
                       keys.path(), keys.Key("expert_count"), experts);
  }
  TIDAL_ASSIGN_OR_RETURN(
      const int32_t window,
      keys.CountOr("attention.sliding_window", 0, std::numeric_limits<int32_t>::max(), 0));
  if (window > 0 && window < config.trained_seq_len) {
    return Unsupported(
        "{}: metadata key {} is {}, less than the context length {}; sliding windows are not "
        "supported",
        keys.path(), keys.Key("attention.sliding_window"), window, config.trained_seq_len);
  }
  if (keys.Has("attention.causal")) {
    TIDAL_ASSIGN_OR_RETURN(const bool causal, file.GetBool(keys.Key("attention.causal")));
    if (!causal) {
      return Unsupported("{}: metadata key {} is false; models that look ahead are not supported",
                         keys.path(), keys.Key("attention.causal"));
    }
  }
  return OkStatus();
}

// Files hold parameters of YaRN that no model of the supported families changes.
Status RefuseYarnVariants(const GgufFile& file, const KeyReader& keys) {
  struct Variant {
    const char* suffix;
    double usual;
  };
  for (const auto& [suffix, usual] :
       {Variant{"rope.scaling.yarn_ext_factor", 1}, Variant{"rope.scaling.yarn_attn_factor", 1},
        Variant{"rope.scaling.yarn_log_multiplier", 0}}) {
    if (!keys.Has(suffix)) continue;
    const std::string key = keys.Key(suffix);
    TIDAL_ASSIGN_OR_RETURN(const double value, file.GetFloat(key));
    if (value == usual) continue;
    return Unsupported("{}: metadata key {} is {}; supported is {} only", keys.path(), key, value,
                       usual);
  }
  return OkStatus();
}

Result<RopeScaling> ReadYarn(const GgufFile& file, const KeyReader& keys,
                             const ModelConfig& config) {
  TIDAL_RETURN_IF_ERROR(RefuseYarnVariants(file, keys));
  RopeScaling scaling{.kind = RopeScalingKind::kYarn};
  TIDAL_ASSIGN_OR_RETURN(scaling.factor, keys.Positive("rope.scaling.factor", kMaxRopeFactor));
  TIDAL_ASSIGN_OR_RETURN(
      scaling.original_seq_len,
      keys.CountOr("rope.scaling.original_context_length", 1, kMaxSeqLen, config.trained_seq_len));
  TIDAL_ASSIGN_OR_RETURN(scaling.beta_fast,
                         keys.PositiveOr("rope.scaling.yarn_beta_fast", kMaxRopeFactor, 32.0F));
  TIDAL_ASSIGN_OR_RETURN(scaling.beta_slow,
                         keys.PositiveOr("rope.scaling.yarn_beta_slow", kMaxRopeFactor, 1.0F));
  // The file's factor comes on top of YaRN's own.
  TIDAL_ASSIGN_OR_RETURN(const float attn_factor,
                         keys.PositiveOr("rope.scaling.attn_factor", kMaxRopeFactor, 1.0F));
  scaling.attn_factor = static_cast<double>(attn_factor) * YarnAttnFactor(scaling.factor);
  return scaling;
}

Result<RopeScaling> ReadRopeScaling(const GgufFile& file, const KeyReader& keys,
                                    const ModelConfig& config) {
  RopeScaling linear{.kind = RopeScalingKind::kLinear};
  if (!keys.Has("rope.scaling.type")) {
    // Older files have the factor alone, under this name.
    TIDAL_ASSIGN_OR_RETURN(linear.factor,
                           keys.PositiveOr("rope.scale_linear", kMaxRopeFactor, 1.0F));
    return linear.factor == 1 ? RopeScaling() : linear;
  }
  const std::string key = keys.Key("rope.scaling.type");
  TIDAL_ASSIGN_OR_RETURN(const std::string_view type, file.GetString(key));
  if (type == "none") return RopeScaling();
  if (type == "yarn") return ReadYarn(file, keys, config);
  if (type == "linear") {
    TIDAL_ASSIGN_OR_RETURN(linear.factor, keys.Positive("rope.scaling.factor", kMaxRopeFactor));
    return linear.factor == 1 ? RopeScaling() : linear;
  }
  return Unsupported(
      "{}: metadata key {} is \"{}\"; supported are none, linear and yarn, and Llama 3's "
      "rope_freqs.weight",
      keys.path(), key, Printable(type));
}

Status ReadRope(const GgufFile& file, const KeyReader& keys, ModelConfig* config) {
  TIDAL_ASSIGN_OR_RETURN(
      config->rope_theta,
      keys.PositiveOr("rope.freq_base", std::numeric_limits<float>::max(), config->rope_theta));
  TIDAL_ASSIGN_OR_RETURN(config->rope_dim, keys.CountOr("rope.dimension_count", 2, config->head_dim,
                                                        config->head_dim));
  if (config->rope_dim % 2 != 0) {
    return Corrupt("{}: metadata key {} is {}, expected an even number; {}", keys.path(),
                   keys.Key("rope.dimension_count"), config->rope_dim, kDamaged);
  }
  TIDAL_ASSIGN_OR_RETURN(const RopeScaling scaling, ReadRopeScaling(file, keys, *config));
  TIDAL_RETURN_IF_ERROR(ApplyRopeScaling(scaling, config).Annotate(keys.path()));
  const auto num_pairs = static_cast<size_t>(config->rope_dim / 2);
  if (file.FindTensor("rope_freqs.weight") == nullptr) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const TensorView freqs,
                         ReadVector(file, "rope_freqs.weight", config->rope_dim / 2));
  config->rope_freq_divisors.resize(num_pairs, 1.0F);
  std::vector<float> values(num_pairs);
  DequantizeRow(freqs.dtype, freqs.data, values.data(), freqs.cols);
  for (size_t i = 0; i < num_pairs; ++i) {
    config->rope_freq_divisors[i] *= values[i];
    if (std::isfinite(config->rope_freq_divisors[i]) && config->rope_freq_divisors[i] > 0) continue;
    return Corrupt(
        "{}: element {} of tensor rope_freqs.weight is {}, expected a positive number; {}",
        keys.path(), i, values[i], kDamaged);
  }
  return OkStatus();
}

Status ReadVocabSize(const GgufFile& file, const KeyReader& keys, ModelConfig* config) {
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return Corrupt("{}: tensor token_embd.weight is missing, expected [{}, vocabulary size]; {}",
                   keys.path(), config->model_dim, kDamaged);
  }
  if (embedding->dims[1] > kMaxVocabSize) {
    return Corrupt("{}: tensor token_embd.weight has {} rows, expected 1 to {}; {}", keys.path(),
                   embedding->dims[1], kMaxVocabSize, kDamaged);
  }
  config->vocab_size = static_cast<int32_t>(embedding->dims[1]);
  return OkStatus();
}

}  // namespace

Result<ModelConfig> ReadModelConfig(const GgufFile& file) {
  TIDAL_ASSIGN_OR_RETURN(const Architecture* const architecture, ReadArchitecture(file));
  ModelConfig config;
  config.architecture = architecture->name;
  config.rope_style = architecture->rope_style;
  if (file.Has("general.name")) {
    TIDAL_ASSIGN_OR_RETURN(config.name, file.GetString("general.name"));
  }
  const KeyReader keys(file, config.architecture);
  TIDAL_RETURN_IF_ERROR(ReadSizes(keys, &config));
  TIDAL_RETURN_IF_ERROR(ReadHeads(keys, &config));
  TIDAL_RETURN_IF_ERROR(RefuseUnsupported(file, keys, config));
  TIDAL_RETURN_IF_ERROR(ReadRope(file, keys, &config));
  TIDAL_RETURN_IF_ERROR(ReadVocabSize(file, keys, &config));
  return config;
}

}  // namespace tidal
