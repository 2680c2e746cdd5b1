#include "eval/report_page.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "eval/html_text.h"
#include "eval/report_charts.h"
#include "eval/report_style.h"

namespace tidal::report {
namespace {

constexpr double kMegabyte = 1e6;

// "0.024 <small>0.02 to 0.03</small>"
std::string EstimateCell(const Estimate& estimate, double unit = 1) {
  std::string cell = ShortFigure(unit * estimate.value);
  if (!std::isnan(estimate.low) && !std::isnan(estimate.high))
    cell += fmt::format(" <small>{} to {}</small>", ShortFigure(unit * estimate.low),
                        ShortFigure(unit * estimate.high));
  return cell;
}

// A count.
std::string Whole(double value) { return std::isnan(value) ? "–" : fmt::format("{:.0f}", value); }

// "1 window", "3 windows".
std::string Counted(size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

class Table {
 public:
  explicit Table(const std::vector<std::string>& titles) {
    for (const std::string& title : titles) head_ += "<th>" + EscapeHtml(title) + "</th>";
  }
  // Cells are HTML.
  void AddRow(const std::vector<std::string>& cells) {
    rows_ += "<tr>";
    for (const std::string& cell : cells) rows_ += "<td>" + cell + "</td>";
    rows_ += "</tr>\n";
  }
  std::string Html() const {
    if (rows_.empty()) return "";
    return fmt::format(
        "<div class=\"table\"><table><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table></div>\n",
        head_, rows_);
  }

 private:
  std::string head_;
  std::string rows_;
};

std::string LossTable(const Json& run) {
  const Json& plans = Array(run, "plans");
  const bool has_texts = std::any_of(plans.begin(), plans.end(), [](const Json& plan) {
    return !At(plan, "same_text").is_null();
  });
  std::vector<std::string> titles = {"plan",       "KL, nats",          "KL, 99th percentile",
                                     "extra nats", "same top token, %", "MB read per step",
                                     "tokens/s"};
  if (has_texts) titles.push_back("greedy tokens until texts part");
  Table table(titles);
  for (const Json& plan : plans) {
    const Json& speed = At(plan, "speed");
    std::vector<std::string> cells = {"<code>" + EscapeHtml(Text(plan, "plan")) + "</code>",
                                      EstimateCell(EstimateAt(plan, "kl")),
                                      EstimateCell(EstimateAt(plan, "kl_p99")),
                                      EstimateCell(EstimateAt(plan, "extra_nats")),
                                      EstimateCell(EstimateAt(plan, "agreement"), 100),
                                      ShortFigure(CacheBytes(speed) / kMegabyte),
                                      ShortFigure(Number(speed, "tokens_per_s"))};
    if (has_texts) cells.push_back(EstimateCell(EstimateAt(plan, "same_text")));
    table.AddRow(cells);
  }
  return table.Html();
}

std::string FreeRunTable(const Json& run) {
  Table table(
      {"plan", "KL, nats", "tokens", "repeated, %", "corrected rows", "KL that corrections saw"});
  for (const Json& plan : Array(run, "plans")) {
    const Json& attention = At(plan, "attention");
    const double corrected = Number(attention, "correction_rows");
    table.AddRow({"<code>" + EscapeHtml(Text(plan, "plan")) + "</code>",
                  EstimateCell(EstimateAt(plan, "kl")), EstimateCell(EstimateAt(plan, "length")),
                  EstimateCell(EstimateAt(plan, "repetition"), 100), Whole(corrected),
                  corrected > 0 ? ShortFigure(Number(attention, "correction_kl")) : "–"});
  }
  return table.Html();
}

std::string PairedCell(const Json& cell) {
  const Json& paired = At(cell, "paired");
  return fmt::format("{} / {}", Whole(Number(paired, "only_this")),
                     Whole(Number(paired, "only_first")));
}

std::string TaskTable(const Json& run) {
  Table table({"plan", "task", "length", "cases", "score, %", "right, %", "only here / only first",
               "p", "score over first, %"});
  const Json& plans = Array(run, "plans");
  for (const Json& cell : Array(run, "totals")) {
    const double index = Number(cell, "plan");
    const bool is_known = index >= 0 && index < static_cast<double>(plans.size());
    const Json& plan = is_known ? plans[static_cast<size_t>(index)] : At(Json(), "");
    const double length = Number(cell, "length");
    const Estimate right{Number(cell, "right") / Number(cell, "cases"), Number(cell, "low"),
                         Number(cell, "high")};
    table.AddRow(
        {"<code>" + EscapeHtml(plan.is_string() ? plan.get<std::string>() : "?") + "</code>",
         EscapeHtml(Text(cell, "task")), length > 0 ? fmt::format("{:.0f}", length) : "all",
         Whole(Number(cell, "cases")), ShortFigure(100 * Number(cell, "score")),
         EstimateCell(right, 100), index > 0 ? PairedCell(cell) : "",
         index > 0 ? ShortFigure(Number(At(cell, "paired"), "p_value"), 2) : "",
         index > 0 ? EstimateCell(EstimateAt(At(cell, "paired"), "difference"), 100) : ""});
  }
  return table.Html();
}

std::string Origin(const Json& run) {
  const Json& machine = At(run, "machine");
  return fmt::format(
      "<p class=\"soft\"><code>{}</code><br>tidal {}, model {}, {}, {}, {} threads, cache {}, {}, "
      "{} "
      "s{}</p>\n",
      EscapeHtml(Text(run, "command")), EscapeHtml(Text(run, "version")),
      EscapeHtml(Text(run, "model_hash").substr(0, 12)), EscapeHtml(Text(machine, "cpu")),
      EscapeHtml(Text(machine, "isa")), Whole(Number(machine, "threads")),
      EscapeHtml(Text(machine, "cache")), EscapeHtml(Text(run, "started")),
      ShortFigure(Number(run, "seconds")),
      At(run, "interrupted") == true ? "; <strong>stopped early, so only what was finished</strong>"
                                     : "");
}

std::string Charts(const std::string& figures) {
  return figures.empty() ? "" : "<div class=\"charts\">" + figures + "</div>\n";
}

std::string LossSection(const Json& run, MethodColors* colors) {
  const auto count = [&](const char* key) { return Whole(Number(run, key)); };
  const size_t documents = Array(run, "documents").size();
  std::string html = fmt::format("<h2>{}: loss at {} tokens</h2>\n", EscapeHtml(Text(run, "model")),
                                 count("prefill"));
  html += fmt::format(
      "<p>{} of {}; each was prefilled in full, then {} tokens were decoded with the text given. "
      "Full attention: {} nats per token. Intervals are 95 %, by {}.</p>\n",
      Counted(Array(run, "windows").size(), "window"), Counted(documents, "text"), count("decode"),
      EstimateCell(EstimateAt(run, "full_nats")), documents == 1 ? "window" : "text");
  html += Charts(FrontChart(run, colors) + BudgetChart(run, colors) + MassChart(run, colors) +
                 GuardChart(run, colors));
  return html + LossTable(run) + Origin(run);
}

std::string FreeRunSection(const Json& run) {
  std::string html = fmt::format("<h2>{}: text of its own after {} tokens</h2>\n",
                                 EscapeHtml(Text(run, "model")), Whole(Number(run, "prefill")));
  html += fmt::format(
      "<p>After each of {} each plan generated up to {} tokens (temperature {}), and full "
      "attention read them. Repeated: the share of sequences of 8 tokens that occurred before. "
      "Intervals are 95 %, by window.</p>\n",
      Counted(Array(run, "windows").size(), "window"), Whole(Number(run, "generate")),
      ShortFigure(Number(run, "temperature")));
  return html + Charts(FreeRunChart(run)) + FreeRunTable(run) + Origin(run);
}

std::string TaskSection(const Json& run) {
  std::string html = fmt::format(
      "<h2>{}: retrieval</h2>\n<p>The question was {}. Intervals are 95 %; p is of the "
      "sign test over the cases that differ from the first plan's, whose score the last column "
      "is set against.</p>\n",
      EscapeHtml(Text(run, "model")),
      Text(run, "question") == "decoded" ? "decoded" : "part of the prefill");
  return html + Charts(NeedleGrids(run)) + TaskTable(run) + Origin(run);
}

std::string Section(const Json& run, MethodColors* colors) {
  const std::string kind = Text(run, "kind");
  if (kind == "task") return TaskSection(run);
  return kind == "free_run" ? FreeRunSection(run) : LossSection(run, colors);
}

// One chart per model, over its runs at several contexts.
std::string SpeedSections(const Json& runs, MethodColors* colors) {
  std::vector<std::pair<std::string, std::vector<const Json*>>> models;
  for (const Json& run : runs) {
    if (Text(run, "kind") != "loss") continue;
    const std::string hash = Text(run, "model_hash");
    auto found = models.begin();
    while (found != models.end() && found->first != hash) ++found;
    if (found == models.end()) found = models.insert(models.end(), {hash, {}});
    found->second.push_back(&run);
  }
  std::string html;
  for (const auto& [hash, of_model] : models) {
    const std::string chart = SpeedChart(of_model, colors);
    if (chart.empty()) continue;
    html += fmt::format("<h2>{}: speed</h2>\n", EscapeHtml(Text(*of_model[0], "model")));
    html += Charts(chart);
  }
  return html;
}

}  // namespace

std::string ReportPage(const Json& runs) {
  MethodColors colors;
  std::string body;
  for (const Json& run : runs) body += Section(run, &colors);
  body += SpeedSections(runs, &colors);
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">"
      "<title>Tidal: evaluation</title>\n<style>{}</style></head><body>\n"
      "<h1>What attention plans lose and gain</h1>\n"
      "<p class=\"soft\">All figures are in report.json and the CSV files beside this page.</p>\n"
      "{}</body></html>\n",
      kStyle, body);
}

}  // namespace tidal::report
