// tidal generate: continues a prompt, or answers it.
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/chat_renderer.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/prompt_cache.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "cli/run_request.h"
#include "cli/sampling_options.h"
#include "cli/trace_writer.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter = R"(Examples:
  tidal generate -m model.gguf -p "The capital of France is" -n 16
  tidal generate -m model.gguf --chat -f report.txt -p "Who wrote this?" --temp 0
  cat code.py | tidal generate -m model.gguf -f - -n 100 -o continued.txt
  tidal generate -m model.gguf -p "One, two," -n 8 --temp 0 --json
  tidal generate -m model.gguf --chat -f book.txt -p "Who?" --attention tidal --stats
  tidal generate -m model.gguf --chat -f book.txt -p "Why?" --prompt-cache book.kv

Text streams to standard output as it comes. Ctrl-C ends the text and keeps what
was written (exit code 130); a second Ctrl-C ends the program at once.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.)";

struct Options {
  ModelOptions model;
  TraceOptions trace;
  SamplingOptions sampling;
  PromptOptions prompt;
  PromptCacheOptions prompt_cache;
  std::optional<std::string> system;
  std::string output;
  int32_t max_tokens = -1;
  int32_t logprobs = 0;
  bool chat = false;
  bool no_bos = false;
  bool no_special = false;
  bool json = false;
  bool stats = false;
};

// What came out of a request, gathered while it runs.
struct Answer {
  std::vector<TokenId> tokens;
  std::string text;
  Json logprobs = Json::array();
};

class GenerateCommand : public Command {
 public:
  explicit GenerateCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  Result<std::vector<TokenId>> Tokens(const Engine& engine, const std::string& prompt) const;
  Result<Request> MakeRequest(const LoadedEngine& loaded, const std::string& prompt) const;
  // Runs a request on a sequence that is open.
  Result<RequestResult> Generate(const Console& console, Engine* engine, SequenceId sequence,
                                 const Request& request, const InterruptScope& interrupt,
                                 Output* output, Answer* answer);
  Json Report(const Request& request, const RequestResult& result, const Answer& answer,
              const PromptCache& prompt_cache, double load_ms) const;

  Options options_;
};

GenerateCommand::GenerateCommand(CLI::App* app) : Command(app) {
  AddPromptOptions(app, &options_.prompt);
  SetHeading(app, "Input");
  AddFlag(app, "--chat", &options_.chat,
          "Wrap the prompt as a user's message in the model's chat template");
  AddText(app, {"--system", "TEXT", "With --chat: a system message before it"}, &options_.system);
  AddFlag(app, "--no-bos", &options_.no_bos,
          "Leave out the beginning-of-text token even where the model asks for it");
  AddFlag(app, "--no-special", &options_.no_special,
          "Take the names of special tokens in the prompt, such as <|im_end|>, as plain text");
  AddPromptCacheOptions(app, &options_.prompt_cache);
  SetHeading(app, "Output");
  AddInt(app,
         {"-n,--predict,--n-predict", "N",
          "Most tokens to generate; -1 until the context is full (default: -1)"},
         &options_.max_tokens, {-1, std::numeric_limits<int32_t>::max()});
  AddText(app, {"-o,--output", "FILE", "Write to FILE, which appears when all of it is written"},
          &options_.output);
  AddFlag(app, "--json", &options_.json,
          "Print one JSON object at the end instead of streaming text");
  AddInt(app, {"--logprobs", "N", "With --json: add the N best log-probabilities of each token"},
         &options_.logprobs, {0, 1 << 20});
  AddFlag(app, "--stats", &options_.stats,
          "Print a short table of speeds and memory on standard error at the end");
  AddTraceOptions(app, &options_.trace);
  AddModelOptions(app, &options_.model);
  AddAttentionOption(app, &options_.model);
  AddSamplingOptions(app, &options_.sampling);
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status GenerateCommand::Check() {
  TIDAL_RETURN_IF_ERROR(CheckPromptOptions(options_.prompt));
  if (options_.system && !options_.chat)
    return InvalidArgument("--system needs --chat, since only a chat template has a place for it");
  if (options_.no_special && options_.chat)
    return InvalidArgument(
        "--no-special and --chat exclude each other: a chat template is made of special tokens");
  if (options_.no_bos && options_.chat)
    return InvalidArgument("--no-bos and --chat exclude each other: the template decides on it");
  TIDAL_RETURN_IF_ERROR(CheckTraceOptions(options_.trace));
  TIDAL_RETURN_IF_ERROR(CheckPromptCacheOptions(options_.prompt_cache));
  if (options_.logprobs > 0 && !options_.json)
    return InvalidArgument("--logprobs needs --json, which has a place for them");
  return OkStatus();
}

Result<std::vector<TokenId>> GenerateCommand::Tokens(const Engine& engine,
                                                     const std::string& prompt) const {
  const SpecialTokens special =
      options_.no_special ? SpecialTokens::kAsText : SpecialTokens::kParse;
  if (!options_.chat) {
    return engine.tokenizer().Tokenize(prompt, special,
                                       options_.no_bos ? AddBos::kNever : AddBos::kModelDefault);
  }
  TIDAL_ASSIGN_OR_RETURN(const ChatRenderer renderer,
                         ChatRenderer::ForModel(engine.model(), engine.tokenizer()));
  std::vector<ChatMessage> messages;
  if (options_.system) messages.push_back({"system", *options_.system});
  messages.push_back({"user", prompt});
  TIDAL_ASSIGN_OR_RETURN(const std::string text, renderer.Render(messages));
  return renderer.Tokenize(text);
}

Result<RequestResult> GenerateCommand::Generate(const Console& console, Engine* engine,
                                                SequenceId sequence, const Request& request,
                                                const InterruptScope& interrupt, Output* output,
                                                Answer* answer) {
  IncrementalDetokenizer detokenizer(engine->tokenizer());
  ProgressBar bar(console, "Reading the prompt");
  const auto emit = [&](const std::string& text) {
    answer->text += text;
    return options_.json ? OkStatus() : output->Write(text);
  };
  const auto on_event = [&](const Event& event) -> Status {
    switch (event.kind) {
      case Event::Kind::kPrefill:
        bar.UpdateCount(event.done, event.timings.prompt_tokens, "tokens");
        return OkStatus();
      case Event::Kind::kToken:
        bar.Clear();
        answer->tokens.push_back(event.token);
        if (options_.logprobs > 0) {
          answer->logprobs.push_back({{"token", event.token},
                                      {"logprob", ShortNumber(event.logprob)},
                                      {"top", TopJson(event.top)}});
        }
        return emit(detokenizer.Push(event.token));
      case Event::Kind::kFinished:
        return emit(detokenizer.Finish());
      case Event::Kind::kScore:
        return OkStatus();
    }
    return OkStatus();
  };
  return RunRequest(engine, sequence, request, &interrupt, on_event);
}

Json GenerateCommand::Report(const Request& request, const RequestResult& result,
                             const Answer& answer, const PromptCache& prompt_cache,
                             double load_ms) const {
  Json report = {{"prompt_tokens", request.prompt},
                 {"tokens", answer.tokens},
                 {"text", answer.text},
                 {"finish_reason", NameOf(result.reason)},
                 {"timings", TimingsJson(load_ms, result.timings)},
                 {"attention", AttentionJson(request.attention, result.attention)},
                 {"seed", request.sampling.seed}};
  if (prompt_cache.is_used()) {
    report["prompt_cache"] = {{"loaded_n", prompt_cache.loaded_tokens()},
                              {"load_ms", Rounded(prompt_cache.load_ms(), 3)}};
  }
  if (options_.logprobs > 0) report["logprobs"] = answer.logprobs;
  return report;
}

Result<Request> GenerateCommand::MakeRequest(const LoadedEngine& loaded,
                                             const std::string& prompt) const {
  Request request;
  TIDAL_ASSIGN_OR_RETURN(request.prompt, Tokens(*loaded.engine, prompt));
  request.max_tokens = options_.max_tokens;
  request.sampling = WithSeed(options_.sampling);
  request.attention = loaded.plans[0];
  request.ignore_eos = options_.sampling.ignore_eos;
  request.logprobs = options_.logprobs;
  return request;
}

Result<int> GenerateCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(const std::string prompt, ReadPrompt(console, options_.prompt));
  // Before the work, not after it.
  if (!options_.output.empty()) TIDAL_RETURN_IF_ERROR(CheckOutputPath(options_.output));
  TIDAL_ASSIGN_OR_RETURN(PromptCache prompt_cache, PromptCache::Open(options_.prompt_cache));
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, LoadEngine(console, options_.model));
  Engine* engine = loaded.engine.get();
  TIDAL_RETURN_IF_ERROR(prompt_cache.Check(*engine));
  TIDAL_ASSIGN_OR_RETURN(Request request, MakeRequest(loaded, prompt));
  const InterruptScope interrupt;
  TIDAL_ASSIGN_OR_RETURN(Output output, OpenOutput(console, options_.output));
  TIDAL_ASSIGN_OR_RETURN(TraceWriter trace, TraceWriter::Open(options_.trace));
  request.trace = trace.function();
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine->OpenSequence());
  TIDAL_RETURN_IF_ERROR(prompt_cache.Load(engine, sequence, request.prompt));
  Answer answer;
  TIDAL_ASSIGN_OR_RETURN(const RequestResult result,
                         Generate(console, engine, sequence, request, interrupt, &output, &answer));
  if (options_.json) {
    TIDAL_RETURN_IF_ERROR(
        output.Write(DumpLine(Report(request, result, answer, prompt_cache, loaded.load_ms))));
  }
  // The prompt of a shell belongs on a line of its own; a file gets the text and nothing else.
  if (options_.output.empty() && console.out_is_terminal() && !output.at_line_start())
    TIDAL_RETURN_IF_ERROR(output.Write("\n"));
  TIDAL_RETURN_IF_ERROR(output.Commit());
  TIDAL_RETURN_IF_ERROR(trace.Commit());
  if (options_.stats) {
    console.Tell("\n" + StatsTable({engine, loaded.load_ms, result.timings, request.attention,
                                    result.attention, request.sampling.seed}));
    if (prompt_cache.is_used()) {
      console.Tell(fmt::format("file      {} tokens of the prompt in {:.1f} ms\n",
                               prompt_cache.loaded_tokens(), prompt_cache.load_ms()));
    }
  }
  // Last, since it may take as long as writing the cache's bytes does.
  TIDAL_RETURN_IF_ERROR(
      prompt_cache.Save(*engine, sequence, static_cast<int32_t>(request.prompt.size())));
  return interrupt.signal() == 0 ? kExitOk : kExitSignal + interrupt.signal();
}

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand(CLI::App* root) {
  return std::make_unique<GenerateCommand>(
      AddCommand(root, "generate", "continue a prompt, or answer it with --chat"));
}

}  // namespace tidal
