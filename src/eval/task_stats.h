// Sums up the answers of an evaluation.
#ifndef TIDAL_EVAL_TASK_STATS_H_
#define TIDAL_EVAL_TASK_STATS_H_

#include <cstdint>

#include "eval/task_result.h"

namespace tidal {

// Wilson's 95 % interval of a share; all of [0, 1] where there is no case.
ShareInterval WilsonInterval(int64_t right, int64_t cases);

// The exact two-sided sign test: how likely so uneven a split of a + b fair coins, or a more
// uneven one, is.
double SignTest(int64_t a, int64_t b);

// Fills in cells and totals from the answers. Cells stand in the order in which the answers first
// name their task, length and depth. A case counts where every plan has answered it, so that what
// an interruption left half done does not make plans differ.
void Summarize(TaskResult* result);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_STATS_H_
