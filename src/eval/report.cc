#include "eval/report.h"

#include <utility>

#include "attention/json_text.h"
#include "eval/report_csv.h"
#include "eval/report_json.h"
#include "eval/report_page.h"

namespace tidal {

using report::At;
using report::Json;
using report::Text;

struct Report::Runs {
  Json list = Json::array();

  // Texts of files and users need not be UTF-8 and numbers need not be finite: what JSON cannot
  // hold is replaced on the way through its text.
  void Add(const Json& run) {
    Json clean = Json::parse(run.dump(-1, ' ', false, Json::error_handler_t::replace));
    for (Json& old : list) {
      if (Text(old, "command") != Text(clean, "command") ||
          Text(old, "model_hash") != Text(clean, "model_hash"))
        continue;
      old = std::move(clean);
      return;
    }
    list.push_back(std::move(clean));
  }
};

Report::Report() : runs_(std::make_unique<Runs>()) {}
Report::Report(Report&&) noexcept = default;
Report& Report::operator=(Report&&) noexcept = default;
Report::~Report() = default;

Result<Report> Report::Parse(std::string_view name, std::string_view json) {
  Result<Json> file = ParseJsonText(json);
  if (!file.ok()) return file.status().Annotate(name);
  const Json& format = At(*file, "format");
  const Json& runs = At(*file, "runs");
  if (format != report::kFormat || !runs.is_array())
    return Corrupt(
        "{}: expected a report of format {} with its runs; take another folder, or remove the file",
        name, report::kFormat);
  Report parsed;
  parsed.runs_->list = runs;
  return parsed;
}

void Report::Add(const ReportRun& run, const LossRequest& request, const LossResult& result) {
  runs_->Add(report::LossRunJson(run, request, result));
}

void Report::Add(const ReportRun& run, const FreeRunRequest& request, const FreeRunResult& result) {
  runs_->Add(report::FreeRunJson(run, request, result));
}

void Report::Add(const ReportRun& run, const TaskResult& result) {
  runs_->Add(report::TaskRunJson(run, result));
}

std::vector<ReportFile> Report::Files() const {
  const Json whole = {{"format", report::kFormat}, {"runs", runs_->list}};
  std::vector<ReportFile> files = {{"report.json", whole.dump(1) + "\n"}};
  for (ReportFile& file : report::CsvFiles(runs_->list)) files.push_back(std::move(file));
  files.push_back({"report.html", report::ReportPage(runs_->list)});
  return files;
}

}  // namespace tidal
