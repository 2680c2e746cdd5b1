// tidal eval task: what plans find again of a long prompt, beside full attention.
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/eval_task_report.h"
#include "cli/eval_task_run.h"
#include "cli/interrupt.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "cli/report_folder.h"
#include "eval/longbench.h"
#include "eval/task_catalog.h"
#include "eval/task_jsonl.h"

namespace tidal {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr std::string_view kLongBench = "longbench:";

constexpr const char* kFooter =
    R"(Tasks, by their names in RULER: niah_single_1, niah_single_2, niah_single_3,
niah_multikey_1, niah_multikey_2, niah_multikey_3, niah_multivalue, niah_multiquery,
vt, cwe, fwe; in InfiniteBench: passkey, number_string, kv_retrieval; and
longbench:FILE for a file of LongBench. All plans answer the same prompts, greedily;
the first plan is the one that the others are compared with, case by case.

Examples:
  tidal eval task passkey -m model.gguf --lengths 1024,4096 --depths 0,0.5,1
  tidal eval task niah_single_2,vt -m model.gguf -f book.txt --attention full,tidal
  tidal eval task longbench:hotpotqa.jsonl -m model.gguf --lengths 8192 --cases 50
  tidal eval task --prompts prompts.jsonl -m model.gguf --question decoded --json

Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 ended by Ctrl-C (what was answered
by then is reported).)";

struct Options {
  std::vector<std::string> tasks;
  std::optional<std::string> text_file;
  std::vector<int32_t> lengths = {4096};
  // Empty: one is drawn for each case.
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};
  int32_t cases = 10;
  int32_t seed = 1;
  TaskQuestion question = TaskQuestion::kPrefill;
  bool no_chat = false;
  std::string save_prompts;  // empty: nowhere
  std::string prompts;       // empty: they are made
  bool json = false;
  std::string report;  // folder; empty: none
};

class EvalTaskCommand : public Command {
 public:
  explicit EvalTaskCommand(CLI::App* app);
  Status Check() override;
  Result<int> Run(const Console& console) override;

 private:
  void AddPromptFlags(CLI::App* app);
  Status CheckTasks() const;
  // What files hold, read before the model is.
  struct Input {
    TaskText text;
    std::vector<TaskPrompt> prompts;                 // of --prompts
    std::vector<std::vector<TaskPrompt>> longbench;  // [tasks]; empty for others
  };
  Result<Input> ReadInput(const Console& console) const;
  Result<LoadedEngine> Load(const Console& console, const std::vector<TaskPrompt>& prompts);
  std::vector<TaskCase> CasesOf(const TaskKind& kind, int32_t length) const;
  Result<std::vector<TaskPrompt>> MakePrompts(const Console& console, const Input& input,
                                              const Engine& engine,
                                              const TaskTokenizer& tokenizer) const;
  Status SavePrompts(const std::vector<TaskPrompt>& prompts) const;

  ModelOptions model_;
  Options options_;
};

Result<std::vector<double>> ParseDepths(const std::string& flag, const std::string& text) {
  std::vector<double> depths;
  if (text == "random") return depths;
  for (const std::string& part : SplitAt(text, ',')) {
    TIDAL_ASSIGN_OR_RETURN(const float depth, ParseFloat(flag, part, {0, 1}));
    // Back to the decimal that was written: it shows in files and tables.
    depths.push_back(Rounded(double{depth}, 6));
  }
  return depths;
}

Result<TaskQuestion> ParseQuestion(const std::string& flag, const std::string& text) {
  for (const TaskQuestion question : {TaskQuestion::kPrefill, TaskQuestion::kDecoded})
    if (text == NameOf(question)) return question;
  return InvalidArgument("{} is \"{}\", expected prefill or decoded", flag, text);
}

void EvalTaskCommand::AddPromptFlags(CLI::App* app) {
  SetHeading(app, "Prompts");
  AddOption(app, {"tasks", "NAME[,NAME...]", "Tasks, as listed below"},
            [this](const std::string&, const std::string& text) {
              options_.tasks = SplitAt(text, ',');
              return OkStatus();
            });
  AddText(app, {"-f,--file", "FILE", "The plain text that haystacks and keys are made of"},
          &options_.text_file);
  AddValue<std::vector<int32_t>>(
      app,
      {"--lengths", "N[,N...]", "Tokens that prompt and answer fit into, together (default: 4096)"},
      &options_.lengths, [](const std::string& flag, const std::string& text) {
        return ParseIntList(flag, text, {1, kMaxInt});
      });
  AddValue<std::vector<double>>(
      app,
      {"--depths", "SHARE[,SHARE...]",
       "Where needles are, 0 at the start to 1 at the end, or random, one "
       "for each case (default: 0,0.25,0.5,0.75,1)"},
      &options_.depths, ParseDepths);
  AddInt(app,
         {"--cases", "N",
          "Prompts of each task, length and depth; of a LongBench file its first N (default: 10)"},
         &options_.cases, {1, 1 << 20});
  AddInt(app, {"-s,--seed", "N", "Seed of the prompts (default: 1)"}, &options_.seed, {0, kMaxInt});
  AddValue<TaskQuestion>(app,
                         {"--question", "prefill|decoded",
                          "Read the question in the prefill, with every layer full, or as rows "
                          "decoded under the plan, which is harder (default: prefill)"},
                         &options_.question, ParseQuestion);
  AddFlag(app, "--no-chat", &options_.no_chat,
          "Leave out the model's chat template, which prompts are put into where there is one");
  AddText(app, {"--save-prompts", "FILE", "Also write the prompts to FILE, as JSON lines"},
          &options_.save_prompts);
  AddText(app, {"--prompts", "FILE", "Take the prompts from FILE instead of making them"},
          &options_.prompts);
}

EvalTaskCommand::EvalTaskCommand(CLI::App* app) : Command(app) {
  AddPromptFlags(app);
  SetHeading(app, "Output");
  AddFlag(app, "--json", &options_.json, "Print one JSON object, answers included");
  AddReportOption(app, &options_.report);
  AddModelOptions(app, &model_);
  AddAttentionPlansOption(app, &model_, "full,tidal");
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Status EvalTaskCommand::CheckTasks() const {
  for (const std::string& name : options_.tasks) {
    if (name.starts_with(kLongBench)) continue;
    const TaskKind* kind = FindTaskKind(name);
    if (kind == nullptr) {
      return InvalidArgument("\"{}\" is not a task, expected {} or longbench:FILE", name,
                             TaskKindNames());
    }
    if (kind->needs_text && !options_.text_file)
      return InvalidArgument("task {} needs a text to be made of, expected -f FILE", name);
  }
  return OkStatus();
}

Status EvalTaskCommand::Check() {
  if (options_.prompts.empty() && options_.tasks.empty())
    return InvalidArgument("no task is given, expected NAME[,NAME...] or --prompts FILE");
  if (!options_.prompts.empty() && !options_.tasks.empty())
    return InvalidArgument("--prompts and names of tasks exclude each other");
  if (!options_.prompts.empty()) return OkStatus();
  TIDAL_RETURN_IF_ERROR(CheckTasks());
  const int32_t longest = *std::max_element(options_.lengths.begin(), options_.lengths.end());
  int32_t& ctx_size = model_.engine.ctx_size;
  if (ctx_size != 0 && ctx_size < longest)
    return InvalidArgument("--ctx-size is {}, but --lengths asks for {}", ctx_size, longest);
  ctx_size = longest;
  return OkStatus();
}

Result<EvalTaskCommand::Input> EvalTaskCommand::ReadInput(const Console& console) const {
  Input input;
  if (!options_.prompts.empty()) {
    TIDAL_ASSIGN_OR_RETURN(const std::string lines, ReadFile(console, options_.prompts));
    TIDAL_ASSIGN_OR_RETURN(input.prompts, ParseTaskPrompts(options_.prompts, lines));
    return input;
  }
  if (options_.text_file) {
    TIDAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(console, *options_.text_file));
    TIDAL_ASSIGN_OR_RETURN(input.text, TaskText::Parse(*options_.text_file, text));
  }
  for (const std::string& name : options_.tasks) {
    input.longbench.emplace_back();
    if (!name.starts_with(kLongBench)) continue;
    const std::string path = name.substr(kLongBench.size());
    TIDAL_ASSIGN_OR_RETURN(const std::string lines, ReadFile(console, path));
    TIDAL_ASSIGN_OR_RETURN(input.longbench.back(), ReadLongBench(path, lines, options_.cases));
  }
  return input;
}

// Prompts from a file say what they have to fit into.
Result<LoadedEngine> EvalTaskCommand::Load(const Console& console,
                                           const std::vector<TaskPrompt>& prompts) {
  EngineOptions& engine = model_.engine;
  if (engine.ctx_size == 0)
    for (const TaskPrompt& prompt : prompts)
      engine.ctx_size = std::max(engine.ctx_size, prompt.length);
  const EvalNeeds needs = TaskNeeds(engine.ctx_size, engine.plans.size());
  engine.cache_tokens = needs.cache_tokens;
  Result<LoadedEngine> loaded = LoadEngine(console, model_, needs.sequences);
  if (loaded.ok()) return loaded;
  return SaysWhoAsked(loaded.status(), options_.prompts.empty() ? "--lengths" : options_.prompts);
}

// Depth by depth within a case, since its prompts begin alike.
std::vector<TaskCase> EvalTaskCommand::CasesOf(const TaskKind& kind, int32_t length) const {
  std::vector<TaskCase> cases;
  for (int32_t number = 0; number < options_.cases; ++number) {
    TaskCase spec;
    spec.length = length;
    spec.number = number;
    spec.seed = static_cast<uint64_t>(options_.seed);
    if (!kind.has_depth || options_.depths.empty()) cases.push_back(spec);
    for (size_t i = 0; kind.has_depth && i < options_.depths.size(); ++i) {
      spec.depth = options_.depths[i];
      cases.push_back(spec);
    }
  }
  return cases;
}

Result<std::vector<TaskPrompt>> EvalTaskCommand::MakePrompts(const Console& console,
                                                             const Input& input,
                                                             const Engine& engine,
                                                             const TaskTokenizer& tokenizer) const {
  const auto count = [&](const TaskPrompt& prompt) -> Result<int64_t> {
    TIDAL_ASSIGN_OR_RETURN(const TaskTokens tokens, tokenizer.Tokenize(prompt));
    return static_cast<int64_t>(tokens.tokens.size());
  };
  std::vector<TaskPrompt> prompts;
  ProgressBar bar(console, "Making prompts");
  for (size_t task = 0; task < options_.tasks.size(); ++task) {
    const std::string& name = options_.tasks[task];
    const TaskKind* kind = FindTaskKind(name);
    for (const int32_t length : options_.lengths) {
      const std::string what = fmt::format("{} of {} tokens", name, length);
      for (const TaskPrompt& whole : input.longbench[task]) {
        TIDAL_ASSIGN_OR_RETURN(TaskPrompt prompt,
                               TruncateMiddle(whole, length, engine.tokenizer(), count));
        prompts.push_back(std::move(prompt));
      }
      if (kind == nullptr) continue;
      for (const TaskCase& spec : CasesOf(*kind, length)) {
        TIDAL_ASSIGN_OR_RETURN(TaskPrompt prompt, MakeTaskPrompt(*kind, input.text, spec, count));
        prompts.push_back(std::move(prompt));
        bar.Update(static_cast<double>(task) / static_cast<double>(options_.tasks.size()), what);
      }
    }
  }
  return prompts;
}

Status EvalTaskCommand::SavePrompts(const std::vector<TaskPrompt>& prompts) const {
  TIDAL_ASSIGN_OR_RETURN(Output out, Output::ToFile(options_.save_prompts));
  for (const TaskPrompt& prompt : prompts) TIDAL_RETURN_IF_ERROR(out.Write(TaskPromptLine(prompt)));
  return out.Commit();
}

Result<int> EvalTaskCommand::Run(const Console& console) {
  const auto started = std::chrono::system_clock::now();
  TIDAL_ASSIGN_OR_RETURN(Input input, ReadInput(console));
  std::optional<ReportFolder> report;
  if (!options_.report.empty()) {
    TIDAL_ASSIGN_OR_RETURN(report, ReportFolder::Open(options_.report));
  }
  if (!options_.save_prompts.empty()) TIDAL_RETURN_IF_ERROR(CheckOutputPath(options_.save_prompts));
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, Load(console, input.prompts));
  Engine* engine = loaded.engine.get();
  TIDAL_ASSIGN_OR_RETURN(
      const TaskTokenizer tokenizer,
      TaskTokenizer::ForModel(engine->model(), engine->tokenizer(),
                              options_.no_chat ? UseChat::kNever : UseChat::kIfThere));
  std::vector<TaskPrompt> prompts = std::move(input.prompts);
  if (prompts.empty()) {
    TIDAL_ASSIGN_OR_RETURN(prompts, MakePrompts(console, input, *engine, tokenizer));
  }
  if (!options_.save_prompts.empty()) TIDAL_RETURN_IF_ERROR(SavePrompts(prompts));
  TIDAL_RETURN_IF_ERROR(
      CheckTaskPrompts(prompts, tokenizer, options_.question, engine->ctx_size()));
  TaskRunSettings settings;
  settings.question = options_.question;
  settings.seed = static_cast<uint64_t>(options_.seed);
  for (size_t i = 0; i < loaded.plans.size(); ++i)
    settings.plans.push_back({model_.engine.plans[i].text(), loaded.plans[i]});
  const InterruptScope interrupt;
  TIDAL_ASSIGN_OR_RETURN(const TaskResult result,
                         RunTasks(console, engine, prompts, tokenizer, settings, interrupt));
  if (report) {
    TIDAL_ASSIGN_OR_RETURN(const ReportRun run,
                           DescribeRun(command_line(), *engine, model_.engine, started));
    report->report().Add(run, result);
    TIDAL_RETURN_IF_ERROR(report->Write());
  }
  const std::string model = BaseName(model_.engine.model_path);
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  TIDAL_RETURN_IF_ERROR(out.Write(options_.json ? DumpLine(TaskResultJson(model, result))
                                                : TaskResultTable(model, result)));
  return result.interrupted ? kExitSignal + interrupt.signal() : kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeEvalTaskCommand(CLI::App* eval) {
  return std::make_unique<EvalTaskCommand>(
      AddCommand(eval, "task", "what plans find again in long prompts, and what they miss"));
}

}  // namespace tidal
