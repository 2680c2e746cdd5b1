// Runs the prompts of tasks under plans and scores the answers.
#ifndef TIDAL_CLI_EVAL_TASK_RUN_H_
#define TIDAL_CLI_EVAL_TASK_RUN_H_

#include <span>
#include <vector>

#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/task_tokens.h"
#include "engine/engine.h"
#include "eval/loss.h"
#include "eval/task_result.h"

namespace tidal {

// Where the question is read: in the prefill, with every layer full, or as rows decoded under the
// plan.
enum class TaskQuestion : uint8_t { kPrefill, kDecoded };
const char* NameOf(TaskQuestion question);  // "prefill", "decoded"

struct TaskRunSettings {
  std::vector<EvalPlan> plans;  // at least one
  TaskQuestion question = TaskQuestion::kPrefill;
  uint64_t seed = 0;  // that the prompts were made with, for the result
};

// What RunTasks needs of an engine whose sequences hold `ctx_size` tokens.
EvalNeeds TaskNeeds(int32_t ctx_size, size_t num_plans);

// kInvalidArgument, naming the prompt and both numbers, where one does not fit into `ctx_size` with
// its answer, or what plans do not share of it not into what TaskNeeds has for that; the errors of
// TaskTokenizer::Tokenize.
Status CheckTaskPrompts(std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                        TaskQuestion question, int32_t ctx_size);

// Answers each prompt greedily under each plan, all plans side by side on forks of what they read
// in full, which is computed once and kept as far as the next prompt begins alike. An answer whose
// score can no longer change ends there. A signal ends the run; the prompts that were answered by
// then are summed up and `interrupted` set. Errors: those of the engine. REQUIRES: the engine is
// idle, has no open sequence and has what TaskNeeds says; CheckTaskPrompts.
Result<TaskResult> RunTasks(const Console& console, Engine* engine,
                            std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                            const TaskRunSettings& settings, const InterruptScope& interrupt);

}  // namespace tidal

#endif  // TIDAL_CLI_EVAL_TASK_RUN_H_
