// The report of evaluations: what `--report DIR` holds. Runs are added one by one, of losses, of
// free runs and of tasks, of one model or several, and all of them are shown together.
//
// Formats (report.json, the CSV files, report.html): docs/evaluation.md.
#ifndef TIDAL_EVAL_REPORT_H_
#define TIDAL_EVAL_REPORT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "eval/free_run.h"
#include "eval/loss.h"
#include "eval/task_result.h"

namespace tidal {

// How a run came to be.
struct ReportRun {
  std::string command;     // the command line
  std::string version;     // of this program
  std::string model;       // its file, for people
  std::string model_hash;  // ModelHash
  std::string cpu;         // the processor's name, or the device's
  std::string isa;         // "cuda" on a device
  int32_t threads = 0;
  std::string cache;    // types of K and V: "f16/f16"
  std::string started;  // "2026-11-24T13:00:00Z"
  double seconds = 0;   // the whole run
};

// A file of the report's folder.
struct ReportFile {
  std::string name;
  std::string text;
};

class Report {
 public:
  Report();
  Report(Report&&) noexcept;
  Report& operator=(Report&&) noexcept;
  ~Report();

  // The runs of an earlier report.json. `name` is for messages. kCorrupt: not such a file.
  static Result<Report> Parse(std::string_view name, std::string_view json);

  // A run that has the same command line and model as an earlier one takes its place.
  void Add(const ReportRun& run, const LossRequest& request, const LossResult& result);
  void Add(const ReportRun& run, const FreeRunRequest& request, const FreeRunResult& result);
  void Add(const ReportRun& run, const TaskResult& result);

  // report.json first, CSV files for what there is, report.html last. Texts are UTF-8; what was not
  // is U+FFFD.
  std::vector<ReportFile> Files() const;

 private:
  struct Runs;
  std::unique_ptr<Runs> runs_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_REPORT_H_
