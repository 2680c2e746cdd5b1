// tidal eval loss: what plans lose against full attention on given text.
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/eval_loss_output.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "cli/report_folder.h"
#include "eval/loss.h"

namespace tidal {
namespace {

constexpr int32_t kMaxTokens = 1 << 24;

constexpr const char* kFooter =
    R"(Each window of a text is prefilled once with every layer full. Its next tokens are
then decoded one by one, the text given, by full attention and by every plan side by
side. KL is KL(full || plan) in nats over the whole vocabulary. Intervals of 95 % come
from drawing documents (of one document: windows) again, the same for all plans.

Examples:
  tidal eval loss -m model.gguf -f book.txt --attention tidal,streaming
  tidal eval loss -m model.gguf -f a.txt -f b.txt --prefill 8192 --windows 4 --json

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C (the windows that
were finished by then are reported).)";

class EvalLossCommand : public Command {
 public:
  explicit EvalLossCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  // The options that make the context as long as it is.
  std::string Lengths() const {
    return free_run_ > 0
               ? fmt::format("--prefill {} and --free-run {}", request_.prefill, free_run_)
               : fmt::format("--prefill {} and --decode {}", request_.prefill, request_.decode);
  }
  Result<LoadedEngine> Load(const Console& console);
  Result<int> RunLoss(const Console& console, const LoadedEngine& loaded) const;
  Result<int> RunFreeRun(const Console& console, const LoadedEngine& loaded) const;
  // Says how much of an interrupted run counts, and returns `code`, that of the command.
  int TellStopped(const Console& console, size_t finished, int code) const;
  FreeRunRequest FreeRun() const;
  EvalNeeds Needs() const { return free_run_ > 0 ? NeedsOf(FreeRun()) : NeedsOf(request_); }
  Status Print(const Console& console, const std::string& table,
               const nlohmann::ordered_json& json) const;

  ModelOptions model_;
  std::vector<std::string> files_;
  LossRequest request_;
  int32_t free_run_ = 0;   // tokens; 0: the text is given
  float temperature_ = 0;  // of --free-run
  int32_t seed_ = 1;
  bool json_ = false;
  std::string report_folder_;  // empty: no report
};

EvalLossCommand::EvalLossCommand(CLI::App* app) : Command(app) {
  request_.speed_steps = 8;
  SetHeading(app, "Measurement");
  AddOption(app,
            {"-f,--file", "FILE", "A text; several, each with its own -f, are documents",
             Presence::kRequired, Arity::kRepeated},
            [this](const std::string&, const std::string& path) {
              files_.push_back(path);
              return OkStatus();
            });
  AddInt(app, {"--prefill", "N", "Tokens of a window that are prefilled (default: 4096)"},
         &request_.prefill, {1, kMaxTokens});
  AddInt(app, {"--decode", "N", "Tokens of a window that are decoded (default: 256)"},
         &request_.decode, {2, kMaxTokens});
  AddInt(app, {"--windows", "N", "Windows of each text, spread evenly over it (default: 1)"},
         &request_.windows, {1, 1 << 20});
  AddInt(app,
         {"--side-by-side", "N",
          "Windows that run in the same steps, for a GPU: faster, with N times the cache; Ctrl-C "
          "loses those of the group that runs (default: 1)"},
         &request_.side_by_side, {1, 256});
  AddFlag(app, "--divergence", &request_.divergence,
          "Also generate greedily, and count the tokens until a plan's text parts from that of "
          "full attention");
  AddInt(app,
         {"--speed-steps", "N",
          "Decode steps of each plan alone, for its speed and the bytes that it reads; 0 for none "
          "(default: 8)"},
         &request_.speed_steps, {0, 1 << 16});
  AddInt(
      app,
      {"--free-run", "N",
       "Instead let each plan generate up to N tokens after each window's prefill, and read them "
       "with full attention: KL along its own text, length and repetition (default: 0, off)"},
      &free_run_, {0, kMaxTokens});
  AddFloat(app, {"--temp", "T", "With --free-run: temperature, 0 for greedy (default: 0)"},
           &temperature_, {0, 100});
  AddInt(app, {"-s,--seed", "N", "Seed of intervals and of --temp (default: 1)"}, &seed_,
         {0, std::numeric_limits<int32_t>::max()});
  SetHeading(app, "Output");
  AddFlag(app, "--json", &json_, "Print one JSON object instead of a table");
  AddReportOption(app, &report_folder_);
  AddModelOptions(app, &model_);
  AddAttentionPlansOption(app, &model_, "tidal");
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status EvalLossCommand::Check() {
  request_.seed = static_cast<uint64_t>(seed_);
  // As many plans as were asked for, to count what they need.
  request_.plans.resize(model_.engine.plans.size());
  const EvalNeeds needs = Needs();
  if (model_.engine.ctx_size != 0 && model_.engine.ctx_size < needs.context)
    return InvalidArgument("--ctx-size is {}, but {} need {}", model_.engine.ctx_size, Lengths(),
                           needs.context);
  return OkStatus();
}

Result<LoadedEngine> EvalLossCommand::Load(const Console& console) {
  const EvalNeeds needs = Needs();
  if (model_.engine.ctx_size == 0) model_.engine.ctx_size = needs.context;
  model_.engine.cache_tokens = needs.cache_tokens;
  Result<LoadedEngine> loaded = LoadEngine(console, model_, needs.sequences);
  if (!loaded.ok()) return SaysWhoAsked(loaded.status(), Lengths());
  return loaded;
}

Status EvalLossCommand::Print(const Console& console, const std::string& table,
                              const nlohmann::ordered_json& json) const {
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  return out.Write(json_ ? DumpLine(json) : table);
}

FreeRunRequest EvalLossCommand::FreeRun() const {
  FreeRunRequest request;
  request.documents = request_.documents;
  request.plans = request_.plans;
  request.prefill = request_.prefill;
  request.generate = free_run_;
  request.windows = request_.windows;
  request.side_by_side = request_.side_by_side;
  request.sampling.temperature = temperature_;
  request.sampling.seed = request_.seed;
  return request;
}

// Tells how far the work is, how long the rest will take, and whether to stop.
class Progress {
 public:
  explicit Progress(const Console& console) : bar_(console, "Measuring") {}
  // Valid as long as this.
  EvalHooks hooks() {
    return {[this] { return interrupt_.signal() != 0; },
            [this](double fraction, const std::string& what) { Show(fraction, what); }};
  }
  // The exit code where the work was stopped.
  int stopped_code() const { return kExitSignal + interrupt_.signal(); }
  void Clear() { bar_.Clear(); }

 private:
  void Show(double fraction, const std::string& what) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const double left = elapsed.count() * (1 - fraction) / std::max(fraction, 1e-3);
    bar_.Update(fraction, fmt::format("{}, {} left", what, FormatDuration(left)));
  }

  InterruptScope interrupt_;
  ProgressBar bar_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The command's run as a report has it, from the start of the work on.
class ReportedRun {
 public:
  // Empty: there is no report. Errors: those of ReportFolder::Open.
  static Result<ReportedRun> Open(const std::string& folder) {
    ReportedRun run;
    if (folder.empty()) return run;
    TIDAL_ASSIGN_OR_RETURN(run.folder_, ReportFolder::Open(folder));
    return run;
  }

  template <typename Request, typename Measured>
  Status Add(const std::string& command_line, const Engine& engine, const EngineOptions& options,
             const Request& request, const Measured& measured) {
    if (!folder_) return OkStatus();
    TIDAL_ASSIGN_OR_RETURN(const ReportRun run,
                           DescribeRun(command_line, engine, options, started_));
    folder_->report().Add(run, request, measured);
    return folder_->Write();
  }

 private:
  std::optional<ReportFolder> folder_;
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
};

// Windows that run in the same steps are finished together, so that of an interrupted group none
// counts.
int EvalLossCommand::TellStopped(const Console& console, size_t finished, int code) const {
  console.Tell(
      fmt::format("tidal: info: stopped; {} of {} windows were finished{}{}\n", finished,
                  request_.documents.size() * static_cast<size_t>(request_.windows),
                  request_.side_by_side > 1
                      ? fmt::format(", --side-by-side {} at a time", request_.side_by_side)
                      : "",
                  finished > 0 ? ", and only they are reported" : ": there is nothing to report"));
  return code;
}

Result<int> EvalLossCommand::RunFreeRun(const Console& console, const LoadedEngine& loaded) const {
  const FreeRunRequest request = FreeRun();
  Progress progress(console);
  TIDAL_ASSIGN_OR_RETURN(ReportedRun report, ReportedRun::Open(report_folder_));
  TIDAL_ASSIGN_OR_RETURN(const FreeRunResult result,
                         MeasureFreeRun(loaded.engine.get(), request, progress.hooks()));
  progress.Clear();
  if (!result.windows.empty()) {
    const std::string model = BaseName(model_.engine.model_path);
    TIDAL_RETURN_IF_ERROR(
        Print(console, FreeRunTable(model, request, result), FreeRunJson(model, request, result)));
    TIDAL_RETURN_IF_ERROR(
        report.Add(command_line(), *loaded.engine, model_.engine, request, result));
  }
  if (!result.interrupted) return kExitOk;
  return TellStopped(console, result.windows.size(), progress.stopped_code());
}

Result<int> EvalLossCommand::RunLoss(const Console& console, const LoadedEngine& loaded) const {
  Progress progress(console);
  TIDAL_ASSIGN_OR_RETURN(ReportedRun report, ReportedRun::Open(report_folder_));
  TIDAL_ASSIGN_OR_RETURN(const LossResult result,
                         MeasureLoss(loaded.engine.get(), request_, progress.hooks()));
  progress.Clear();
  if (!result.windows.empty()) {
    const std::string model = BaseName(model_.engine.model_path);
    TIDAL_RETURN_IF_ERROR(
        Print(console, LossTable(model, request_, result), LossJson(model, request_, result)));
    TIDAL_RETURN_IF_ERROR(
        report.Add(command_line(), *loaded.engine, model_.engine, request_, result));
  }
  if (!result.interrupted) return kExitOk;
  return TellStopped(console, result.windows.size(), progress.stopped_code());
}

Result<int> EvalLossCommand::Run(const Console& console) {
  std::vector<std::string> texts;
  for (const std::string& path : files_) {
    TIDAL_ASSIGN_OR_RETURN(std::string text, ReadFile(console, path));
    texts.push_back(std::move(text));
  }
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, Load(console));
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string name = files_[i] == "-" ? "standard input" : BaseName(files_[i]);
    request_.documents.push_back({name, loaded.engine->tokenizer().Tokenize(texts[i])});
  }
  for (size_t i = 0; i < loaded.plans.size(); ++i)
    request_.plans[i] = {model_.engine.plans[i].text(), loaded.plans[i]};
  return free_run_ > 0 ? RunFreeRun(console, loaded) : RunLoss(console, loaded);
}

}  // namespace

std::unique_ptr<Command> MakeEvalLossCommand(CLI::App* eval) {
  return std::make_unique<EvalLossCommand>(
      AddCommand(eval, "loss", "loss against full attention on a text, with intervals"));
}

}  // namespace tidal
