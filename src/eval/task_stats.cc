#include "eval/task_stats.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/check.h"

namespace tidal {
namespace {

using Case = std::vector<const TaskAnswer*>;  // [plans]

bool IsSameCase(const TaskAnswer& a, const TaskAnswer& b) {
  return a.task == b.task && a.length == b.length && a.depth == b.depth && a.number == b.number;
}

bool IsRight(const TaskAnswer& answer) { return answer.score >= 1; }

// The cases that all plans answered. Answers of a case stand together, in the order of the plans.
std::vector<Case> WholeCases(const TaskResult& result) {
  const size_t num_plans = result.plans.size();
  std::vector<Case> cases;
  for (size_t begin = 0; begin + num_plans <= result.answers.size(); begin += num_plans) {
    Case answers;
    for (size_t plan = 0; plan < num_plans; ++plan) {
      const TaskAnswer& answer = result.answers[begin + plan];
      TIDAL_CHECK(answer.plan == static_cast<int32_t>(plan), "answers are out of order");
      TIDAL_CHECK(IsSameCase(answer, result.answers[begin]), "plans answered different prompts");
      answers.push_back(&answer);
    }
    cases.push_back(std::move(answers));
  }
  return cases;
}

void AddCase(const Case& answers, TaskCell* cell) {
  const TaskAnswer& answer = *answers[static_cast<size_t>(cell->plan)];
  const bool first = IsRight(*answers[0]);
  const bool here = IsRight(answer);
  ++cell->cases;
  cell->score += answer.score;
  cell->prompt_tokens += answer.prompt_tokens;
  cell->right += here ? 1 : 0;
  PairedCounts& paired = cell->paired;
  ++(first ? (here ? paired.both : paired.only_first) : (here ? paired.only_this : paired.neither));
}

void Finish(TaskCell* cell) {
  cell->score /= cell->cases;
  cell->prompt_tokens /= cell->cases;
  cell->interval = WilsonInterval(cell->right, cell->cases);
  cell->paired.p_value = SignTest(cell->paired.only_first, cell->paired.only_this);
}

// Groups cases by what `label` says of them, one cell a plan and group.
std::vector<TaskCell> MakeCells(const TaskResult& result, const std::vector<Case>& cases,
                                const std::function<TaskCell(const TaskAnswer&)>& label) {
  std::vector<TaskCell> cells;
  for (const Case& answers : cases) {
    const TaskCell wanted = label(*answers[0]);
    auto group = std::find_if(cells.begin(), cells.end(), [&](const TaskCell& cell) {
      return cell.task == wanted.task && cell.length == wanted.length && cell.depth == wanted.depth;
    });
    if (group == cells.end()) {
      const auto offset = static_cast<std::ptrdiff_t>(cells.size());
      cells.insert(cells.end(), result.plans.size(), wanted);
      group = cells.begin() + offset;
      for (size_t plan = 0; plan < result.plans.size(); ++plan)
        group[static_cast<std::ptrdiff_t>(plan)].plan = static_cast<int32_t>(plan);
    }
    for (size_t plan = 0; plan < result.plans.size(); ++plan)
      AddCase(answers, &group[static_cast<std::ptrdiff_t>(plan)]);
  }
  for (TaskCell& cell : cells) Finish(&cell);
  return cells;
}

TaskCell Label(const std::string& task, int32_t length, std::optional<double> depth) {
  TaskCell cell;
  cell.task = task;
  cell.length = length;
  cell.depth = depth;
  return cell;
}

}  // namespace

ShareInterval WilsonInterval(int64_t right, int64_t cases) {
  if (cases == 0) return {};
  constexpr double kZ = 1.959963984540054;  // of 95 %
  const auto n = static_cast<double>(cases);
  const double share = static_cast<double>(right) / n;
  const double scale = 1 + kZ * kZ / n;
  const double middle = (share + kZ * kZ / (2 * n)) / scale;
  const double half = kZ * std::sqrt(share * (1 - share) / n + kZ * kZ / (4 * n * n)) / scale;
  return {right == 0 ? 0 : std::max(0.0, middle - half),
          right == cases ? 1 : std::min(1.0, middle + half)};
}

double SignTest(int64_t a, int64_t b) {
  const int64_t total = a + b;
  const int64_t fewer = std::min(a, b);
  // log(total choose k) - total log 2, from k = 0 on.
  double log_share = -static_cast<double>(total) * std::log(2.0);
  double tail = 0;
  for (int64_t k = 0; k <= fewer; ++k) {
    tail += std::exp(log_share);
    log_share += std::log(static_cast<double>(total - k) / static_cast<double>(k + 1));
  }
  return std::min(1.0, 2 * tail);
}

void Summarize(TaskResult* result) {
  const std::vector<Case> cases = WholeCases(*result);
  result->cells = MakeCells(*result, cases, [](const TaskAnswer& answer) {
    return Label(answer.task, answer.length, answer.depth);
  });
  result->totals = MakeCells(*result, cases, [](const TaskAnswer& answer) {
    return Label(answer.task, answer.length, std::nullopt);
  });
  if (result->totals.size() <= result->plans.size()) return;
  const std::vector<TaskCell> all =
      MakeCells(*result, cases, [](const TaskAnswer&) { return Label("", 0, std::nullopt); });
  result->totals.insert(result->totals.end(), all.begin(), all.end());
}

}  // namespace tidal
