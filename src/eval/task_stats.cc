#include "eval/task_stats.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/check.h"
#include "eval/statistics.h"

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

// The cases that a cell of each plan sums up.
struct Group {
  TaskCell label;  // task, length and depth
  std::vector<const Case*> cases;
};

std::vector<Group> GroupBy(const std::vector<Case>& cases,
                           const std::function<TaskCell(const TaskAnswer&)>& label) {
  std::vector<Group> groups;
  for (const Case& answers : cases) {
    const TaskCell wanted = label(*answers[0]);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& known) {
      return known.label.task == wanted.task && known.label.length == wanted.length &&
             known.label.depth == wanted.depth;
    });
    if (group == groups.end()) group = groups.insert(groups.end(), {wanted, {}});
    group->cases.push_back(&answers);
  }
  return groups;
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

// What a plan's mean score is over that of the first plan. The draws are the same for all plans.
Estimate DifferenceOf(const std::vector<const Case*>& cases, size_t plan) {
  constexpr uint64_t kSeed = 1;
  return Bootstrap(static_cast<int32_t>(cases.size()), kSeed, [&](std::span<const int32_t> drawn) {
    double sum = 0;
    for (const int32_t index : drawn) {
      const Case& answers = *cases[static_cast<size_t>(index)];
      sum += answers[plan]->score - answers[0]->score;
    }
    return sum / static_cast<double>(drawn.size());
  });
}

TaskCell CellOf(const Group& group, size_t plan) {
  TaskCell cell = group.label;
  cell.plan = static_cast<int32_t>(plan);
  for (const Case* answers : group.cases) AddCase(*answers, &cell);
  cell.score /= cell.cases;
  cell.prompt_tokens /= cell.cases;
  cell.interval = WilsonInterval(cell.right, cell.cases);
  cell.paired.p_value = SignTest(cell.paired.only_first, cell.paired.only_this);
  cell.paired.difference = DifferenceOf(group.cases, plan);
  return cell;
}

// One cell a group, as `label` makes them, and plan.
std::vector<TaskCell> MakeCells(const TaskResult& result, const std::vector<Case>& cases,
                                const std::function<TaskCell(const TaskAnswer&)>& label) {
  std::vector<TaskCell> cells;
  for (const Group& group : GroupBy(cases, label))
    for (size_t plan = 0; plan < result.plans.size(); ++plan) cells.push_back(CellOf(group, plan));
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
