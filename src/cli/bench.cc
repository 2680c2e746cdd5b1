// tidal bench: tokens per second of prefill and decode, beside what the machine's memory allows.
#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "cli/arguments.h"
#include "cli/bench_report.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/read_bandwidth.h"
#include "cli/report.h"

namespace tidal {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int32_t kMaxTokens = 1 << 24;

constexpr const char* kFooter =
    R"(A test ppN prefills N tokens, a test tgN decodes N tokens, each with -d tokens in
the cache before it. Repetitions of tests and plans take turns. The machine's read
bandwidth is measured first: a decode step cannot be faster than it allows.

Examples:
  tidal bench -m model.gguf
  tidal bench -m model.gguf -p 512 -n 64 -d 0,8192,16384 -r 5 --json
  tidal bench -m model.gguf -p 0 -n 128 -ctk q8_0 -ctv q8_0
  tidal bench -m model.gguf -p 0 -d 16384 --attention full,tidal,tidal:budget=256

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

class BenchCommand : public Command {
 public:
  explicit BenchCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  ModelOptions model_;
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
  SetHeading(app, "Output");
  AddFlag(app, "--json", &json_, "Print one JSON object instead of a table");
  AddModelOptions(app, &model_);
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status BenchCommand::Check() {
  const auto is_zero = [](int32_t tokens) { return tokens == 0; };
  if (std::all_of(settings_.prompt_tokens.begin(), settings_.prompt_tokens.end(), is_zero) &&
      std::all_of(settings_.decode_tokens.begin(), settings_.decode_tokens.end(), is_zero))
    return InvalidArgument("-p and -n are both 0, expected a test to run");
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

Result<int> BenchCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, LoadEngine(console, model_));
  Engine* engine = loaded.engine.get();
  for (size_t i = 0; i < loaded.plans.size(); ++i)
    settings_.plans.push_back({model_.engine.plans[i].text(), loaded.plans[i]});
  BenchMachine machine;
  machine.cpu = CpuName();
  machine.cores = UsableCores();
  machine.threads = engine->num_threads();
  machine.isa = NameOf(engine->isa());
  machine.device = engine->device_name();
  // The memory of this machine limits nothing that runs on another.
  if (machine.device.empty()) {
    TIDAL_ASSIGN_OR_RETURN(machine.read_gbps,
                           MeasureReadGbps(ReadBufferBytes(), engine->num_threads()));
  }
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
