// Runs of a report as JSON, the form that its files and pictures are made from, and reading it
// without trust: what is missing or of another type reads as nothing.
#ifndef TIDAL_EVAL_REPORT_JSON_H_
#define TIDAL_EVAL_REPORT_JSON_H_

#include <string>

#include <nlohmann/json.hpp>

#include "eval/report.h"

namespace tidal::report {

using Json = nlohmann::ordered_json;

inline constexpr int kFormat = 1;

Json LossRunJson(const ReportRun& run, const LossRequest& request, const LossResult& result);
Json FreeRunJson(const ReportRun& run, const FreeRunRequest& request, const FreeRunResult& result);
Json TaskRunJson(const ReportRun& run, const TaskResult& result);

// Fields of an object; of anything else, and where there is no such field of the type: null, NaN,
// "", an empty array.
const Json& At(const Json& object, const char* key);
double Number(const Json& object, const char* key);
std::string Text(const Json& object, const char* key);
const Json& Array(const Json& object, const char* key);

// {value, low, high} of a field; NaN where it has none.
Estimate EstimateAt(const Json& object, const char* key);

// What a decode step reads of the cache, in bytes: scanned, gathered, read in full. NaN where it
// was not measured.
double CacheBytes(const Json& speed);

}  // namespace tidal::report

#endif  // TIDAL_EVAL_REPORT_JSON_H_
