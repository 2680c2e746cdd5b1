// The results of eval task and eval speed, for programs and for people.
#ifndef TIDAL_CLI_EVAL_TASK_REPORT_H_
#define TIDAL_CLI_EVAL_TASK_REPORT_H_

#include <string>

#include <nlohmann/json.hpp>

#include "eval/task_result.h"

namespace tidal {

// The object of docs/cli.md.
nlohmann::ordered_json TaskResultJson(const std::string& model, const TaskResult& result);

// A table of cells and totals; its lines end with newlines.
std::string TaskResultTable(const std::string& model, const TaskResult& result);

}  // namespace tidal

#endif  // TIDAL_CLI_EVAL_TASK_REPORT_H_
