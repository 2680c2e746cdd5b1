// The functions behind TaskKind::make; for task_catalog.cc.
#ifndef TIDAL_EVAL_TASK_MAKERS_H_
#define TIDAL_EVAL_TASK_MAKERS_H_

#include <string>
#include <string_view>

#include "eval/task_catalog.h"

namespace tidal {

using TaskMaker = void(const TaskKind& kind, const TaskText& text, const TaskCase& spec,
                       int64_t size, TaskPrompt* prompt);

// RULER's needles, by name: task_needles.cc.
TaskMaker MakeNeedleTask;
// RULER's variable tracking and word counts: task_ruler.cc.
TaskMaker MakeVariableTracking;
TaskMaker MakeCommonWords;
TaskMaker MakeFrequentWords;
// InfiniteBench's retrieval tasks: task_infinite.cc.
TaskMaker MakePasskey;
TaskMaker MakeNumberString;
TaskMaker MakeKeyValues;

// Five short sentences that say nothing: the haystack of tasks that need no text.
inline constexpr std::string_view kNoise =
    "The river is wide. The road is dry. The night is long. On we walk. Then we come home.";

// The two streams of a case: what stands around the needle is the same at every depth.
TaskRandom HayRandom(const TaskKind& kind, const TaskCase& spec);
TaskRandom NeedleRandom(const TaskKind& kind, const TaskCase& spec);

// How many of `size` units come before a needle at `depth`.
int64_t UnitsBefore(double depth, int64_t size);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_MAKERS_H_
