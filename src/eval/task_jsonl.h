// Prompts as JSON lines, so that others can run or check the same ones.
#ifndef TIDAL_EVAL_TASK_JSONL_H_
#define TIDAL_EVAL_TASK_JSONL_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "eval/task_prompt.h"

namespace tidal {

// One line, newline included: an object with the fields of TaskPrompt, "depth" null where there is
// none. Reads back as it was where all texts are UTF-8.
std::string TaskPromptLine(const TaskPrompt& prompt);

// Lines of TaskPromptLine; empty lines are skipped. `name` is for messages. kInvalidArgument, with
// the number of the line: no JSON object, a field that is missing or of another type, an unknown
// metric, values out of range; also where there is no prompt at all.
Result<std::vector<TaskPrompt>> ParseTaskPrompts(std::string_view name, std::string_view text);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_JSONL_H_
