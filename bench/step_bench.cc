// The whole decode step of a known model shape with random weights, from tokens to logits on the
// host, on a device: what attention plans make of it at given contexts, beside the bytes that each
// has to move. Times are the mean over the 64 steps that fill a page.
//
// usage: step_bench DEVICE SHAPE DTYPE CONTEXTS PLAN...
//   step_bench cuda llama3-8b bf16 10240,32768 full tidal:budget=1024
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/plan_spec.h"
#include "base/check.h"
#include "engine/engine_device.h"
#include "transformer/transformer.h"

namespace tidal {
namespace {

constexpr int32_t kChunk = 512;
constexpr int32_t kWarmUp = 4;         // a step that comes again is captured when it is seen twice
constexpr int32_t kSteps = kPageSize;  // one of which fills and seals a page

struct Shape {
  const char* name;
  int32_t num_layers, model_dim, ffn_dim, num_heads, num_kv_heads, vocab_size;
};
constexpr Shape kShapes[] = {{"llama2-7b", 32, 4096, 11008, 32, 32, 32000},
                             {"llama3-8b", 32, 4096, 14336, 32, 8, 128256}};

template <typename T>
T Must(Result<T> result) {
  TIDAL_CHECK(result.ok(), "{}", result.status().message());
  return std::move(result).value();
}

Model ModelOf(std::string_view name, std::string_view dtype) {
  const auto* shape = std::find_if(std::begin(kShapes), std::end(kShapes),
                                   [&](const Shape& s) { return s.name == name; });
  TIDAL_CHECK(shape != std::end(kShapes), "no shape is named {}", name);
  ModelConfig config;
  config.architecture = "llama";
  config.name = name;
  config.num_layers = shape->num_layers;
  config.model_dim = shape->model_dim;
  config.ffn_dim = shape->ffn_dim;
  config.num_heads = shape->num_heads;
  config.num_kv_heads = shape->num_kv_heads;
  config.head_dim = config.rope_dim = shape->model_dim / shape->num_heads;
  config.vocab_size = shape->vocab_size;
  config.trained_seq_len = 1 << 20;
  config.rms_norm_eps = 1e-5F;
  return Model::WithRandomWeights(config, dtype == "q4_k"   ? DType::kQ4_K
                                          : dtype == "q8_0" ? DType::kQ8_0
                                                            : DType::kBF16);
}

class Bench {
 public:
  Bench(const std::string& device, const Model& model, int32_t max_tokens)
      : config_(model.config()) {
    EngineOptions options;
    options.device = device;
    options.num_threads = 1;
    options.k_cache_type = options.v_cache_type = CacheType::kBF16;
    KeyIndexChoice index;
    index.layers.assign(static_cast<size_t>(config_.num_layers), 1);
    const int32_t num_pages = max_tokens / kPageSize + 1;
    executor_ = Must(CreateExecutor(options, model, index, num_pages, kChunk, nullptr));
    transformer_.emplace(executor_.get(), config_.num_layers, config_.vocab_size, 1);
    pages_.resize(static_cast<size_t>(num_pages));
    std::iota(pages_.begin(), pages_.end(), 0);
  }

  // Full rows up to a context.
  void Fill(int32_t context) {
    while (filled_ < context) {
      const int32_t rows = std::min(kChunk, context - filled_);
      Step(filled_, rows, nullptr);
      filled_ += rows;
    }
  }

  void Measure(const std::string& text, int32_t context, double limit_gbps) {
    const PlanModel shape = {.num_layers = config_.num_layers,
                             .num_heads = config_.num_heads,
                             .num_kv_heads = config_.num_kv_heads};
    const AttentionPlan plan = Must(Must(PlanSpec::Parse(text)).Resolve(shape));
    const AttentionPlan* used = plan.is_full() ? nullptr : &plan;
    const Status prepared = executor_->PreparePlan(0, plan);
    TIDAL_CHECK(prepared.ok(), "{}", prepared.message());
    for (int32_t i = 0; i < kWarmUp; ++i) Step(context - kSteps, 1, used);
    (void)executor_->TakeProfile();
    const auto begin = std::chrono::steady_clock::now();
    for (int32_t i = 0; i < kSteps; ++i) Step(context - kSteps + i, 1, used);
    const std::chrono::duration<double, std::milli> total =
        std::chrono::steady_clock::now() - begin;
    const double ms = total.count() / kSteps;
    const double gigabytes = static_cast<double>(executor_->TakeProfile().bytes()) / kSteps / 1e9;
    const double limit_ms = gigabytes / limit_gbps * 1000;
    std::printf("%s %6d tokens %-60s %8.3f ms  %6.2f GB  limit %7.3f ms  %.2f of it\n",
                config_.name.c_str(), context, text.c_str(), ms, gigabytes, limit_ms,
                ms / limit_ms);
    std::fflush(stdout);
  }

 private:
  void Step(int32_t first, int32_t rows, const AttentionPlan* plan) {
    batch_.Clear();
    for (int32_t i = 0; i < rows; ++i) {
      batch_.tokens.push_back((first + i) * 7919 % config_.vocab_size);
      batch_.positions.push_back(first + i);
    }
    batch_.sequences.push_back(
        {.q_len = rows, .kv_len = first + rows, .page_table = pages_.data(), .plan = plan});
    if (rows == 1) batch_.logit_rows.push_back(0);
    const Status status = transformer_->Forward(batch_, [](size_t, std::span<const float>) {});
    TIDAL_CHECK(status.ok(), "{}", status.message());
  }

  const ModelConfig& config_;
  std::unique_ptr<Executor> executor_;
  std::optional<Transformer> transformer_;
  std::vector<PageId> pages_;
  StepBatch batch_;
  int32_t filled_ = 0;
};

int Main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: step_bench DEVICE SHAPE DTYPE CONTEXTS PLAN...\n");
    return 2;
  }
  // What the card reads: bench/cuda_products_bench prints it.
  constexpr double kLimitGbps = 3070;
  const Model model = ModelOf(argv[2], argv[3]);
  std::vector<int32_t> contexts;
  for (const char* next = argv[4]; *next != 0;) {
    char* end = nullptr;
    contexts.push_back(static_cast<int32_t>(std::strtol(next, &end, 10)));
    next = *end == ',' ? end + 1 : end;
  }
  std::sort(contexts.begin(), contexts.end());
  Bench bench(argv[1], model, contexts.back());
  for (const int32_t context : contexts) {
    bench.Fill(context);
    for (int i = 5; i < argc; ++i) bench.Measure(argv[i], context, kLimitGbps);
  }
  return 0;
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) { return tidal::Main(argc, argv); }
