#include "eval/task_stats.h"

#include <cmath>
#include <gtest/gtest.h>

namespace tidal {
namespace {

TEST(TaskStatsTest, WilsonIntervalsAreThoseOfStatsmodels) {
  struct Example {
    int64_t right, cases;
    double low, high;
  };
  constexpr Example kExamples[] = {{0, 10, 0.0, 0.27753279986288926},
                                   {5, 10, 0.23659309051256394, 0.7634069094874361},
                                   {10, 10, 0.7224672001371106, 1.0},
                                   {97, 100, 0.9154806357094724, 0.9897454759759611},
                                   {1, 3, 0.06149194472039626, 0.7923403991979523}};
  for (const Example& example : kExamples) {
    const ShareInterval interval = WilsonInterval(example.right, example.cases);
    EXPECT_NEAR(interval.low, example.low, 1e-12);
    EXPECT_NEAR(interval.high, example.high, 1e-12);
  }
  EXPECT_EQ(WilsonInterval(0, 0).low, 0);
  EXPECT_EQ(WilsonInterval(0, 0).high, 1);
}

TEST(TaskStatsTest, SignTestIsThatOfScipy) {
  EXPECT_EQ(SignTest(0, 0), 1);
  EXPECT_NEAR(SignTest(1, 5), 0.21875, 1e-12);
  EXPECT_EQ(SignTest(3, 3), 1);
  EXPECT_NEAR(SignTest(0, 8), 0.0078125, 1e-12);
  EXPECT_NEAR(SignTest(20, 40), 0.01348929373119186, 1e-12);
  EXPECT_GE(SignTest(0, 5000), 0);
}

void Add(TaskResult* result, const char* task, double depth, int32_t number,
         std::vector<double> scores) {
  for (size_t plan = 0; plan < scores.size(); ++plan) {
    TaskAnswer answer;
    answer.task = task;
    answer.length = 1024;
    answer.depth = depth;
    answer.number = number;
    answer.plan = static_cast<int32_t>(plan);
    answer.prompt_tokens = 1000 + number;
    answer.score = scores[plan];
    result->answers.push_back(answer);
  }
}

TEST(TaskStatsTest, SumsUpPairedCasesByCell) {
  TaskResult result;
  result.plans = {"full", "tidal"};
  Add(&result, "vt", 0, 0, {1, 1});
  Add(&result, "vt", 0, 1, {1, 0.5});
  Add(&result, "vt", 0.5, 0, {0, 1});
  Add(&result, "vt", 0, 2, {0.5, 0});
  Add(&result, "cwe", 0, 0, {1, 0});
  result.answers.push_back(result.answers[0]);  // a case that an interruption left half done
  Summarize(&result);
  ASSERT_EQ(result.cells.size(), 6U);
  const TaskCell& cell = result.cells[1];
  EXPECT_EQ(cell.task, "vt");
  EXPECT_EQ(cell.depth, 0);
  EXPECT_EQ(cell.plan, 1);
  EXPECT_EQ(cell.cases, 3);
  EXPECT_DOUBLE_EQ(cell.score, 0.5);
  EXPECT_EQ(cell.right, 1);
  EXPECT_EQ(cell.paired.both, 1);
  EXPECT_EQ(cell.paired.only_first, 1);
  EXPECT_EQ(cell.paired.only_this, 0);
  EXPECT_EQ(cell.paired.neither, 1);
  EXPECT_DOUBLE_EQ(cell.prompt_tokens, 1001);
  // (0 - 0.5 - 0.5) / 3, and no draw is beyond the least and the largest difference.
  EXPECT_DOUBLE_EQ(cell.paired.difference.value, -1.0 / 3);
  EXPECT_GE(cell.paired.difference.low, -0.5);
  EXPECT_LE(cell.paired.difference.high, 0);
  EXPECT_LT(cell.paired.difference.low, cell.paired.difference.high);
  EXPECT_EQ(result.cells[0].paired.difference.value, 0);
  EXPECT_TRUE(std::isnan(result.cells[3].paired.difference.low)) << "one case";
  EXPECT_EQ(result.cells[0].paired.both, 2);
  EXPECT_EQ(result.cells[0].paired.p_value, 1);
  EXPECT_EQ(result.cells[3].paired.only_this, 1);
  // Of vt over its depths, of cwe, of both; two plans each.
  ASSERT_EQ(result.totals.size(), 6U);
  EXPECT_EQ(result.totals[1].cases, 4);
  EXPECT_FALSE(result.totals[1].depth);
  EXPECT_EQ(result.totals[5].length, 0);
  EXPECT_EQ(result.totals[5].cases, 5);
  EXPECT_DOUBLE_EQ(result.totals[5].score, 0.5);
}

TEST(TaskStatsTest, OneTaskHasNoTotalOverAll) {
  TaskResult result;
  result.plans = {"full"};
  Summarize(&result);
  EXPECT_TRUE(result.cells.empty());
  Add(&result, "vt", 0, 0, {1});
  Summarize(&result);
  EXPECT_EQ(result.totals.size(), 1U);
}

}  // namespace
}  // namespace tidal
