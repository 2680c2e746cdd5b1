// The folder of --report DIR, which evaluations add their runs to.
#ifndef TIDAL_CLI_REPORT_FOLDER_H_
#define TIDAL_CLI_REPORT_FOLDER_H_

#include <chrono>
#include <string>
#include <utility>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/report.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

// What a report says about a run that began at `started` and ends now. `options` are those that the
// engine was made with. Errors: those of ModelHash.
Result<ReportRun> DescribeRun(const std::string& command_line, const Engine& engine,
                              const EngineOptions& options,
                              std::chrono::system_clock::time_point started);

// --report DIR. Empty: no report.
void AddReportOption(CLI::App* app, std::string* folder);

class ReportFolder {
 public:
  // Before the work: makes the folder (its parent must exist) and reads the report that it may
  // hold. kIo where it cannot be made, written to or read; kCorrupt where its report.json is
  // none.
  static Result<ReportFolder> Open(const std::string& path);

  Report& report() { return report_; }
  // report.html, to be told to the user.
  std::string PagePath() const;
  // Writes all files; each appears whole or not at all. kIo.
  Status Write() const;

 private:
  ReportFolder(std::string path, Report report)
      : path_(std::move(path)), report_(std::move(report)) {}

  std::string path_;
  Report report_;
};

}  // namespace tidal

#endif  // TIDAL_CLI_REPORT_FOLDER_H_
