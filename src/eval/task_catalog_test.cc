#include "eval/task_catalog.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <map>

#include "eval/task_score.h"
#include "eval/task_testing.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;

// A token is four bytes: close to real ones, and exact to reason about.
Result<int64_t> CountFours(const TaskPrompt& prompt) {
  const size_t bytes = prompt.context.size() + prompt.question.size() + prompt.answer_prefix.size();
  return static_cast<int64_t>((bytes + 3) / 4);
}

TaskPrompt Make(const TaskKind& kind, const TaskCase& spec) {
  static const TaskText text = TaskTextForTest();
  Result<TaskPrompt> prompt = MakeTaskPrompt(kind, text, spec, CountFours);
  EXPECT_TRUE(prompt.ok()) << kind.name << ": " << prompt.status().message();
  return prompt.ok() ? *prompt : TaskPrompt();
}

TaskCase CaseOf(const TaskKind& kind, int32_t length, double depth, int32_t number = 0) {
  TaskCase spec{.length = length, .number = number, .seed = 1};
  if (kind.has_depth) spec.depth = depth;
  return spec;
}

std::string PromptText(const TaskPrompt& prompt) {
  return prompt.context + prompt.question + prompt.answer_prefix;
}

TEST(TaskCatalogTest, HasTheTasksOfTheOriginals) {
  EXPECT_EQ(TaskKindNames(),
            "niah_single_1, niah_single_2, niah_single_3, niah_multikey_1, niah_multikey_2, "
            "niah_multikey_3, niah_multivalue, niah_multiquery, vt, cwe, fwe, passkey, "
            "number_string, kv_retrieval");
  EXPECT_EQ(FindTaskKind("niah_single_4"), nullptr);
}

TEST(TaskCatalogTest, PromptAndAnswerFillTheLength) {
  for (const TaskKind& kind : TaskKinds()) {
    for (const int32_t length : {2048, 16384}) {
      const TaskPrompt prompt = Make(kind, CaseOf(kind, length, 0.5));
      const int64_t tokens = *CountFours(prompt) + prompt.max_tokens;
      EXPECT_LE(tokens, length) << kind.name;
      // One unit more would not fit. The largest is a word of the common-word list, 30 times.
      EXPECT_GE(tokens, length - 200) << kind.name;
    }
  }
}

TEST(TaskCatalogTest, TheSameCaseIsTheSamePromptAndOthersDiffer) {
  for (const TaskKind& kind : TaskKinds()) {
    const TaskCase spec = CaseOf(kind, 2048, 0.5);
    const std::string text = PromptText(Make(kind, spec));
    EXPECT_EQ(text, PromptText(Make(kind, spec))) << kind.name;
    TaskCase other_number = spec;
    other_number.number = 1;
    EXPECT_NE(text, PromptText(Make(kind, other_number))) << kind.name;
    TaskCase other_seed = spec;
    other_seed.seed = 2;
    EXPECT_NE(text, PromptText(Make(kind, other_seed))) << kind.name;
  }
}

TEST(TaskCatalogTest, TheAnswersAreInTheContextAndScoreFully) {
  for (const TaskKind& kind : TaskKinds()) {
    const TaskPrompt prompt = Make(kind, CaseOf(kind, 4096, 0.3));
    std::string answer;
    for (const std::string& reference : prompt.answers) {
      EXPECT_THAT(prompt.context, HasSubstr(reference)) << kind.name;
      answer += " " + reference;
    }
    EXPECT_EQ(ScoreAnswer(prompt, answer), 1) << kind.name;
    EXPECT_EQ(ScoreAnswer(prompt, prompt.question), 0) << kind.name;
    EXPECT_EQ(ScoreAnswer(prompt, ""), 0) << kind.name;
  }
}

TEST(TaskCatalogTest, TheNeedleIsAtItsDepth) {
  constexpr int32_t kLength = 16384;
  for (const TaskKind& kind : TaskKinds()) {
    if (!kind.has_depth) continue;
    for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
      const TaskPrompt prompt = Make(kind, CaseOf(kind, kLength, depth));
      EXPECT_EQ(prompt.depth, depth);
      const size_t at = prompt.context.find(prompt.answers[0]);
      ASSERT_NE(at, std::string::npos);
      const double found = static_cast<double>(at) / static_cast<double>(prompt.context.size());
      // The instructions in front, the other needles, and a unit's size.
      EXPECT_NEAR(found, depth, 0.02) << kind.name;
    }
  }
}

TEST(TaskCatalogTest, PromptsOfTwoDepthsBeginAlike) {
  const TaskKind& kind = *FindTaskKind("niah_single_2");
  const std::string early = Make(kind, CaseOf(kind, 8192, 0.5)).context;
  const std::string late = Make(kind, CaseOf(kind, 8192, 1.0)).context;
  const auto common = std::mismatch(early.begin(), early.end(), late.begin(), late.end());
  EXPECT_GT(static_cast<double>(common.first - early.begin()),
            0.45 * static_cast<double>(early.size()));
}

TEST(TaskCatalogTest, DrawsTheDepthWhereNoneIsAsked) {
  const TaskKind& kind = *FindTaskKind("passkey");
  double low = 1;
  double high = 0;
  for (int32_t number = 0; number < 20; ++number) {
    const TaskPrompt prompt = Make(kind, {.length = 1024, .number = number, .seed = 1});
    ASSERT_TRUE(prompt.depth);
    low = std::min(low, *prompt.depth);
    high = std::max(high, *prompt.depth);
  }
  EXPECT_LT(low, 0.3);
  EXPECT_GT(high, 0.7);
}

TEST(TaskCatalogTest, NeedleTasksHideWhatTheyAskFor) {
  const TaskKind& values = *FindTaskKind("niah_multivalue");
  EXPECT_EQ(Make(values, CaseOf(values, 4096, 0.5)).answers.size(), 4U);
  const TaskKind& queries = *FindTaskKind("niah_multiquery");
  EXPECT_EQ(Make(queries, CaseOf(queries, 4096, 0.5)).answers.size(), 4U);
  const TaskKind& keys = *FindTaskKind("niah_multikey_1");
  const TaskPrompt prompt = Make(keys, CaseOf(keys, 4096, 0.5));
  EXPECT_EQ(prompt.answers.size(), 1U);
  size_t needles = 0;
  for (size_t at = 0; (at = prompt.context.find("The secret number of", at)) != std::string::npos;
       ++at)
    ++needles;
  EXPECT_EQ(needles, 4U);
}

TEST(TaskCatalogTest, CommonWordsAreTheMostCommon) {
  const TaskKind& kind = *FindTaskKind("cwe");
  const TaskPrompt prompt = Make(kind, CaseOf(kind, 8192, 0));
  ASSERT_EQ(prompt.answers.size(), 10U);
  std::map<std::string, int> times;
  std::string list = prompt.context.substr(prompt.context.rfind("\n\n1. ") + 2);
  std::replace(list.begin(), list.end(), '\n', ' ');
  for (size_t at = 0; (at = list.find(". ", at)) != std::string::npos; ++at)
    ++times[list.substr(at + 2, list.find(' ', at + 2) - at - 2)];
  for (const auto& [word, count] : times) {
    const bool is_common =
        std::find(prompt.answers.begin(), prompt.answers.end(), word) != prompt.answers.end();
    EXPECT_EQ(count, is_common ? 30 : 3) << word;
  }
}

TEST(TaskCatalogTest, FrequentWordsFollowTheSeries) {
  const TaskKind& kind = *FindTaskKind("fwe");
  const TaskPrompt prompt = Make(kind, CaseOf(kind, 8192, 0));
  const auto count = [&](const std::string& word) {
    double found = 0;
    for (size_t at = 0; (at = prompt.context.find(" " + word, at)) != std::string::npos; ++at)
      ++found;
    return found;
  };
  ASSERT_EQ(prompt.answers.size(), 3U);
  // Second, third and fourth of 1 / k^2: 4 / 9 and 4 / 16 of the second. Counts are rounded down,
  // and one may stand at the beginning.
  EXPECT_NEAR(count(prompt.answers[1]) / count(prompt.answers[0]), 4.0 / 9, 0.02);
  EXPECT_NEAR(count(prompt.answers[2]) / count(prompt.answers[0]), 4.0 / 16, 0.02);
}

TEST(TaskCatalogTest, VariablesAreAChain) {
  const TaskKind& kind = *FindTaskKind("vt");
  const TaskPrompt prompt = Make(kind, CaseOf(kind, 2048, 0));
  ASSERT_EQ(prompt.answers.size(), 5U);
  size_t last = 0;
  for (size_t i = 1; i < prompt.answers.size(); ++i) {
    const size_t at =
        prompt.context.find("VAR " + prompt.answers[i] + " = VAR " + prompt.answers[i - 1]);
    ASSERT_NE(at, std::string::npos);
    EXPECT_GT(at, last);
    last = at;
  }
}

TEST(TaskCatalogTest, SaysWhichLengthIsTooShort) {
  const TaskText text = TaskTextForTest();
  for (const TaskKind& kind : TaskKinds()) {
    const Result<TaskPrompt> prompt = MakeTaskPrompt(kind, text, CaseOf(kind, 20, 0.5), CountFours);
    ASSERT_FALSE(prompt.ok()) << kind.name;
    EXPECT_THAT(prompt.status().message(),
                HasSubstr("task " + std::string(kind.name) + " at a length of 20 tokens"));
  }
}

TEST(TaskCatalogTest, PassesOnWhatCountingSays) {
  const Result<TaskPrompt> prompt =
      MakeTaskPrompt(*FindTaskKind("passkey"), TaskTextForTest(), {.length = 1024},
                     [](const TaskPrompt&) -> Result<int64_t> { return Corrupt("no template"); });
  EXPECT_EQ(prompt.status().message(), "no template");
}

}  // namespace
}  // namespace tidal
