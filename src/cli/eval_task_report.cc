#include "cli/eval_task_report.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kDecimals = 6;

Json DepthJson(const std::optional<double>& depth) {
  return depth ? Json(Rounded(*depth, kDecimals)) : Json();
}

// The interval is null where there is one case.
Json DifferenceJson(const Estimate& difference) {
  return {{"value", Rounded(difference.value, kDecimals)},
          {"low", Rounded(difference.low, kDecimals)},
          {"high", Rounded(difference.high, kDecimals)}};
}

Json CellJson(const TaskResult& result, const TaskCell& cell) {
  return {
      {"task", cell.task},
      {"length", cell.length},
      {"depth", DepthJson(cell.depth)},
      {"plan", result.plans[static_cast<size_t>(cell.plan)]},
      {"cases", cell.cases},
      {"score", Rounded(cell.score, kDecimals)},
      {"right", cell.right},
      {"interval", {Rounded(cell.interval.low, kDecimals), Rounded(cell.interval.high, kDecimals)}},
      {"paired",
       {{"both", cell.paired.both},
        {"only_first", cell.paired.only_first},
        {"only_this", cell.paired.only_this},
        {"neither", cell.paired.neither},
        {"p_value", Rounded(cell.paired.p_value, kDecimals)},
        {"difference", DifferenceJson(cell.paired.difference)}}},
      {"prompt_tokens", Rounded(cell.prompt_tokens, 1)}};
}

Json CellsJson(const TaskResult& result, const std::vector<TaskCell>& cells) {
  Json list = Json::array();
  for (const TaskCell& cell : cells) list.push_back(CellJson(result, cell));
  return list;
}

Json AnswerJson(const TaskResult& result, const TaskAnswer& answer) {
  return {{"task", answer.task},
          {"length", answer.length},
          {"depth", DepthJson(answer.depth)},
          {"number", answer.number},
          {"plan", result.plans[static_cast<size_t>(answer.plan)]},
          {"prompt_tokens", answer.prompt_tokens},
          {"text", answer.text},
          {"score", Rounded(answer.score, kDecimals)}};
}

std::string LabelOf(const TaskCell& cell) {
  if (cell.length == 0 && cell.task.empty()) return fmt::format("{:<22} {:>7}", "all tasks", "");
  return fmt::format("{:<22} {:>7}", cell.task, cell.length);
}

std::string Row(const TaskResult& result, const TaskCell& cell, int plan_width) {
  std::string row = fmt::format(
      "{} {:>5}  {:<{}} {:>5} {:>6.1f} {:>6.1f}  [{:>5.1f}, {:>5.1f}]", LabelOf(cell),
      cell.depth ? fmt::format("{:.2f}", *cell.depth) : "-",
      result.plans[static_cast<size_t>(cell.plan)], plan_width, cell.cases, 100 * cell.score,
      100.0 * cell.right / cell.cases, 100 * cell.interval.low, 100 * cell.interval.high);
  if (cell.plan > 0) {
    const Estimate& difference = cell.paired.difference;
    row += fmt::format("  {:>5} {:>5} {:>7.3f}  {:>6.1f}", cell.paired.only_first,
                       cell.paired.only_this, cell.paired.p_value, 100 * difference.value);
    if (!std::isnan(difference.low))  // one case has no interval
      row += fmt::format(" [{:>6.1f}, {:>6.1f}]", 100 * difference.low, 100 * difference.high);
  }
  return row + "\n";
}

// Depths one by one say nothing new where each case has its own.
bool IsGrid(const TaskResult& result) {
  return std::any_of(result.cells.begin(), result.cells.end(),
                     [](const TaskCell& cell) { return cell.depth && cell.cases > 1; });
}

}  // namespace

Json TaskResultJson(const std::string& model, const TaskResult& result) {
  Json answers = Json::array();
  for (const TaskAnswer& answer : result.answers) answers.push_back(AnswerJson(result, answer));
  return {{"model", model},
          {"question", result.question},
          {"seed", result.seed},
          {"interrupted", result.interrupted},
          {"plans", result.plans},
          {"cells", CellsJson(result, result.cells)},
          {"totals", CellsJson(result, result.totals)},
          {"answers", std::move(answers)}};
}

std::string TaskResultTable(const std::string& model, const TaskResult& result) {
  size_t plan_width = 4;
  for (const std::string& plan : result.plans) plan_width = std::max(plan_width, plan.size());
  const auto width = static_cast<int>(plan_width);
  std::string table = fmt::format(
      "{}, question {}, seed {}\nscore and right in %, the 95 % interval of right; first and this: "
      "cases that only the first plan or only this one has right, p of the sign test; over first: "
      "the score minus the first plan's, with its 95 % interval\n\n",
      model, result.question, result.seed);
  table += fmt::format(
      "{:<22} {:>7} {:>5}  {:<{}} {:>5} {:>6} {:>6}  {:>14}  {:>5} {:>5} {:>7}  {:>6}\n", "task",
      "length", "depth", "plan", width, "cases", "score", "right", "95 %", "first", "this", "p",
      "over first");
  if (IsGrid(result))
    for (const TaskCell& cell : result.cells)
      if (cell.depth) table += Row(result, cell, width);
  for (const TaskCell& cell : result.totals) table += Row(result, cell, width);
  if (result.interrupted) table += "interrupted: what is missing was not run\n";
  return table;
}

}  // namespace tidal
