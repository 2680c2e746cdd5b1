// tidal score: how likely a model finds a text, token by token.
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "cli/run_request.h"
#include "cli/token_list.h"
#include "cli/trace_writer.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    R"(Teacher-forced natural-logarithm probabilities. With --json, for n tokens:
  {"top": n entries, each the best [[id, logprob], ...] for what follows the token,
   "next_logprob": n - 1 entries, of each token that really follows}
With --prefill N also, of the n - N rows that were decoded under --attention:
  "selected_mass": the attention that each row's sets hold, null where unknown
  "attention": what the plan is and what its rows read
Without --json: how many tokens, their mean and their perplexity.

Examples:
  tidal score -m model.gguf -f tokens.json --top 8 --json
  tidal score -m model.gguf --text document.txt
  tidal score -m model.gguf -f tokens.json --prefill 1000 --attention tidal --json

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

class ScoreCommand : public Command {
 public:
  explicit ScoreCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  Result<std::vector<TokenId>> Tokens(const Engine& engine, const std::string& input) const;

  ModelOptions model_;
  TraceOptions trace_;
  PromptOptions input_;
  bool as_text_ = false;
  std::string text_file_;  // empty: the text is in -f's
  int32_t top_ = 0;
  int32_t prefill_ = -1;
  bool json_ = false;
};

ScoreCommand::ScoreCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Input");
  AddText(app, {"-f,--file", "FILE", "Token ids as {\"tokens\":[...]}; - is standard input"},
          &input_.file);
  AddOption(app,
            {"--text", "[FILE]",
             "The input is text, not token ids: of FILE, or of -f where FILE is left out",
             Presence::kOptional, Arity::kOptional},
            [this](const std::string&, const std::string& path) {
              as_text_ = true;
              text_file_ = path;
              return OkStatus();
            });
  AddInt(app,
         {"--prefill", "N",
          "Prefill the first N tokens with every layer full and decode each later one as a row of "
          "its own under --attention (default: prefill all)"},
         &prefill_, {0, std::numeric_limits<int32_t>::max()});
  SetHeading(app, "Output");
  AddInt(app, {"--top", "N", "With --json: the N best per position (default: 0)"}, &top_,
         {0, 1 << 20});
  AddFlag(app, "--json", &json_, "Print one JSON object");
  AddTraceOptions(app, &trace_);
  AddModelOptions(app, &model_);
  AddAttentionOption(app, &model_);
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status ScoreCommand::Check() {
  if (input_.file && !text_file_.empty())
    return InvalidArgument("-f and --text name a file each, expected one of them");
  if (!text_file_.empty()) input_.file = text_file_;
  if (!input_.file)
    return InvalidArgument("no input is given, expected -f FILE with token ids or --text FILE");
  if (top_ > 0 && !json_) return InvalidArgument("--top needs --json, which has a place for them");
  return CheckTraceOptions(trace_);
}

Result<std::vector<TokenId>> ScoreCommand::Tokens(const Engine& engine,
                                                  const std::string& input) const {
  if (as_text_) return engine.tokenizer().Tokenize(input);
  TIDAL_ASSIGN_OR_RETURN(std::vector<TokenId> ids, ParseTokenList(*input_.file, input));
  TIDAL_RETURN_IF_ERROR(CheckTokens(*input_.file, ids, engine.model().config().vocab_size));
  return ids;
}

std::string Summary(const std::vector<float>& logprobs, int32_t num_tokens, double ms) {
  double sum = 0;
  for (const float logprob : logprobs) sum += logprob;
  const double mean = logprobs.empty() ? 0 : sum / static_cast<double>(logprobs.size());
  return fmt::format("{} tokens, mean log-probability {:.5f}, perplexity {:.4f}, {:.1f} tokens/s\n",
                     num_tokens, mean, std::exp(-mean), TokensPerSecond(num_tokens, ms));
}

Result<int> ScoreCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(const std::string input, ReadPrompt(console, input_));
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, LoadEngine(console, model_));
  Engine* engine = loaded.engine.get();
  Request request;
  TIDAL_ASSIGN_OR_RETURN(request.prompt, Tokens(*engine, input));
  request.max_tokens = 0;
  request.attention = loaded.plans[0];
  request.score_top = top_;
  request.score_prefill = prefill_;
  const auto num_tokens = static_cast<int32_t>(request.prompt.size());
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine->OpenSequence());
  const InterruptScope interrupt;
  ProgressBar bar(console, "Scoring");
  TIDAL_ASSIGN_OR_RETURN(TraceWriter trace, TraceWriter::Open(trace_));
  request.trace = trace.function();
  Json top = Json::array();
  Json masses = Json::array();  // of the decoded rows
  std::vector<float> next;
  const auto on_event = [&](const Event& event) -> Status {
    if (event.kind != Event::Kind::kScore) return OkStatus();
    top.push_back(TopJson(event.top));
    if (event.token != kNoToken) next.push_back(event.logprob);
    if (prefill_ >= 0 && event.done >= prefill_) masses.push_back(ShortNumber(event.selected_mass));
    bar.UpdateCount(event.done + 1, num_tokens, "tokens");
    return OkStatus();
  };
  TIDAL_ASSIGN_OR_RETURN(const RequestResult result,
                         RunRequest(engine, sequence, request, &interrupt, on_event));
  bar.Clear();
  // Half of the entries would look like all of a shorter text's.
  if (result.reason == FinishReason::kCancelled) return kExitSignal + interrupt.signal();
  TIDAL_RETURN_IF_ERROR(trace.Commit());
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  if (!json_) {
    TIDAL_RETURN_IF_ERROR(out.Write(Summary(next, num_tokens, result.timings.prompt_ms)));
    return kExitOk;
  }
  Json logprobs = Json::array();
  for (const float logprob : next) logprobs.push_back(ShortNumber(logprob));
  Json report = {{"top", std::move(top)}, {"next_logprob", std::move(logprobs)}};
  if (prefill_ >= 0) {
    report["selected_mass"] = std::move(masses);
    report["attention"] = AttentionJson(request.attention, result.attention);
  }
  TIDAL_RETURN_IF_ERROR(out.Write(DumpLine(report)));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeScoreCommand(CLI::App* root) {
  return std::make_unique<ScoreCommand>(
      AddCommand(root, "score", "log-probabilities of a given text, token by token"));
}

}  // namespace tidal
