#include "cli/eval_task_run.h"

#include <fmt/format.h>
#include <utility>

#include "cli/progress_bar.h"
#include "cli/run_request.h"
#include "eval/task_score.h"
#include "eval/task_stats.h"

namespace tidal {
namespace {

class TaskRun {
 public:
  TaskRun(Engine* engine, SequenceId sequence, const TaskRunSettings& settings,
          const InterruptScope& interrupt)
      : engine_(engine), sequence_(sequence), settings_(settings), interrupt_(interrupt) {}

  // The answers of all plans, appended to `answers`. kCancelled: a signal came.
  Status Answer(const TaskPrompt& prompt, const TaskTokens& tokens,
                std::vector<TaskAnswer>* answers);

 private:
  Status Prefill(const TaskTokens& tokens);
  Result<std::string> Generate(const TaskPrompt& prompt, const TaskTokens& tokens,
                               const AttentionPlan& plan);
  Status Run(Request request, const std::function<Status(const Event&)>& on_event);
  bool decodes_question() const { return settings_.question == TaskQuestion::kDecoded; }

  Engine* engine_;
  SequenceId sequence_;
  const TaskRunSettings& settings_;
  const InterruptScope& interrupt_;
};

Status TaskRun::Run(Request request, const std::function<Status(const Event&)>& on_event) {
  request.sampling.temperature = 0;
  TIDAL_ASSIGN_OR_RETURN(const RequestResult result,
                         RunRequest(engine_, sequence_, std::move(request), &interrupt_, on_event));
  return result.reason == FinishReason::kCancelled ? Cancelled("the evaluation was interrupted")
                                                   : OkStatus();
}

// All that the plans have in common; the last token's logits are computed by each, in a step that
// is the same for all.
Status TaskRun::Prefill(const TaskTokens& tokens) {
  const auto size = static_cast<int32_t>(tokens.tokens.size());
  const int32_t shared = decodes_question() ? tokens.question_begin : size - 1;
  Request request;
  request.prompt.assign(tokens.tokens.begin(), tokens.tokens.begin() + shared);
  request.max_tokens = 0;
  return Run(std::move(request), [](const Event&) { return OkStatus(); });
}

Result<std::string> TaskRun::Generate(const TaskPrompt& prompt, const TaskTokens& tokens,
                                      const AttentionPlan& plan) {
  Request request;
  request.prompt = tokens.tokens;
  request.max_tokens = prompt.max_tokens;
  request.attention = plan;
  if (decodes_question()) {
    // Rows of the prompt are decoded where they are scored; the scores themselves are not needed.
    request.score_top = 0;
    request.score_prefill = tokens.question_begin;
    request.score_from = tokens.question_begin;
  }
  IncrementalDetokenizer detokenizer(engine_->tokenizer());
  std::string text;
  const auto on_event = [&](const Event& event) {
    if (event.kind == Event::Kind::kToken) text += detokenizer.Push(event.token);
    return OkStatus();
  };
  TIDAL_RETURN_IF_ERROR(Run(std::move(request), on_event));
  return text + detokenizer.Finish();
}

Status TaskRun::Answer(const TaskPrompt& prompt, const TaskTokens& tokens,
                       std::vector<TaskAnswer>* answers) {
  TIDAL_RETURN_IF_ERROR(Prefill(tokens));
  for (size_t plan = 0; plan < settings_.plans.size(); ++plan) {
    TaskAnswer answer;
    answer.task = prompt.task;
    answer.length = prompt.length;
    answer.depth = prompt.depth;
    answer.number = prompt.number;
    answer.plan = static_cast<int32_t>(plan);
    answer.prompt_tokens = static_cast<int32_t>(tokens.tokens.size());
    TIDAL_ASSIGN_OR_RETURN(answer.text, Generate(prompt, tokens, settings_.plans[plan].plan));
    answer.score = ScoreAnswer(prompt, answer.text);
    answers->push_back(std::move(answer));
  }
  return OkStatus();
}

std::string Describe(const TaskPrompt& prompt) {
  return fmt::format("{} of {} tokens{}", prompt.task, prompt.length,
                     prompt.depth ? fmt::format(" at depth {:.2f}", *prompt.depth) : "");
}

}  // namespace

const char* NameOf(TaskQuestion question) {
  return question == TaskQuestion::kPrefill ? "prefill" : "decoded";
}

Status CheckTaskPrompts(std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                        int32_t ctx_size) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(const TaskTokens tokens, tokenizer.Tokenize(prompts[i]));
    const int64_t needed = static_cast<int64_t>(tokens.tokens.size()) + prompts[i].max_tokens;
    if (needed > ctx_size) {
      return InvalidArgument(
          "prompt {} ({}) needs {} tokens with its answer, the context holds {}; raise --ctx-size",
          i + 1, Describe(prompts[i]), needed, ctx_size);
    }
  }
  return OkStatus();
}

Result<TaskResult> RunTasks(const Console& console, Engine* engine,
                            std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                            const TaskRunSettings& settings, const InterruptScope& interrupt) {
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine->OpenSequence());
  TaskRun run(engine, sequence, settings, interrupt);
  TaskResult result;
  for (const EvalPlan& plan : settings.plans) result.plans.push_back(plan.text);
  result.question = NameOf(settings.question);
  result.seed = settings.seed;
  ProgressBar bar(console, "Answering");
  for (size_t i = 0; i < prompts.size() && !result.interrupted; ++i) {
    bar.Update(static_cast<double>(i) / static_cast<double>(prompts.size()), Describe(prompts[i]));
    TIDAL_ASSIGN_OR_RETURN(const TaskTokens tokens, tokenizer.Tokenize(prompts[i]));
    const Status status = run.Answer(prompts[i], tokens, &result.answers);
    if (!status.ok() && status.code() != StatusCode::kCancelled)
      return status.Annotate(Describe(prompts[i]));
    result.interrupted = !status.ok();
  }
  // A case that not all plans have answered cannot be compared.
  result.answers.resize(result.answers.size() - result.answers.size() % result.plans.size());
  Summarize(&result);
  return result;
}

}  // namespace tidal
