#include "eval/report_csv.h"

#include <cmath>
#include <fmt/format.h>
#include <string>
#include <utility>

#include "eval/html_text.h"

namespace tidal::report {
namespace {

class CsvFile {
 public:
  CsvFile(std::string name, std::string header)
      : name_(std::move(name)), text_(std::move(header) + "\n"), header_bytes_(text_.size()) {}

  CsvFile& Add(const std::string& field) {
    if (!at_line_start_) text_ += ',';
    text_ += CsvField(field);
    at_line_start_ = false;
    return *this;
  }
  // Empty where there is no number.
  CsvFile& Add(double value) {
    if (!at_line_start_) text_ += ',';
    if (!std::isnan(value)) text_ += fmt::format("{}", value);
    at_line_start_ = false;
    return *this;
  }
  CsvFile& Add(const Estimate& estimate) {
    return Add(estimate.value).Add(estimate.low).Add(estimate.high);
  }
  void EndLine() {
    text_ += '\n';
    at_line_start_ = true;
  }
  void PutInto(std::vector<ReportFile>* files) const {
    if (text_.size() > header_bytes_) files->push_back({name_, text_});
  }

 private:
  std::string name_;
  std::string text_;
  size_t header_bytes_;
  bool at_line_start_ = true;
};

double NumberIn(const Json& array, size_t index) {
  return array.is_array() && index < array.size() && array[index].is_number()
             ? array[index].get<double>()
             : std::nan("");
}

std::string TextIn(const Json& array, double index) {
  if (!(index >= 0 && index < static_cast<double>(array.size()))) return "";
  const Json& value = array[static_cast<size_t>(index)];
  return value.is_string() ? value.get<std::string>() : "";
}

// What the files have in common, filled run by run.
struct CsvWriter {
  CsvFile loss{"loss.csv",
               "model,prefill,plan,preset,budget,tokens,kl,kl_low,kl_high,kl_p99,kl_p99_low,"
               "kl_p99_high,extra_nats,extra_nats_low,extra_nats_high,agreement,agreement_low,"
               "agreement_high,same_text,same_text_low,same_text_high,kl_over_first,"
               "kl_over_first_low,kl_over_first_high,context,tokens_per_s,scan_bytes,gather_bytes,"
               "full_bytes,weight_bytes"};
  CsvFile windows{"windows.csv", "model,prefill,document,begin,full_nats,plan,kl,extra_nats"};
  CsvFile layers{"layers.csv", "model,prefill,plan,layer,selected_mass"};
  CsvFile guard{"guard.csv",
                "model,prefill,plan,auc,threshold,false_positive_rate,true_positive_rate"};
  CsvFile tasks{"tasks.csv",
                "model,question,task,length,depth,plan,cases,score,right,right_low,right_high,both,"
                "only_first,only_this,neither,p_value,difference,difference_low,difference_high,"
                "prompt_tokens"};
  CsvFile free_runs{"free_run.csv",
                    "model,prefill,generate,temperature,plan,kl,kl_low,kl_high,length,length_low,"
                    "length_high,repetition,repetition_low,repetition_high,correction_rows,"
                    "correction_kl"};

  void AddPlan(const Json& run, const Json& plan);
  void AddPlanDetails(const Json& run, const Json& plan);
  void AddCell(const Json& run, const Json& cell);
  void AddFreeRun(const Json& run, const Json& plan);
};

void CsvWriter::AddPlan(const Json& run, const Json& plan) {
  const Json& speed = At(plan, "speed");
  loss.Add(Text(run, "model")).Add(Number(run, "prefill")).Add(Text(plan, "plan"));
  loss.Add(Text(plan, "preset")).Add(Number(plan, "budget")).Add(Number(plan, "tokens"));
  for (const char* key : {"kl", "kl_p99", "extra_nats", "agreement", "same_text", "kl_over_first"})
    loss.Add(EstimateAt(plan, key));
  for (const char* key :
       {"context", "tokens_per_s", "scan_bytes", "gather_bytes", "full_bytes", "weight_bytes"})
    loss.Add(Number(speed, key));
  loss.EndLine();
}

void CsvWriter::AddPlanDetails(const Json& run, const Json& plan) {
  const auto begin_line = [&](CsvFile* file) -> CsvFile& {
    return file->Add(Text(run, "model")).Add(Number(run, "prefill"));
  };
  const Json& run_windows = Array(run, "windows");
  for (size_t i = 0; i < run_windows.size(); ++i) {
    const Json& window = run_windows[i];
    begin_line(&windows)
        .Add(TextIn(Array(run, "documents"), Number(window, "document")))
        .Add(Number(window, "begin"))
        .Add(Number(window, "full_nats"))
        .Add(Text(plan, "plan"))
        .Add(NumberIn(Array(plan, "window_kl"), i))
        .Add(NumberIn(Array(plan, "window_extra_nats"), i))
        .EndLine();
  }
  const Json& mass = Array(plan, "layer_mass");
  for (size_t layer = 0; layer < mass.size(); ++layer)
    begin_line(&layers)
        .Add(Text(plan, "plan"))
        .Add(static_cast<double>(layer))
        .Add(NumberIn(mass, layer))
        .EndLine();
  for (const Json& point : Array(At(plan, "guard"), "points"))
    begin_line(&guard)
        .Add(Text(plan, "plan"))
        .Add(Number(At(plan, "guard"), "auc"))
        .Add(NumberIn(point, 0))
        .Add(NumberIn(point, 1))
        .Add(NumberIn(point, 2))
        .EndLine();
}

void CsvWriter::AddCell(const Json& run, const Json& cell) {
  tasks.Add(Text(run, "model")).Add(Text(run, "question")).Add(Text(cell, "task"));
  tasks.Add(Number(cell, "length")).Add(Number(cell, "depth"));
  tasks.Add(TextIn(Array(run, "plans"), Number(cell, "plan")));
  for (const char* key : {"cases", "score", "right", "low", "high"}) tasks.Add(Number(cell, key));
  for (const char* key : {"both", "only_first", "only_this", "neither", "p_value"})
    tasks.Add(Number(At(cell, "paired"), key));
  tasks.Add(EstimateAt(At(cell, "paired"), "difference"));
  tasks.Add(Number(cell, "prompt_tokens")).EndLine();
}

void CsvWriter::AddFreeRun(const Json& run, const Json& plan) {
  free_runs.Add(Text(run, "model"));
  for (const char* key : {"prefill", "generate", "temperature"}) free_runs.Add(Number(run, key));
  free_runs.Add(Text(plan, "plan"));
  for (const char* key : {"kl", "length", "repetition"}) free_runs.Add(EstimateAt(plan, key));
  const Json& attention = At(plan, "attention");
  const double corrected = Number(attention, "correction_rows");
  free_runs.Add(corrected);
  free_runs.Add(corrected > 0 ? Number(attention, "correction_kl") : std::nan("")).EndLine();
}

}  // namespace

std::vector<ReportFile> CsvFiles(const Json& runs) {
  CsvWriter writer;
  for (const Json& run : runs) {
    if (Text(run, "kind") == "loss") {
      for (const Json& plan : Array(run, "plans")) {
        writer.AddPlan(run, plan);
        writer.AddPlanDetails(run, plan);
      }
    }
    if (Text(run, "kind") == "free_run")
      for (const Json& plan : Array(run, "plans")) writer.AddFreeRun(run, plan);
    for (const Json& cell : Array(run, "cells")) writer.AddCell(run, cell);
  }
  std::vector<ReportFile> files;
  for (const CsvFile* file : {&writer.loss, &writer.windows, &writer.layers, &writer.guard,
                              &writer.free_runs, &writer.tasks})
    file->PutInto(&files);
  return files;
}

}  // namespace tidal::report
