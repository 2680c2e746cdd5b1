// tidal bench: tokens per second of prefill and decode, beside what the machine's memory allows.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/read_bandwidth.h"
#include "base/thread_pool.h"
#include "cli/arguments.h"
#include "cli/bench_report.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/report.h"
#include "engine/engine_device.h"
#include "model/known_shapes.h"

namespace tidal {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int32_t kMaxTokens = 1 << 24;
constexpr int32_t kMaxSequences = 256;

constexpr const char* kFooter =
    R"(A test ppN prefills N tokens, a test tgN decodes N tokens, each with -d tokens in
the cache before it. Repetitions of tests and plans take turns. The rate at which
the machine (or its GPU) reads memory is measured, too: a decode step cannot be
faster than it allows. With --shape the weights are random, which changes nothing
about the speed, and no model file is needed.

Examples:
  tidal bench -m model.gguf
  tidal bench -m model.gguf -p 512 -n 64 -d 0,8192,16384 -r 5 --json
  tidal bench -m model.gguf -p 0 -n 128 -ctk q8_0 -ctv q8_0
  tidal bench -m model.gguf -p 0 -d 16384 --attention full,tidal,tidal:budget=256
  tidal bench --shape llama3-8b --device cuda -ctk bf16 -ctv bf16 -p 0 -d 102400

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

class BenchCommand : public Command {
 public:
  explicit BenchCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  Status CheckModel();
  Result<double> ReadGbps(const Engine& engine) const;

  ModelOptions model_;
  std::string shape_;
  std::optional<DType> weights_;
  BenchSettings settings_;
  bool json_ = false;
};

// An option that takes a list of numbers from `low` up.
void AddIntList(CLI::App* app, const OptionText& text, std::vector<int32_t>* values, int32_t low) {
  AddValue<std::vector<int32_t>>(app, text, values,
                                 [low](const std::string& flag, const std::string& given) {
                                   return ParseIntList(flag, given, {low, kMaxTokens});
                                 });
}

BenchCommand::BenchCommand(CLI::App* app) : Command(app) {
  settings_.prompt_tokens = {512};
  settings_.decode_tokens = {64};
  settings_.depths = {0};
  SetHeading(app, "Tests");
  AddIntList(app,
             {"-p,--n-prompt", "N[,N...]", "Prefill tests of N tokens; 0 for none (default: 512)"},
             &settings_.prompt_tokens, 0);
  AddIntList(app, {"-n,--n-gen", "N[,N...]", "Decode tests of N tokens; 0 for none (default: 64)"},
             &settings_.decode_tokens, 0);
  AddIntList(app, {"-d,--n-depth", "N[,N...]", "Tokens in the cache before a test (default: 0)"},
             &settings_.depths, 0);
  AddAttentionPlansOption(app, &model_, "full");
  AddInt(app, {"-r,--repetitions", "N", "How often to repeat each test (default: 5)"},
         &settings_.repetitions, {1, 10000});
  AddInt(app,
         {"--sequences", "N",
          "Decode N sequences side by side, each with a cache of its own (default: 1)"},
         &settings_.sequences, {1, kMaxSequences});
  SetHeading(app, "Output");
  AddFlag(app, "--json", &json_, "Print one JSON object instead of a table");
  AddModelOptions(app, &model_, Presence::kOptional);
  const std::string shapes = fmt::format("{}", fmt::join(KnownShapeNames(), "|"));
  AddText(app,
          {"--shape", shapes.c_str(),
           "In place of a model: random weights of the shape of a known one"},
          &shape_);
  const std::string types = fmt::format("{}", fmt::join(WeightTypeNames(), "|"));
  AddValue<std::optional<DType>>(
      app, {"--weights", types.c_str(), "With --shape, the type of the weights (default: bf16)"},
      &weights_,
      [](const std::string& flag, const std::string& text) -> Result<std::optional<DType>> {
        TIDAL_ASSIGN_OR_RETURN(const DType dtype, ParseWeightType(flag, text));
        return std::optional<DType>(dtype);
      });
  AddLogOption(app);
  SetFooter(app, kFooter);
}

// Either a model's file or a shape.
Status BenchCommand::CheckModel() {
  EngineOptions& engine = model_.engine;
  if (shape_.empty() == engine.model_path.empty())
    return InvalidArgument("expected one of -m FILE and --shape NAME, {}",
                           shape_.empty() ? "neither is given" : "both are given");
  if (shape_.empty()) {
    if (weights_)
      return InvalidArgument("--weights needs --shape; a file's weights are as they are");
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(ModelConfig config, FindKnownShape("--shape", shape_));
  engine.random_model = {std::move(config), weights_.value_or(DType::kBF16)};
  engine.model_path = shape_;
  const Status status = CheckRandomModel(*engine.random_model);
  return status.ok() ? status : status.Annotate("--weights");
}

Status BenchCommand::Check() {
  TIDAL_RETURN_IF_ERROR(CheckModel());
  const auto is_zero = [](int32_t tokens) { return tokens == 0; };
  if (std::all_of(settings_.prompt_tokens.begin(), settings_.prompt_tokens.end(), is_zero) &&
      std::all_of(settings_.decode_tokens.begin(), settings_.decode_tokens.end(), is_zero))
    return InvalidArgument("-p and -n are both 0, expected a test to run");
  const int32_t step_rows = std::min(model_.batch_tokens, model_.ubatch_tokens);
  if (settings_.sequences > step_rows)
    return InvalidArgument("--sequences is {}, but a step takes only {} rows (--batch-size)",
                           settings_.sequences, step_rows);
  const int64_t needed = NeededCtxSize(settings_);
  const int32_t ctx_size = model_.engine.ctx_size;
  if (needed > kMaxInt)
    return InvalidArgument("the tests need a context of {} tokens, expected at most {}", needed,
                           kMaxInt);
  if (ctx_size != 0 && ctx_size < needed)
    return InvalidArgument("--ctx-size is {}, but the deepest test needs {}", ctx_size, needed);
  if (ctx_size == 0) model_.engine.ctx_size = static_cast<int32_t>(needed);
  return OkStatus();
}

Result<double> BenchCommand::ReadGbps(const Engine& engine) const {
  if (!engine.device_name().empty()) return MeasureDeviceReadGbps(model_.engine.device);
  return MeasureReadGbps(ReadBufferBytes(), engine.num_threads());
}

Result<int> BenchCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded,
                         LoadEngine(console, model_, settings_.sequences));
  Engine* engine = loaded.engine.get();
  for (size_t i = 0; i < loaded.plans.size(); ++i)
    settings_.plans.push_back({model_.engine.plans[i].text(), loaded.plans[i]});
  BenchMachine machine;
  machine.cpu = CpuName();
  machine.cores = UsableCores();
  machine.threads = engine->num_threads();
  machine.isa = NameOf(engine->isa());
  machine.device = engine->device_name();
  TIDAL_ASSIGN_OR_RETURN(machine.read_gbps, ReadGbps(*engine));
  const InterruptScope interrupt;
  const Result<std::vector<BenchRow>> rows = RunBench(console, engine, settings_, interrupt);
  if (!rows.ok()) {
    if (rows.status().code() == StatusCode::kCancelled) return kExitSignal + interrupt.signal();
    return rows.status();
  }
  const std::string model =
      fmt::format("{}, {:.4g} M parameters, cache {}/{}", BaseName(model_.engine.model_path),
                  static_cast<double>(engine->model().num_parameters()) / 1e6,
                  NameOf(model_.engine.k_cache_type), NameOf(model_.engine.v_cache_type));
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  TIDAL_RETURN_IF_ERROR(
      out.Write(json_ ? DumpLine(BenchJson(machine, *rows)) : BenchTable(machine, model, *rows)));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeBenchCommand(CLI::App* root) {
  return std::make_unique<BenchCommand>(AddCommand(root, "bench", "measure tokens per second"));
}

}  // namespace tidal
