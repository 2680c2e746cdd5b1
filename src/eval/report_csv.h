// The CSV files of a report: a header line, then a line for each thing that was measured.
#ifndef TIDAL_EVAL_REPORT_CSV_H_
#define TIDAL_EVAL_REPORT_CSV_H_

#include <vector>

#include "eval/report_json.h"

namespace tidal::report {

// Of the runs in report.json; no file without lines: loss.csv (by run and plan), windows.csv (by
// window and plan), layers.csv (mass by layer and plan), guard.csv (points of the ROC curves),
// tasks.csv (by cell).
std::vector<ReportFile> CsvFiles(const Json& runs);

}  // namespace tidal::report

#endif  // TIDAL_EVAL_REPORT_CSV_H_
