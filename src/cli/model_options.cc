#include "cli/model_options.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <spdlog/spdlog.h>

#include "base/system_memory.h"
#include "cli/arguments.h"
#include "cli/progress_bar.h"

namespace tidal {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int32_t kMaxThreads = 1024;
constexpr int32_t kMaxBatchTokens = 65536;

// cpu, cuda or cuda:N. Whether this build has it is the engine's to say.
Result<std::string> ParseDevice(const std::string& flag, const std::string& text) {
  if (text == "cpu" || text == "cuda") return text;
  constexpr std::string_view kNumbered = "cuda:";
  if (text.starts_with(kNumbered) &&
      ParseInt(flag, std::string_view(text).substr(kNumbered.size()), {0, kMaxInt}).ok())
    return text;
  return InvalidArgument("{} is \"{}\", expected cpu, cuda or cuda:N", flag, text);
}

Result<std::optional<RopeScalingKind>> ParseRopeScaling(const std::string& flag,
                                                        const std::string& text) {
  if (text == "none") return std::optional(RopeScalingKind::kNone);
  if (text == "linear") return std::optional(RopeScalingKind::kLinear);
  if (text == "yarn") return std::optional(RopeScalingKind::kYarn);
  return InvalidArgument("{} is \"{}\", expected one of none, linear, yarn", flag, text);
}

void AddRunOptions(CLI::App* app, ModelOptions* options) {
  EngineOptions* engine = &options->engine;
  AddInt(app,
         {"-t,--threads", "N", "Threads to compute with (default: the cores this process may use)"},
         &engine->num_threads, {1, kMaxThreads});
  AddValue<std::string>(
      app,
      {"--device", "cpu|cuda|cuda:N", "Where to run; cuda needs a build with CUDA (default: cpu)"},
      &engine->device, ParseDevice);
  AddValue<Isa>(app,
                {"--isa", "auto|portable|avx2|avx512",
                 "Instruction set of the CPU kernels (default: auto, the best this machine has)"},
                &engine->isa, ParseIsa);
  AddValue<Precision>(
      app,
      {"--precision", "fast|f32",
       "fast may round activations to 8 bits in matrix products; f32 is plain float32 throughout "
       "(default: fast)"},
      &engine->precision, ParsePrecision);
  AddInt(app, {"-b,--batch-size", "N", "Most prompt tokens taken into one step (default: 2048)"},
         &options->batch_tokens, {1, kMaxBatchTokens});
  AddInt(app,
         {"--ubatch-size", "N",
          "The same, known from llama.cpp; the smaller of the two counts (default: 512)"},
         &options->ubatch_tokens, {1, kMaxBatchTokens});
}

void AddCacheOptions(CLI::App* app, EngineOptions* engine) {
  AddInt(app,
         {"-c,--ctx-size", "N",
          "Tokens that the context holds, prompt and answer together (default: 0, as many as the "
          "model was trained with and memory allows)"},
         &engine->ctx_size, {0, kMaxInt});
  AddValue<std::optional<RopeScalingKind>>(
      app,
      {"--rope-scaling", "none|linear|yarn",
       "How RoPE is stretched for a context longer than the trained one (default: as the model's "
       "file says)"},
      &engine->rope_scaling, ParseRopeScaling);
  AddFloat(app,
           {"--rope-scale", "N", "With --rope-scaling: how many times longer the context becomes"},
           &engine->rope_scale, {1, kMaxRopeScale});
  AddInt(app,
         {"--yarn-orig-ctx", "N",
          "With --rope-scaling yarn: the context of the pre-training (default: 0, what the model's "
          "file says it was trained with)"},
         &engine->yarn_orig_ctx, {0, kMaxInt});
  AddValue<CacheType>(
      app,
      {"--cache-type-k", "f32|f16|bf16|q8_0|f8e4m3", "How the cache stores keys (default: f16)"},
      &engine->k_cache_type, ParseCacheType);
  AddValue<CacheType>(
      app,
      {"--cache-type-v", "f32|f16|bf16|q8_0|f8e4m3", "How the cache stores values (default: f16)"},
      &engine->v_cache_type, ParseCacheType);
  AddValue<IndexLayers>(app,
                        {"--index-layers", "auto|all|none",
                         "Layers whose keys get an index of a few bits, from which plans choose "
                         "tokens (default: auto, "
                         "those in which the plan does)"},
                        &engine->index_layers, ParseIndexLayers);
  AddValue<int32_t>(
      app,
      {"--index-bits", "auto|4|2", "Bits of the index per key channel (default: auto, the plan's)"},
      &engine->index_bits, ParseIndexBits);
}

}  // namespace

void AddModelPath(CLI::App* app, std::string* path, Presence presence) {
  SetHeading(app, "Model");
  AddText(
      app,
      {"-m,--model", "FILE",
       "The model, a GGUF file (of a split one: the part -00001-of-0000N) or a Hugging Face folder",
       presence},
      path);
}

void AddModelOptions(CLI::App* app, ModelOptions* options, Presence model) {
  AddModelPath(app, &options->engine.model_path, model);
  AddCacheOptions(app, &options->engine);
  AddRunOptions(app, options);
}

void AddAttentionOption(CLI::App* app, ModelOptions* options) {
  std::vector<PlanSpec>* plans = &options->engine.plans;
  *plans = {PlanSpec()};
  SetHeading(app, "Model");
  AddOption(
      app,
      {"--attention", "PLAN",
       "What the layers of a decoded token read: full (everything), or a plan that chooses: "
       "tidal, tidal-paper, lessismore, quest, streaming, tokenselect, omnikv, kascade, zipvl, "
       "twilight, each with settings as in tidal:budget=512; docs/attention_plans.md explains "
       "them (default: full)"},
      [plans](const std::string& flag, const std::string& text) {
        Result<PlanSpec> spec = PlanSpec::Parse(text);
        if (!spec.ok()) return spec.status().Annotate(flag);
        *plans = {*std::move(spec)};
        return OkStatus();
      });
}

void AddAttentionPlansOption(CLI::App* app, ModelOptions* options, const char* defaults) {
  options->engine.plans = PlanSpec::ParseList(defaults).value();
  const std::string help = fmt::format(
      "What the layers of a decoded token read, plans to compare: full, tidal, tidal-paper, "
      "lessismore, quest, streaming, tokenselect, omnikv, kascade, zipvl, twilight, each with "
      "settings as in tidal:budget=512; docs/attention_plans.md explains them (default: {})",
      defaults);
  AddValue<std::vector<PlanSpec>>(
      app, {"--attention", "PLAN[,PLAN...]", help.c_str()}, &options->engine.plans,
      [](const std::string& flag, const std::string& text) {
        Result<std::vector<PlanSpec>> plans = PlanSpec::ParseList(text);
        if (!plans.ok()) return Result<std::vector<PlanSpec>>(plans.status().Annotate(flag));
        return plans;
      });
}

namespace {

void TellOfSidecar(const Console& console, const Engine& engine) {
  if (engine.sidecar().empty() || spdlog::get_level() > spdlog::level::warn) return;
  console.Tell(fmt::format("tidal: info: {} has calibrated plans for this model\n",
                           BaseName(engine.sidecar())));
}

// What the model takes, where somebody reads it.
void TellOfMemory(const Console& console, const Engine& engine) {
  if (!console.err_can_redraw() && spdlog::get_level() > spdlog::level::info) return;
  const MemoryUse memory = engine.memory();
  std::string index;
  if (memory.index_bytes > 0) index = ", key index " + FormatBytes(memory.index_bytes);
  console.Tell(fmt::format("tidal: info: memory: weights {}, cache {} for {} tokens{}\n",
                           FormatBytes(memory.weight_bytes), FormatBytes(memory.kv_bytes),
                           engine.ctx_size(), index));
}

}  // namespace

Result<LoadedEngine> LoadEngine(const Console& console, const ModelOptions& options,
                                int32_t max_sequences) {
  EngineOptions engine_options = options.engine;
  engine_options.max_batch_tokens = std::min(options.batch_tokens, options.ubatch_tokens);
  engine_options.max_sequences = max_sequences;
  ProgressBar bar(console, "Loading " + BaseName(engine_options.model_path));
  const auto start = std::chrono::steady_clock::now();
  TIDAL_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                         Engine::Create(engine_options, [&bar](double fraction, const char* what) {
                           bar.Update(fraction, what);
                         }));
  const std::chrono::duration<double, std::milli> load = std::chrono::steady_clock::now() - start;
  bar.Clear();
  TellOfMemory(console, *engine);
  TellOfSidecar(console, *engine);
  LoadedEngine loaded{std::move(engine), {}, load.count()};
  for (const PlanSpec& spec : engine_options.plans) {
    TIDAL_ASSIGN_OR_RETURN(AttentionPlan plan, loaded.engine->ResolvePlan(spec));
    loaded.plans.push_back(std::move(plan));
  }
  return loaded;
}

Status SaysWhoAsked(const Status& status, const std::string& who) {
  return status.message().starts_with("--ctx-size") ? status.Annotate(who) : status;
}

std::string BaseName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace tidal
