// What `eval task` found: a plain value for tables, JSON and the report.
//
// A *cell* is one task at one length, one depth and under one plan. All plans answer the same
// prompts, so a cell is compared with that of the first plan case by case.
#ifndef TIDAL_EVAL_TASK_RESULT_H_
#define TIDAL_EVAL_TASK_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/statistics.h"

namespace tidal {

// 95 % interval of a share of cases, both in [0, 1].
struct ShareInterval {
  double low = 0;
  double high = 1;
};

// Cases of a cell against the same cases of the first plan's cell, by whether the answer was fully
// right. The p-value is that of the exact two-sided sign test over the cases that differ; 1 where
// none does.
struct PairedCounts {
  int32_t both = 0;
  int32_t only_first = 0;
  int32_t only_this = 0;
  int32_t neither = 0;
  double p_value = 1;
  // Of the mean scores, this cell's minus the first plan's; the interval by bootstrap over cases.
  Estimate difference;
};

// One prompt answered under one plan.
struct TaskAnswer {
  std::string task;
  int32_t length = 0;           // tokens, as asked for: prompt and answer fit into it
  std::optional<double> depth;  // of the needle, 0 (start) to 1 (end); none: the task has no depth
  int32_t number = 0;           // of the case in its cell, from 0
  int32_t plan = 0;             // index into TaskResult::plans
  int32_t prompt_tokens = 0;
  std::string text;  // what the model answered
  double score = 0;  // in [0, 1], as the task's original scores it
};

struct TaskCell {
  std::string task;
  int32_t length = 0;
  std::optional<double> depth;
  int32_t plan = 0;
  int32_t cases = 0;
  double score = 0;          // mean over the cases
  int32_t right = 0;         // cases with a score of 1
  ShareInterval interval;    // Wilson's, of right / cases
  PairedCounts paired;       // with the first plan; for the first plan itself both and neither only
  double prompt_tokens = 0;  // mean
};

struct TaskResult {
  std::vector<std::string> plans;  // texts, as given; the first is what the others are paired with
  std::string question;            // "prefill" or "decoded"
  uint64_t seed = 0;
  bool interrupted = false;         // some cells lack cases, or are missing
  std::vector<TaskCell> cells;      // by task, length, depth, plan, in the order asked for
  std::vector<TaskCell> totals;     // over the depths of a task and length; length 0: over all
  std::vector<TaskAnswer> answers;  // by case, then plan
};

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_RESULT_H_
