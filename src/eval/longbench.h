// LongBench's files: official JSON lines into prompts. The data is the user's; what is asked is in
// our words, the lengths of answers, the truncation and the metrics are the original's.
#ifndef TIDAL_EVAL_LONGBENCH_H_
#define TIDAL_EVAL_LONGBENCH_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "eval/task_catalog.h"
#include "eval/task_prompt.h"
#include "tokenizer/tokenizer.h"

namespace tidal {

// Prompts named "longbench:DATASET", of length 0, not yet truncated: the first `most` lines of the
// file. kInvalidArgument with the number of the line (no JSON object, a field that is missing or of
// another type, no answers, an unknown data set); kUnsupported for a data set whose metric needs
// Chinese text cut into words; kInvalidArgument where there is no line.
Result<std::vector<TaskPrompt>> ReadLongBench(std::string_view name, std::string_view text,
                                              int32_t most);

// Cuts the middle out of a prompt whose tokens (as `count` gives them) and answer do not fit into
// `length`, so that as many tokens of its beginning as of its end stay, and sets its length.
// kInvalidArgument where not even a prompt of two tokens fits; the errors of `count`.
Result<TaskPrompt> TruncateMiddle(const TaskPrompt& prompt, int32_t length,
                                  const Tokenizer& tokenizer, const CountTokensFn& count);

}  // namespace tidal

#endif  // TIDAL_EVAL_LONGBENCH_H_
