// The score of an answer to a task's prompt.
#ifndef TIDAL_EVAL_TASK_SCORE_H_
#define TIDAL_EVAL_TASK_SCORE_H_

#include <optional>
#include <string_view>

#include "eval/task_prompt.h"

namespace tidal {

// In [0, 1], by the prompt's metric; where a metric compares with one reference, the best of them.
double ScoreAnswer(const TaskPrompt& prompt, std::string_view answer);

// "all_parts", ...: as prompts in JSON lines have it.
const char* NameOf(TaskMetric metric);
std::optional<TaskMetric> FindTaskMetric(std::string_view name);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_SCORE_H_
