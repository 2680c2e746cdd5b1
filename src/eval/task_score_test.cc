#include "eval/task_score.h"

#include <gtest/gtest.h>

#include "eval/text_metrics.h"

namespace tidal {
namespace {

double Score(TaskMetric metric, std::vector<std::string> references, std::string_view answer,
             std::vector<std::string> classes = {}) {
  TaskPrompt prompt;
  prompt.metric = metric;
  prompt.answers = std::move(references);
  prompt.classes = std::move(classes);
  return ScoreAnswer(prompt, answer);
}

TEST(TaskScoreTest, AllPartsIsTheShareOfReferencesFound) {
  const std::vector<std::string> references = {"Alpha", "beta", "123", "x-y"};
  EXPECT_EQ(Score(TaskMetric::kAllParts, references, "ALPHA and 1234"), 0.5);
  EXPECT_EQ(Score(TaskMetric::kAllParts, references, "x-y beta 123 alpha"), 1);
  EXPECT_EQ(Score(TaskMetric::kAllParts, references, ""), 0);
}

TEST(TaskScoreTest, AnyPartNeedsOne) {
  EXPECT_EQ(Score(TaskMetric::kAnyPart, {"Paris", "the city"}, "It is in paris."), 1);
  EXPECT_EQ(Score(TaskMetric::kAnyPart, {"Paris", "the city"}, "London"), 0);
}

TEST(TaskScoreTest, FirstNumberHasToBeAllOfIt) {
  EXPECT_EQ(Score(TaskMetric::kFirstNumber, {"71432"}, " 71432. 5 is"), 1);
  EXPECT_EQ(Score(TaskMetric::kFirstNumber, {"71432"}, "5, no, 71432"), 0);
  EXPECT_EQ(Score(TaskMetric::kFirstNumber, {"71432"}, "714321"), 0);
  EXPECT_EQ(Score(TaskMetric::kFirstNumber, {"71432"}, "none"), 0);
}

TEST(TaskScoreTest, WordStandsBetweenMarks) {
  EXPECT_EQ(Score(TaskMetric::kWord, {"ab-12"}, "{\"k\": \"ab-12\"}"), 1);
  EXPECT_EQ(Score(TaskMetric::kWord, {"ab-12"}, "ab-123"), 0);
}

TEST(TaskScoreTest, TokenF1LeavesOutArticlesAndMarks) {
  EXPECT_EQ(Score(TaskMetric::kTokenF1, {"The Eiffel Tower"}, "eiffel tower."), 1);
  // 2 of 3 given words, 2 of 2 expected ones.
  EXPECT_DOUBLE_EQ(Score(TaskMetric::kTokenF1, {"an old house"}, "old red house"), 0.8);
  // A word counts as often as both have it.
  EXPECT_DOUBLE_EQ(Score(TaskMetric::kTokenF1, {"go go"}, "go"), 2.0 / 3);
  EXPECT_EQ(Score(TaskMetric::kTokenF1, {"no", "yes"}, "Yes!"), 1) << "the best reference";
  EXPECT_EQ(Score(TaskMetric::kTokenF1, {"the"}, "the"), 0);
  EXPECT_EQ(Score(TaskMetric::kFirstLineF1, {"yes"}, "\n\nyes\nno"), 1);
}

TEST(TaskScoreTest, RougeLIsThatOfThePackage) {
  // Answer, reference, and rouge-l's f of the Python package rouge 1.0.1.
  struct Example {
    const char* answer;
    const char* reference;
    double f;
  };
  constexpr Example kExamples[] = {
      {"the cat sat on the mat", "the cat was on the mat", 0.7999999950000002},
      {"A report. It says much about water use. The end",
       "The report says that water use grew. It ends. Water use is much", 0.6363636314049588},
      {"b a c d a b", "a b c b d a b", 0.999999995},
      {"one two three. four five. six", "six. four five three", 0.7999999952000001},
      {"no overlap here", "entirely different words", 0.0},
      {"x y . . z", "x . y z", 0.8571428522448981},
      {"repeat repeat repeat word", "repeat word word", 0.999999995},
  };
  for (const Example& example : kExamples)
    EXPECT_NEAR(RougeL(example.answer, example.reference), example.f, 1e-12) << example.answer;
  EXPECT_EQ(RougeL("", "words"), 0);
  EXPECT_EQ(RougeL("words", "..."), 0);
  EXPECT_EQ(Score(TaskMetric::kFirstLineRougeL, {"b"}, "b\nc d"), RougeL("b", "b"));
}

TEST(TaskScoreTest, ClassIsSharedAmongThoseNamed) {
  const std::vector<std::string> classes = {"Number", "Number of people", "Place", "Date"};
  EXPECT_EQ(Score(TaskMetric::kClass, {"Place"}, "Place\nDate", classes), 1);
  EXPECT_EQ(Score(TaskMetric::kClass, {"Place"}, "Place or Date", classes), 0.5);
  EXPECT_EQ(Score(TaskMetric::kClass, {"Place"}, "Date", classes), 0);
  EXPECT_EQ(Score(TaskMetric::kClass, {"Number of people"}, "Number of people", classes), 1)
      << "a class that is part of the reference's name does not count";
  EXPECT_EQ(Score(TaskMetric::kClass, {"Number"}, "Number of people", classes), 0.5);
}

TEST(TaskScoreTest, CountsNumbers) {
  EXPECT_EQ(Score(TaskMetric::kParagraph, {"Paragraph 12"}, "Paragraph 12"), 1);
  EXPECT_EQ(Score(TaskMetric::kParagraph, {"Paragraph 12"}, "12 or 3"), 0.5);
  EXPECT_EQ(Score(TaskMetric::kParagraph, {"段落7"}, "段落7"), 1);
  EXPECT_EQ(Score(TaskMetric::kCount, {"4"}, "There are 4, not 44, so 4"), 2.0 / 3);
  EXPECT_EQ(Score(TaskMetric::kCount, {"4"}, "none"), 0);
}

TEST(TaskScoreTest, EditSimilarityIsThatOfTheUsualPackage) {
  // Those of fuzz.ratio of the Python package fuzzywuzzy with Levenshtein beside it.
  EXPECT_EQ(EditSimilarity("return x + 1", "return x + 2"), 0.92);
  EXPECT_EQ(EditSimilarity("int main()", "int main(void) {"), 0.77);
  EXPECT_EQ(EditSimilarity("", "abc"), 0);
  EXPECT_EQ(EditSimilarity("naïve", "naive"), 0.8);
  EXPECT_EQ(EditSimilarity("foo(bar, baz)", "bar(foo, baz)"), 0.69);
}

TEST(TaskScoreTest, CodeIsTheFirstLineThatIsCode) {
  EXPECT_EQ(FirstCodeLine("\n\n```cpp\n// next\nreturn x;\n}"), "return x;");
  EXPECT_EQ(FirstCodeLine("# only\n// marks"), "");
  EXPECT_EQ(FirstCodeLine("```\n\nreturn x;"), "") << "an empty line is a line";
  EXPECT_EQ(Score(TaskMetric::kCodeLine, {"return x;"}, "return x;\nelse"), 1);
}

TEST(TaskScoreTest, MetricsHaveNames) {
  for (int i = 0; i <= static_cast<int>(TaskMetric::kCodeLine); ++i) {
    const auto metric = static_cast<TaskMetric>(i);
    EXPECT_EQ(FindTaskMetric(NameOf(metric)), metric);
  }
  EXPECT_FALSE(FindTaskMetric("bleu"));
}

}  // namespace
}  // namespace tidal
