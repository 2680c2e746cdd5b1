// The pictures of a report: figures as HTML, each empty where its runs hold nothing for it.
#ifndef TIDAL_EVAL_REPORT_CHARTS_H_
#define TIDAL_EVAL_REPORT_CHARTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "eval/report_json.h"

namespace tidal::report {

// Gives each method (a plan without its budget) one colour on the whole page.
class MethodColors {
 public:
  int ColorOf(const std::string& method);

 private:
  std::vector<std::string> methods_;
};

// "tidal:budget=512:sinks=8" is "tidal:sinks=8".
std::string MethodOf(const Json& plan);

// Of one run of losses.
std::string FrontChart(const Json& run, MethodColors* colors);
std::string BudgetChart(const Json& run, MethodColors* colors);
std::string MassChart(const Json& run, MethodColors* colors);
std::string GuardChart(const Json& run, MethodColors* colors);
// Of one free run.
std::string FreeRunChart(const Json& run);
// Of all runs of losses with one model.
std::string SpeedChart(const std::vector<const Json*>& runs, MethodColors* colors);
// Of one run of tasks: one grid per task and plan.
std::string NeedleGrids(const Json& run);

}  // namespace tidal::report

#endif  // TIDAL_EVAL_REPORT_CHARTS_H_
