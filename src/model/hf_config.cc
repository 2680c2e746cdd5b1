#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>

#include "gguf/printable.h"
#include "model/architecture.h"
#include "model/hf_reader.h"
#include "model/model_reader.h"
#include "model/rope_scaling.h"

namespace tidal {
namespace {

// What the official code assumes where config.json is silent; 0: the key must be there.
struct HfFamily {
  const char* model_type;
  const char* class_name;
  const char* architecture;
  int32_t default_head_dim;        // 0: hidden_size / num_attention_heads
  int32_t default_sliding_window;  // 0: none
};
constexpr HfFamily kFamilies[] = {
    {"llama", "LlamaForCausalLM", "llama", 0, 0},
    {"mistral", "MistralForCausalLM", "llama", 0, 4096},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", 0, 0},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", 128, 0},
};
constexpr int64_t kAnyCount = std::numeric_limits<int32_t>::max();

std::string SupportedTypes() {
  std::string names;
  for (const HfFamily& family : kFamilies)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", family.model_type);
  return names;
}

Result<const HfFamily*> ReadFamily(const JsonFields& config) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view type, config.Text("model_type"));
  const auto* family = std::ranges::find(
      kFamilies, type, [](const HfFamily& f) { return std::string_view(f.model_type); });
  if (family == std::end(kFamilies)) {
    return Unsupported("{}: model_type is \"{}\"; supported are {}", config.where(),
                       Printable(type), SupportedTypes());
  }
  if (!config.Has("architectures")) return family;
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const names, config.Array("architectures"));
  if (!names->empty() && names->front() != family->class_name) {
    return Unsupported("{}: architectures is {}; supported for {} is {}", config.where(),
                       ShortText(*names), family->model_type, family->class_name);
  }
  return family;
}

Status ReadSizes(const JsonFields& config, ModelConfig* out) {
  TIDAL_ASSIGN_OR_RETURN(out->num_layers, config.Count("num_hidden_layers", 1, kMaxLayers));
  TIDAL_ASSIGN_OR_RETURN(out->model_dim, config.Count("hidden_size", 1, kMaxModelDim));
  TIDAL_ASSIGN_OR_RETURN(out->ffn_dim, config.Count("intermediate_size", 1, kMaxFfnDim));
  TIDAL_ASSIGN_OR_RETURN(out->vocab_size, config.Count("vocab_size", 1, kMaxVocabSize));
  TIDAL_ASSIGN_OR_RETURN(out->trained_seq_len,
                         config.Count("max_position_embeddings", 1, kMaxSeqLen));
  TIDAL_ASSIGN_OR_RETURN(out->rms_norm_eps, config.Positive("rms_norm_eps", kMaxRmsNormEps));
  return OkStatus();
}

Status ReadHeads(const JsonFields& config, const HfFamily& family, ModelConfig* out) {
  TIDAL_ASSIGN_OR_RETURN(out->num_heads, config.Count("num_attention_heads", 1, kMaxHeads));
  TIDAL_ASSIGN_OR_RETURN(out->num_kv_heads,
                         config.CountOr("num_key_value_heads", 1, kMaxHeads, out->num_heads));
  if (out->num_heads % out->num_kv_heads != 0) {
    return config.WrongValue("num_key_value_heads",
                             fmt::format("a divisor of the {} heads", out->num_heads));
  }
  const bool divides = out->model_dim % out->num_heads == 0;
  if (!config.Has("head_dim") && family.default_head_dim == 0 && !divides) {
    return config.WrongValue("hidden_size", fmt::format("a multiple of the {} heads, as there is "
                                                        "no head_dim",
                                                        out->num_heads));
  }
  const int64_t fallback =
      family.default_head_dim > 0 ? family.default_head_dim : out->model_dim / out->num_heads;
  TIDAL_ASSIGN_OR_RETURN(out->head_dim,
                         config.CountOr("head_dim", kMinHeadDim, kMaxHeadDim, fallback));
  if (out->head_dim < kMinHeadDim || out->head_dim > kMaxHeadDim || out->head_dim % 2 != 0) {
    return Corrupt("{}: the head dimension is {}, expected an even number from {} to {}",
                   config.where(), out->head_dim, kMinHeadDim, kMaxHeadDim);
  }
  return OkStatus();
}

Status RefuseWindow(const JsonFields& config, const HfFamily& family, int32_t trained_seq_len) {
  TIDAL_ASSIGN_OR_RETURN(const bool uses_window,
                         config.BoolOr("use_sliding_window", family.default_sliding_window > 0));
  // A null says that there is none; an absent key leaves it to the family.
  const bool silent = !config.object().contains("sliding_window");
  TIDAL_ASSIGN_OR_RETURN(
      const int64_t window,
      config.CountOr("sliding_window", 0, kAnyCount, silent ? family.default_sliding_window : 0));
  if (!uses_window || window == 0 || window >= trained_seq_len) return OkStatus();
  return Unsupported(
      "{}: sliding_window is {}{}, less than the context length {}; sliding windows are not "
      "supported",
      config.where(), window, silent ? " (as the family has it where the key is missing)" : "",
      trained_seq_len);
}

Status RefuseLayerTypes(const JsonFields& config) {
  if (!config.Has("layer_types")) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const types, config.Array("layer_types"));
  for (const JsonValue& type : *types) {
    if (type == "full_attention") continue;
    return Unsupported("{}: layer_types has {}; supported is \"full_attention\" only",
                       config.where(), ShortText(type));
  }
  return OkStatus();
}

// Settings that would change the result, so that leaving them out must not go unnoticed.
Status RefuseUnsupported(const JsonFields& config) {
  if (config.Has("quantization_config")) {
    return Unsupported(
        "{}: quantization_config is set; supported are weights of F32, F16 and BF16 (quantised "
        "models run from GGUF files)",
        config.where());
  }
  TIDAL_ASSIGN_OR_RETURN(const std::string_view activation, config.TextOr("hidden_act", "silu"));
  if (activation != "silu") {
    return Unsupported("{}: hidden_act is \"{}\"; supported is silu", config.where(),
                       Printable(activation));
  }
  TIDAL_ASSIGN_OR_RETURN(const double rotary, config.PositiveOr("partial_rotary_factor", 1, 1));
  if (rotary != 1) {
    return Unsupported("{}: partial_rotary_factor is {}; supported is 1", config.where(), rotary);
  }
  return RefuseLayerTypes(config);
}

Result<RopeScaling> ReadYarn(const JsonFields& rope, RopeScaling scaling, bool has_factor,
                             int64_t trained_seq_len) {
  if (!has_factor) {
    scaling.factor =
        static_cast<double>(trained_seq_len) / static_cast<double>(scaling.original_seq_len);
  }
  TIDAL_ASSIGN_OR_RETURN(scaling.beta_fast, rope.PositiveOr("beta_fast", kMaxRopeFactor, 32));
  TIDAL_ASSIGN_OR_RETURN(scaling.beta_slow, rope.PositiveOr("beta_slow", kMaxRopeFactor, 1));
  TIDAL_ASSIGN_OR_RETURN(scaling.round_range, rope.BoolOr("truncate", true));
  scaling.attn_factor = YarnAttnFactor(scaling.factor);
  if (rope.Has("mscale") && rope.Has("mscale_all_dim")) {
    TIDAL_ASSIGN_OR_RETURN(const double mscale, rope.Positive("mscale", kMaxRopeFactor));
    TIDAL_ASSIGN_OR_RETURN(const double all_dim, rope.Positive("mscale_all_dim", kMaxRopeFactor));
    scaling.attn_factor =
        YarnAttnFactor(scaling.factor, mscale) / YarnAttnFactor(scaling.factor, all_dim);
  }
  TIDAL_ASSIGN_OR_RETURN(scaling.attn_factor,
                         rope.PositiveOr("attention_factor", kMaxRopeFactor, scaling.attn_factor));
  return scaling;
}

Result<RopeScaling> ReadScaling(const JsonFields& config, const JsonFields& rope,
                                int64_t trained_seq_len) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view old_name, rope.TextOr("type", "default"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view type, rope.TextOr("rope_type", old_name));
  RopeScaling scaling;
  if (type == "default") return scaling;
  if (type == "linear") {
    scaling.kind = RopeScalingKind::kLinear;
  } else if (type == "llama3") {
    scaling.kind = RopeScalingKind::kLlama3;
  } else if (type == "yarn") {
    scaling.kind = RopeScalingKind::kYarn;
  } else {
    return Unsupported(
        "{}: the RoPE type is \"{}\"; supported are default, linear, llama3 and yarn", rope.where(),
        Printable(type));
  }
  const bool has_factor = rope.Has("factor");
  if (has_factor || scaling.kind != RopeScalingKind::kYarn) {
    TIDAL_ASSIGN_OR_RETURN(scaling.factor, rope.Positive("factor", kMaxRopeFactor));
  }
  if (scaling.kind == RopeScalingKind::kLinear) return scaling;
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  const JsonFields& holder = config.Has(kOriginal) ? config : rope;
  TIDAL_ASSIGN_OR_RETURN(scaling.original_seq_len,
                         holder.CountOr(kOriginal, 1, kMaxSeqLen, trained_seq_len));
  if (scaling.kind == RopeScalingKind::kYarn)
    return ReadYarn(rope, scaling, has_factor, trained_seq_len);
  TIDAL_ASSIGN_OR_RETURN(scaling.low_freq_factor, rope.Positive("low_freq_factor", kMaxRopeFactor));
  TIDAL_ASSIGN_OR_RETURN(scaling.high_freq_factor,
                         rope.Positive("high_freq_factor", kMaxRopeFactor));
  if (scaling.high_freq_factor <= scaling.low_freq_factor)
    return rope.WrongValue("high_freq_factor", "more than low_freq_factor");
  return scaling;
}

Status ReadRope(const JsonFields& config, ModelConfig* out) {
  constexpr double kMaxTheta = std::numeric_limits<float>::max();
  out->rope_dim = out->head_dim;
  const double usual_theta = static_cast<double>(out->rope_theta);
  TIDAL_ASSIGN_OR_RETURN(const double theta,
                         config.PositiveOr("rope_theta", kMaxTheta, usual_theta));
  out->rope_theta = static_cast<float>(theta);
  // Newer files have rope_parameters, with the base in it.
  const char* key = config.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!config.Has(key)) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const JsonFields rope, config.Object(key));
  for (const auto& [name, value] : rope.object().items()) {
    if (!value.is_object()) continue;
    return Unsupported("{}: the key {} is {}; RoPE that differs between layers is not supported",
                       rope.where(), Printable(name), ShortText(value));
  }
  TIDAL_ASSIGN_OR_RETURN(const double inner_theta, rope.PositiveOr("rope_theta", kMaxTheta, theta));
  out->rope_theta = static_cast<float>(inner_theta);
  TIDAL_ASSIGN_OR_RETURN(const double rotary, rope.PositiveOr("partial_rotary_factor", 1, 1));
  if (rotary != 1) {
    return Unsupported("{}: partial_rotary_factor is {}; supported is 1", rope.where(), rotary);
  }
  TIDAL_ASSIGN_OR_RETURN(const RopeScaling scaling,
                         ReadScaling(config, rope, out->trained_seq_len));
  return ApplyRopeScaling(scaling, out).Annotate(rope.where());
}

// "x" of "models/x" and "models/x/".
std::string FolderName(const std::string& path) {
  const std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

}  // namespace

Result<ModelConfig> ReadHfConfig(const HfFolder& folder) {
  TIDAL_ASSIGN_OR_RETURN(
      const JsonFields config,
      JsonFields::Of(PrintablePath(folder.FilePath("config.json")), folder.config()));
  TIDAL_ASSIGN_OR_RETURN(const HfFamily* const family, ReadFamily(config));
  ModelConfig out;
  out.architecture = family->architecture;
  out.name = FolderName(folder.path());
  out.rope_style = RopeStyle::kHalf;
  TIDAL_RETURN_IF_ERROR(ReadSizes(config, &out));
  TIDAL_RETURN_IF_ERROR(ReadHeads(config, *family, &out));
  TIDAL_RETURN_IF_ERROR(RefuseUnsupported(config));
  TIDAL_RETURN_IF_ERROR(ReadRope(config, &out));
  TIDAL_RETURN_IF_ERROR(RefuseWindow(config, *family, out.trained_seq_len));
  return out;
}

}  // namespace tidal
