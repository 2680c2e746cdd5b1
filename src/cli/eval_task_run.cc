#include "cli/eval_task_run.h"

#include <fmt/format.h>
#include <utility>

#include "base/math.h"
#include "cli/progress_bar.h"
#include "eval/task_score.h"
#include "eval/task_stats.h"
#include "eval/window.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

// Every plan that answers at the same time has this much of the cache to itself, in tokens: for
// what its fork does not share and for the answer.
constexpr int32_t kForkTokens = 1024;

// What a fork needs of the cache beside its pages that are shared.
int64_t OwnTokens(const TaskPrompt& prompt, const TaskTokens& tokens, int32_t shared) {
  const auto size = static_cast<int32_t>(tokens.tokens.size());
  return RoundUp(size - shared / kPageSize * kPageSize + prompt.max_tokens + 1, kPageSize);
}

// So many tokens of the prompt are read in full, once for all plans. The logits of the last token
// are computed by each fork, in a step that is the same for all.
int32_t SharedTokens(const TaskTokens& tokens, TaskQuestion question) {
  return question == TaskQuestion::kDecoded ? tokens.question_begin
                                            : static_cast<int32_t>(tokens.tokens.size()) - 1;
}

// One plan that answers a prompt, on a fork of what all plans share.
struct PlanAnswer {
  ScopedSequence sequence;
  RequestId request = 0;
  IncrementalDetokenizer detokenizer;
  std::string text;
};

class TaskRun {
 public:
  TaskRun(Engine* engine, ScopedSequence base, const TaskRunSettings& settings,
          const InterruptScope& interrupt)
      : engine_(engine),
        base_(std::move(base)),
        settings_(settings),
        hooks_{[&interrupt] { return interrupt.signal() != 0; }, nullptr} {}

  // The answers of all plans, appended to `answers`. kCancelled: a signal came.
  Status Answer(const TaskPrompt& prompt, const TaskTokens& tokens,
                std::vector<TaskAnswer>* answers);

 private:
  Status Prefill(const TaskTokens& tokens, int32_t shared);
  Result<PlanAnswer> Start(const TaskPrompt& prompt, const TaskTokens& tokens, int32_t shared,
                           const AttentionPlan& plan);
  Result<std::vector<std::string>> AnswerAll(const TaskPrompt& prompt, const TaskTokens& tokens);
  void TakeToken(const TaskPrompt& prompt, const Event& event, PlanAnswer* answer);

  Engine* engine_;
  ScopedSequence base_;
  const TaskRunSettings& settings_;
  EvalHooks hooks_;
};

Status TaskRun::Prefill(const TaskTokens& tokens, int32_t shared) {
  Request request;
  request.prompt.assign(tokens.tokens.begin(), tokens.tokens.begin() + shared);
  request.max_tokens = 0;
  TIDAL_RETURN_IF_ERROR(engine_->Submit(base_.id(), std::move(request)).status());
  return RunSteps(engine_, hooks_, [](const Event&) {});
}

Result<PlanAnswer> TaskRun::Start(const TaskPrompt& prompt, const TaskTokens& tokens,
                                  int32_t shared, const AttentionPlan& plan) {
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine_->Fork(base_.id(), shared));
  PlanAnswer answer{ScopedSequence(engine_, sequence), 0,
                    IncrementalDetokenizer(engine_->tokenizer()), ""};
  Request request;
  request.prompt = tokens.tokens;
  request.max_tokens = prompt.max_tokens;
  request.sampling.temperature = 0;
  request.attention = plan;
  if (settings_.question == TaskQuestion::kDecoded) {
    // Rows of the prompt are decoded where they are scored; the scores themselves are not needed.
    request.score_top = 0;
    request.score_prefill = tokens.question_begin;
    request.score_from = tokens.question_begin;
  }
  TIDAL_ASSIGN_OR_RETURN(answer.request, engine_->Submit(sequence, std::move(request)));
  return answer;
}

void TaskRun::TakeToken(const TaskPrompt& prompt, const Event& event, PlanAnswer* answer) {
  answer->text += answer->detokenizer.Push(event.token);
  // What was found stays found.
  const bool is_sure =
      prompt.metric == TaskMetric::kAllParts && ScoreAnswer(prompt, answer->text) >= 1;
  if (is_sure) engine_->Cancel(event.request);
}

Result<std::vector<std::string>> TaskRun::AnswerAll(const TaskPrompt& prompt,
                                                    const TaskTokens& tokens) {
  const int32_t shared = SharedTokens(tokens, settings_.question);
  TIDAL_RETURN_IF_ERROR(Prefill(tokens, shared));
  std::vector<PlanAnswer> answers;
  for (const EvalPlan& plan : settings_.plans) {
    TIDAL_ASSIGN_OR_RETURN(PlanAnswer answer, Start(prompt, tokens, shared, plan.plan));
    answers.push_back(std::move(answer));
  }
  TIDAL_RETURN_IF_ERROR(RunSteps(engine_, hooks_, [&](const Event& event) {
    if (event.kind != Event::Kind::kToken) return;
    for (PlanAnswer& answer : answers)
      if (answer.request == event.request) TakeToken(prompt, event, &answer);
  }));
  std::vector<std::string> texts;
  for (PlanAnswer& answer : answers) texts.push_back(answer.text + answer.detokenizer.Finish());
  return texts;
}

Status TaskRun::Answer(const TaskPrompt& prompt, const TaskTokens& tokens,
                       std::vector<TaskAnswer>* answers) {
  TIDAL_ASSIGN_OR_RETURN(std::vector<std::string> texts, AnswerAll(prompt, tokens));
  for (size_t plan = 0; plan < texts.size(); ++plan) {
    TaskAnswer answer;
    answer.task = prompt.task;
    answer.length = prompt.length;
    answer.depth = prompt.depth;
    answer.number = prompt.number;
    answer.plan = static_cast<int32_t>(plan);
    answer.prompt_tokens = static_cast<int32_t>(tokens.tokens.size());
    answer.text = std::move(texts[plan]);
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

EvalNeeds TaskNeeds(int32_t ctx_size, size_t num_plans) {
  const auto plans = static_cast<int32_t>(num_plans);
  return {ctx_size, plans + 1, RoundUp(ctx_size, kPageSize) + int64_t{plans} * kForkTokens};
}

Status CheckTaskPrompts(std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                        TaskQuestion question, int32_t ctx_size) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(const TaskTokens tokens, tokenizer.Tokenize(prompts[i]));
    const int64_t needed = static_cast<int64_t>(tokens.tokens.size()) + prompts[i].max_tokens;
    if (needed > ctx_size) {
      return InvalidArgument(
          "prompt {} ({}) needs {} tokens with its answer, the context holds {}; raise --ctx-size",
          i + 1, Describe(prompts[i]), needed, ctx_size);
    }
    const int64_t own = OwnTokens(prompts[i], tokens, SharedTokens(tokens, question));
    if (own > kForkTokens) {
      return InvalidArgument(
          "prompt {} ({}) needs {} tokens for its answer and what each plan reads by itself, "
          "expected at most {}; shorten its question or answer",
          i + 1, Describe(prompts[i]), own, kForkTokens);
    }
  }
  return OkStatus();
}

Result<TaskResult> RunTasks(const Console& console, Engine* engine,
                            std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                            const TaskRunSettings& settings, const InterruptScope& interrupt) {
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine->OpenSequence());
  TaskRun run(engine, ScopedSequence(engine, sequence), settings, interrupt);
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
  Summarize(&result);
  return result;
}

}  // namespace tidal
