// tidal calibrate: the plan of a model, found by measuring.
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/plan_keys.h"
#include "attention/sidecar.h"
#include "cli/arguments.h"
#include "cli/calibrate_output.h"
#include "cli/calibrate_texts.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "engine/engine_setup.h"
#include "eval/calibration.h"
#include "model/model_hash.h"

namespace tidal {
namespace {

constexpr int32_t kMaxTokens = 1 << 24;
constexpr float kDefaultMaxKl = 0.02F;
constexpr int32_t kDefaultBudgets[] = {256, 512, 1024, 2048};

constexpr const char* kFooter =
    R"(Chooses which layers choose tokens, for which heads, and by how many bits, by the KL to
full attention of decoded rows under the very plan, and writes it beside the model, where
all commands find it: tidal generate -m model.gguf --attention tidal. One plan for each
budget. Stopped with Ctrl-C, the same command goes on where it was.

Examples:
  tidal calibrate -m model.gguf
  tidal calibrate -m model.gguf --budget 1024 --max-scan 4%
  tidal calibrate -m model.gguf -f a.txt -f b.txt --held-out c.txt --prefill 8192

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

// "4%" or "4": a share.
Result<float> ParseShare(const std::string& flag, const std::string& text) {
  const std::string_view number = std::string_view(text).substr(0, text.find('%'));
  const bool is_plain = number.size() + 1 >= text.size();
  const Result<float> percent = ParseFloat(flag, number, {1e-3F, 100});
  if (is_plain && percent.ok()) return *percent / 100;
  return InvalidArgument("{} is \"{}\", expected a percentage of the cache from 0.001% to 100%",
                         flag, text);
}

Result<std::vector<int32_t>> ParseBudgets(const std::string& flag, const std::string& text) {
  TIDAL_ASSIGN_OR_RETURN(std::vector<int32_t> budgets, ParseIntList(flag, text, {1, kMaxTokens}));
  std::sort(budgets.begin(), budgets.end());
  budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
  return budgets;
}

Result<std::vector<SetScope>> ParseScopes(const std::string& flag, const std::string& text) {
  std::vector<SetScope> scopes;
  for (const std::string& name : SplitAt(text, ',')) {
    const std::optional<SetScope> scope = ScopeFromName(name);
    if (!scope || std::find(scopes.begin(), scopes.end(), *scope) != scopes.end())
      return InvalidArgument("{} is \"{}\", expected some of shared, kv and head, each once", flag,
                             text);
    scopes.push_back(*scope);
  }
  return scopes;
}

class CalibrateCommand : public Command {
 public:
  explicit CalibrateCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  Status CheckBudgets();
  Result<std::unique_ptr<Engine>> MakeEngine(const EvalNeeds& needs, int32_t index_bits) const;
  Status ReadAllTexts(const Console& console);
  CalibrationSetup Setup(const std::string& model_hash) const;
  Status WriteSidecar(const std::string& model_hash, const CalibrationResult& result) const;
  Status Print(const Console& console, const CalibrationResult& result) const;

  ModelOptions model_;
  CalibrationRequest request_;
  std::vector<std::string> files_;
  std::vector<std::string> held_out_files_;
  std::optional<float> max_kl_;
  std::optional<float> max_scan_;
  bool no_speed_ = false;
  int32_t seed_ = 1;
  std::string output_;  // empty: beside the model
  std::string state_;   // empty: beside the output, and gone when all is done
  bool json_ = false;
};

CalibrateCommand::CalibrateCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Target");
  AddOption(app,
            {"--max-kl", "X",
             "Read as little as possible, and lose at most so many nats of KL (default: 0.02)"},
            [this](const std::string& flag, const std::string& text) {
              TIDAL_ASSIGN_OR_RETURN(max_kl_, ParseFloat(flag, text, {1e-6F, 100}));
              return OkStatus();
            });
  AddOption(app,
            {"--max-scan", "P%",
             "Instead lose as little as possible, and scan at most this part of the cache"},
            [this](const std::string& flag, const std::string& text) {
              TIDAL_ASSIGN_OR_RETURN(max_scan_, ParseShare(flag, text));
              return OkStatus();
            });
  AddValue<std::vector<int32_t>>(
      app,
      {"--budget", "N[,N...]",
       "Tokens of a set; each gets a plan (default: 256,512,1024,2048, as far as they are at most "
       "half of --prefill)"},
      &request_.budgets, ParseBudgets);
  request_.scopes = {SetScope::kShared, SetScope::kKvHead};
  AddValue<std::vector<SetScope>>(app,
                                  {"--scope", "SCOPE[,SCOPE...]",
                                   "For whom a set is chosen, of shared, kv and head: those to "
                                   "compare (default: shared,kv)"},
                                  &request_.scopes, ParseScopes);
  SetHeading(app, "Measurement");
  const auto add_files = [app](const char* names, const char* help,
                               std::vector<std::string>* files) {
    AddOption(app, {names, "FILE", help, Presence::kOptional, Arity::kRepeated},
              [files](const std::string&, const std::string& path) {
                files->push_back(path);
                return OkStatus();
              });
  };
  add_files("-f,--file",
            "A text to choose by; several, each with its own -f (default: six of "
            "data/eval/calibration)",
            &files_);
  add_files("--held-out",
            "A text of another source to check with; several are taken (default: six of "
            "data/eval/test)",
            &held_out_files_);
  AddInt(app,
         {"--prefill", "N", "The context: tokens of a text that are prefilled (default: 4096)"},
         &request_.prefill, {64, kMaxTokens});
  AddInt(app, {"--decode", "N", "Tokens of each text that are decoded to choose by (default: 24)"},
         &request_.decode, {2, kMaxTokens});
  AddInt(app, {"-s,--seed", "N", "Seed of the intervals (default: 1)"}, &seed_,
         {0, std::numeric_limits<int32_t>::max()});
  AddFlag(app, "--no-speed", &no_speed_,
          "Do not time steps, and leave the context from which a plan counts to its preset: for a "
          "sidecar of more machines than this");
  SetHeading(app, "Output");
  AddText(app,
          {"-o,--output", "FILE",
           "Where the plans go (default: MODEL.tidal.json beside MODEL.gguf, model.tidal.json in a "
           "folder)"},
          &output_);
  AddText(app,
          {"--state", "FILE",
           "Where measurements are kept, for another run to go on from (default: beside the "
           "output, until all is done)"},
          &state_);
  AddFlag(app, "--json", &json_, "Print one JSON object instead of a table");
  AddModelOptions(app, &model_);
  AddLogOption(app);
  SetFooter(app, kFooter);
}

// Those of the default that the context allows, or what was asked for.
Status CalibrateCommand::CheckBudgets() {
  const int32_t most = request_.prefill / 2;
  if (request_.budgets.empty()) {
    for (const int32_t budget : kDefaultBudgets)
      if (budget <= most) request_.budgets.push_back(budget);
    if (request_.budgets.empty())
      return InvalidArgument("--prefill is {}, but the least default of --budget needs {}",
                             request_.prefill, 2 * kDefaultBudgets[0]);
  }
  if (request_.budgets.back() > most)
    return InvalidArgument("--budget is {}, expected at most {}, half of --prefill {}",
                           request_.budgets.back(), most, request_.prefill);
  // What a set of the preset always holds.
  CalibrationPoint point;
  point.budget = request_.budgets.front();
  point.select = {0};
  const PlanModel any = {.num_layers = 1, .num_heads = 1, .num_kv_heads = 1};
  const Result<PlanSpec> spec = PlanSpec::Parse(PlanText(point));
  const Status status = spec.ok() ? spec->Resolve(any).status() : spec.status();
  return status.Annotate("--budget");
}

Status CalibrateCommand::Check() {
  if (max_kl_ && max_scan_)
    return InvalidArgument("--max-kl and --max-scan are two targets, expected one of them");
  request_.target.max_scan_share = static_cast<double>(max_scan_.value_or(0));
  if (!max_scan_) request_.target.max_kl = static_cast<double>(max_kl_.value_or(kDefaultMaxKl));
  request_.seed = static_cast<uint64_t>(seed_);
  request_.times_steps = !no_speed_;
  request_.held_out_decode = 2 * request_.decode;
  EngineOptions& engine = model_.engine;
  if (engine.index_layers == IndexLayers::kNone)
    return InvalidArgument("--index-layers is none, but tokens are chosen by an index here");
  engine.index_layers = IndexLayers::kAll;
  request_.index_bits = {4, 2};
  if (engine.index_bits != 0) request_.index_bits = {engine.index_bits};
  const int32_t needed = request_.prefill + request_.held_out_decode;
  if (engine.ctx_size != 0 && engine.ctx_size < needed)
    return InvalidArgument("--ctx-size is {}, but --prefill {} and twice --decode {} need {}",
                           engine.ctx_size, request_.prefill, request_.decode, needed);
  return CheckBudgets();
}

Result<std::unique_ptr<Engine>> CalibrateCommand::MakeEngine(const EvalNeeds& needs,
                                                             int32_t index_bits) const {
  EngineOptions options = model_.engine;
  options.max_batch_tokens = std::min(model_.batch_tokens, model_.ubatch_tokens);
  options.ctx_size = std::max(options.ctx_size, needs.context);
  options.max_sequences = needs.sequences;
  options.cache_tokens = needs.cache_tokens;
  options.index_bits = index_bits;
  options.ignore_sidecar = true;
  Result<std::unique_ptr<Engine>> engine = Engine::Create(options, nullptr);
  if (!engine.ok())
    return SaysWhoAsked(engine.status(), fmt::format("--prefill {}", request_.prefill));
  return engine;
}

Status CalibrateCommand::ReadAllTexts(const Console& console) {
  if (files_.empty()) files_ = ShippedTexts("calibration");
  if (files_.empty())
    return NotFound("no data/eval/calibration is in this folder: give texts to choose by with -f");
  if (held_out_files_.empty()) held_out_files_ = ShippedTexts("test");
  TIDAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                         Tokenizer::Open(model_.engine.model_path));
  TIDAL_ASSIGN_OR_RETURN(request_.texts, ReadTexts(console, *tokenizer, files_));
  TIDAL_ASSIGN_OR_RETURN(request_.held_out, ReadTexts(console, *tokenizer, held_out_files_));
  return CheckHeldOutTexts(request_.texts, request_.held_out);
}

CalibrationSetup CalibrateCommand::Setup(const std::string& model_hash) const {
  const EngineOptions& engine = model_.engine;
  CalibrationSetup setup = {{"model_hash", model_hash},
                            {"precision", NameOf(engine.precision)},
                            {"cache_type_k", NameOf(engine.k_cache_type)},
                            {"cache_type_v", NameOf(engine.v_cache_type)},
                            {"device", engine.device.substr(0, engine.device.find(':'))}};
  if (engine.rope_scaling) setup.emplace_back("rope", RopeText(engine));
  return setup;
}

Status CalibrateCommand::WriteSidecar(const std::string& model_hash,
                                      const CalibrationResult& result) const {
  std::string existing;
  std::error_code error;
  if (std::filesystem::is_regular_file(output_, error)) {
    const Console no_input(Streams{});
    TIDAL_ASSIGN_OR_RETURN(existing, ReadFile(no_input, output_));
  }
  TIDAL_ASSIGN_OR_RETURN(Output out, Output::ToFile(output_));
  TIDAL_RETURN_IF_ERROR(
      out.Write(SidecarText(model_hash, SidecarEntries(request_, result), existing)));
  return out.Commit();
}

Status CalibrateCommand::Print(const Console& console, const CalibrationResult& result) const {
  const std::string model = BaseName(model_.engine.model_path);
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  return out.Write(json_ ? DumpLine(CalibrationJson(model, request_, result))
                         : CalibrationTable(model, request_, result));
}

Result<int> CalibrateCommand::Run(const Console& console) {
  if (output_.empty()) output_ = SidecarPath(model_.engine.model_path);
  TIDAL_RETURN_IF_ERROR(CheckOutputPath(output_));
  TIDAL_RETURN_IF_ERROR(ReadAllTexts(console));
  TIDAL_ASSIGN_OR_RETURN(const Model model, Model::Load(model_.engine.model_path));
  TIDAL_ASSIGN_OR_RETURN(const std::string model_hash, ModelHash(model));
  const bool keeps_state = !state_.empty();
  if (!keeps_state) state_ = output_ + ".state";
  TIDAL_ASSIGN_OR_RETURN(CalibrationLog log, CalibrationLog::Open(state_, Setup(model_hash)));
  const InterruptScope interrupt;
  ProgressBar bar(console, "Calibrating");
  const EvalHooks hooks = {
      [&] { return interrupt.signal() != 0; },
      [&](double fraction, const std::string& what) { bar.Update(fraction, what); }};
  const Result<CalibrationResult> result = Calibrate(
      request_, [this](const EvalNeeds& needs, int32_t bits) { return MakeEngine(needs, bits); },
      &log, hooks);
  bar.Clear();
  if (!result.ok() && result.status().code() == StatusCode::kCancelled) {
    console.Tell(fmt::format(
        "tidal: info: stopped; {} holds what was measured, and the same command goes on there\n",
        state_));
    return kExitSignal + interrupt.signal();
  }
  if (!result.ok()) return result.status();
  TIDAL_RETURN_IF_ERROR(WriteSidecar(model_hash, *result));
  std::error_code ignored;
  if (!keeps_state) std::filesystem::remove(state_, ignored);
  TIDAL_RETURN_IF_ERROR(Print(console, *result));
  console.Tell(fmt::format("tidal: info: wrote {}\n", output_));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeCalibrateCommand(CLI::App* root) {
  return std::make_unique<CalibrateCommand>(AddCommand(
      root, "calibrate", "find the model's attention plan, and keep it beside the model"));
}

}  // namespace tidal
