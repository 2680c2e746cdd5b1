#include "cli/report_folder.h"

#include <ctime>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <unistd.h>
#include <utility>

#include "cli/arguments.h"
#include "cli/bench_report.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "model/model_hash.h"

namespace tidal {
namespace {

std::string InFolder(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

std::string UtcTime(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

Result<Report> ReadReport(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return Report();
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.good()) return IoError("{}: cannot read the report that the folder holds", path);
  return Report::Parse(path, text);
}

}  // namespace

Result<ReportRun> DescribeRun(const std::string& command_line, const Engine& engine,
                              const EngineOptions& options,
                              std::chrono::system_clock::time_point started) {
  ReportRun run;
  TIDAL_ASSIGN_OR_RETURN(run.model_hash, ModelHash(engine.model()));
  run.command = command_line;
  run.version = TIDAL_VERSION;
  run.model = BaseName(options.model_path);
  const bool on_cpu = engine.device_name().empty();
  run.cpu = on_cpu ? CpuName() : engine.device_name();
  run.isa = on_cpu ? NameOf(engine.isa()) : "cuda";
  run.threads = engine.num_threads();
  run.cache = fmt::format("{}/{}", NameOf(options.k_cache_type), NameOf(options.v_cache_type));
  run.started = UtcTime(started);
  run.seconds = std::chrono::duration<double>(std::chrono::system_clock::now() - started).count();
  return run;
}

void AddReportOption(CLI::App* app, std::string* folder) {
  AddText(app,
          {"--report", "DIR",
           "Also write a report into this folder, with pictures: report.html, report.json and CSV "
           "files; a report that it holds is added to"},
          folder);
}

Result<ReportFolder> ReportFolder::Open(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directory(path, error);
  if (error || !std::filesystem::is_directory(path))
    return IoError("--report {}: cannot make this folder{}", path,
                   error ? ": " + error.message() : ", a file of that name exists");
  if (access(path.c_str(), W_OK | X_OK) != 0)
    return IoError("--report {}: may not write into this folder", path);
  TIDAL_ASSIGN_OR_RETURN(Report report, ReadReport(InFolder(path, "report.json")));
  return ReportFolder(path, std::move(report));
}

std::string ReportFolder::PagePath() const { return InFolder(path_, "report.html"); }

Status ReportFolder::Write() const {
  for (const ReportFile& file : report_.Files()) {
    TIDAL_ASSIGN_OR_RETURN(Output output, Output::ToFile(InFolder(path_, file.name)));
    TIDAL_RETURN_IF_ERROR(output.Write(file.text));
    TIDAL_RETURN_IF_ERROR(output.Commit());
  }
  return OkStatus();
}

}  // namespace tidal
