// The tasks that are made from a plain text, and one prompt of them that fills a length.
//
// Names, parameters and scoring are those of RULER (Hsieh et al. 2024) and InfiniteBench (Zhang et
// al. 2024); the wording is ours, and so is the text around the needles.
#ifndef TIDAL_EVAL_TASK_CATALOG_H_
#define TIDAL_EVAL_TASK_CATALOG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "eval/task_prompt.h"
#include "eval/task_text.h"

namespace tidal {

// Which prompt of a task. The same in all of it gives the same prompt, on any platform.
struct TaskCase {
  int32_t length = 0;
  std::optional<double> depth;  // in [0, 1]; none: drawn, for tasks that have one
  int32_t number = 0;
  uint64_t seed = 0;
};

struct TaskKind {
  const char* name;
  const char* about;   // one line for people
  bool needs_text;     // false: made of noise and random letters alone
  bool has_depth;      // whether TaskCase::depth means something
  int32_t max_tokens;  // of the answer
  TaskMetric metric;
  int64_t min_size;  // sentences, lines, pairs or words of the smallest prompt
  // Fills in context, question, answer_prefix, answers and depth of a prompt of `size` units.
  // Larger sizes give longer prompts. The text before the needle depends on the case's task,
  // length, number and seed alone, so that prompts of several depths begin alike.
  void (*make)(const TaskKind& kind, const TaskText& text, const TaskCase& spec, int64_t size,
               TaskPrompt* prompt);
};

std::span<const TaskKind> TaskKinds();
// Null where there is none.
const TaskKind* FindTaskKind(std::string_view name);
// "niah_single_1, ..., kv_retrieval", for messages.
std::string TaskKindNames();

// How many tokens the whole prompt has, chat template and answer prefix included.
using CountTokensFn = std::function<Result<int64_t>(const TaskPrompt&)>;

// The largest prompt of the case that, with its answer, fits into spec.length tokens. Errors:
// kInvalidArgument where not even the smallest does (both numbers are named), those of `count`.
// REQUIRES: `text` comes from TaskText::Parse where the kind needs one.
Result<TaskPrompt> MakeTaskPrompt(const TaskKind& kind, const TaskText& text, const TaskCase& spec,
                                  const CountTokensFn& count);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_CATALOG_H_
