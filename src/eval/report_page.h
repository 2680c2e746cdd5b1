// report.html: one page that needs nothing else, on light and dark ground, wide and narrow.
#ifndef TIDAL_EVAL_REPORT_PAGE_H_
#define TIDAL_EVAL_REPORT_PAGE_H_

#include <string>

#include "eval/report_json.h"

namespace tidal::report {

// `runs` is the array of report.json.
std::string ReportPage(const Json& runs);

}  // namespace tidal::report

#endif  // TIDAL_EVAL_REPORT_PAGE_H_
