// tidal eval speed: what plans make of the time and the bytes of a decode step at given contexts.
#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kMaxTokens = 1 << 24;

constexpr const char* kFooter =
    R"(The context is filled with random tokens; each repetition decodes -n tokens from
there, and the median counts. Bytes are those that one step reads: scanned to choose
by, gathered of chosen tokens, read of layers that read everything, and weights.
tidal bench measures more, prefill and the machine's limits among it.

Examples:
  tidal eval speed -m model.gguf --contexts 4096,16384 --attention full,tidal

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

class EvalSpeedCommand : public Command {
 public:
  explicit EvalSpeedCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  ModelOptions model_;
  BenchSettings settings_;
  int32_t tokens_ = 32;
  bool json_ = false;
};

// Of the median repetition's speed, and of one step.
struct Speed {
  double tokens_per_s = 0;
  double scan_bytes = 0;
  double gather_bytes = 0;
  double full_bytes = 0;
  double weight_bytes = 0;
};

Speed SpeedOf(const BenchRow& row) {
  Speed speed;
  speed.tokens_per_s = MedianOf(row.tokens_per_s);
  // Bytes do not depend on the time: all repetitions read as much.
  const ExecutorProfile& profile = row.profiles.front();
  const auto per_step = [&](int64_t bytes) { return static_cast<double>(bytes) / row.tokens; };
  speed.scan_bytes = per_step(profile.scan_bytes);
  speed.gather_bytes = per_step(profile.gather_bytes);
  speed.full_bytes = per_step(profile.full_bytes);
  speed.weight_bytes = per_step(profile.weight_bytes);
  return speed;
}

Json SpeedJson(const BenchRow& row) {
  const Speed speed = SpeedOf(row);
  return {{"context", row.depth},
          {"plan", row.plan.text},
          {"tokens_per_s", Rounded(speed.tokens_per_s, 3)},
          {"scan_bytes", Rounded(speed.scan_bytes, 0)},
          {"gather_bytes", Rounded(speed.gather_bytes, 0)},
          {"full_bytes", Rounded(speed.full_bytes, 0)},
          {"weight_bytes", Rounded(speed.weight_bytes, 0)}};
}

std::string SpeedTable(const std::vector<BenchRow>& rows) {
  size_t width = 4;
  for (const BenchRow& row : rows) width = std::max(width, row.plan.text.size());
  std::string table =
      fmt::format("{:>8}  {:<{}}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}\n", "context", "plan", width,
                  "tokens/s", "scan MB", "gather MB", "full MB", "weight MB");
  for (const BenchRow& row : rows) {
    const Speed speed = SpeedOf(row);
    constexpr double kMb = 1e6;
    table +=
        fmt::format("{:>8}  {:<{}}  {:>9.2f}  {:>9.3f}  {:>9.3f}  {:>9.3f}  {:>9.1f}\n", row.depth,
                    row.plan.text, width, speed.tokens_per_s, speed.scan_bytes / kMb,
                    speed.gather_bytes / kMb, speed.full_bytes / kMb, speed.weight_bytes / kMb);
  }
  return table;
}

EvalSpeedCommand::EvalSpeedCommand(CLI::App* app) : Command(app) {
  settings_.depths = {4096};
  settings_.repetitions = 3;
  SetHeading(app, "Steps");
  AddValue<std::vector<int32_t>>(
      app, {"--contexts", "N[,N...]", "Tokens in the cache before the steps (default: 4096)"},
      &settings_.depths, [](const std::string& flag, const std::string& text) {
        return ParseIntList(flag, text, {1, kMaxTokens});
      });
  AddInt(app, {"-n,--n-gen", "N", "Tokens that each repetition decodes (default: 32)"}, &tokens_,
         {1, kMaxTokens});
  AddInt(app, {"-r,--repetitions", "N", "How often to repeat (default: 3)"}, &settings_.repetitions,
         {1, 10000});
  SetHeading(app, "Output");
  AddFlag(app, "--json", &json_, "Print one JSON object instead of a table");
  AddModelOptions(app, &model_);
  AddAttentionPlansOption(app, &model_, "full,tidal");
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status EvalSpeedCommand::Check() {
  settings_.decode_tokens = {tokens_};
  const int64_t needed = NeededCtxSize(settings_);
  int32_t& ctx_size = model_.engine.ctx_size;
  if (ctx_size != 0 && ctx_size < needed)
    return InvalidArgument("--ctx-size is {}, but --contexts and -n need {}", ctx_size, needed);
  if (ctx_size == 0) ctx_size = static_cast<int32_t>(needed);
  return OkStatus();
}

Result<int> EvalSpeedCommand::Run(const Console& console) {
  Result<LoadedEngine> engine = LoadEngine(console, model_);
  if (!engine.ok()) return SaysWhoAsked(engine.status(), "--contexts and -n");
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, std::move(engine));
  for (size_t i = 0; i < loaded.plans.size(); ++i)
    settings_.plans.push_back({model_.engine.plans[i].text(), loaded.plans[i]});
  const InterruptScope interrupt;
  const Result<std::vector<BenchRow>> rows =
      RunBench(console, loaded.engine.get(), settings_, interrupt);
  if (!rows.ok()) {
    if (rows.status().code() == StatusCode::kCancelled) return kExitSignal + interrupt.signal();
    return rows.status();
  }
  Json list = Json::array();
  for (const BenchRow& row : *rows) list.push_back(SpeedJson(row));
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  const Json report = {{"model", BaseName(model_.engine.model_path)}, {"rows", std::move(list)}};
  TIDAL_RETURN_IF_ERROR(out.Write(json_ ? DumpLine(report) : SpeedTable(*rows)));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeEvalSpeedCommand(CLI::App* eval) {
  return std::make_unique<EvalSpeedCommand>(
      AddCommand(eval, "speed", "speed and bytes of a decode step at given contexts"));
}

}  // namespace tidal
