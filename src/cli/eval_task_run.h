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

// kInvalidArgument, naming the prompt and both numbers, where one does not fit into `ctx_size` with
// its answer; the errors of TaskTokenizer::Tokenize.
Status CheckTaskPrompts(std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                        int32_t ctx_size);

// Answers each prompt greedily under each plan. What all plans read in full is computed once: they
// take turns on one sequence, which keeps it. A signal ends the run between answers; what was
// answered by then is summed up and `interrupted` set. Errors: those of the engine. REQUIRES: the
// engine is idle and has no open sequence; CheckTaskPrompts.
Result<TaskResult> RunTasks(const Console& console, Engine* engine,
                            std::span<const TaskPrompt> prompts, const TaskTokenizer& tokenizer,
                            const TaskRunSettings& settings, const InterruptScope& interrupt);

}  // namespace tidal

#endif  // TIDAL_CLI_EVAL_TASK_RUN_H_
