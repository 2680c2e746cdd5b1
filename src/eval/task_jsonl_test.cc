#include "eval/task_jsonl.h"

#include <gmock/gmock.h>

namespace tidal {
namespace {

using ::testing::HasSubstr;

TaskPrompt Example() {
  TaskPrompt prompt;
  prompt.task = "passkey";
  prompt.length = 1024;
  prompt.depth = 0.1;
  prompt.number = 3;
  prompt.context = "a \"quoted\" text\nwith ünïcode and a tab\t";
  prompt.question = "What?";
  prompt.answer_prefix = "It is";
  prompt.answers = {"1", "two"};
  prompt.classes = {"x"};
  prompt.max_tokens = 6;
  prompt.metric = TaskMetric::kFirstNumber;
  prompt.chat = false;
  return prompt;
}

TEST(TaskJsonlTest, ReadsBackWhatItWrote) {
  TaskPrompt second = Example();
  second.depth.reset();
  second.chat = true;
  second.classes.clear();
  const std::string text = TaskPromptLine(Example()) + "\n  \r\n" + TaskPromptLine(second);
  const Result<std::vector<TaskPrompt>> read = ParseTaskPrompts("p.jsonl", text);
  ASSERT_TRUE(read.ok()) << read.status().message();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ(TaskPromptLine((*read)[0]), TaskPromptLine(Example()));
  EXPECT_EQ((*read)[0].context, Example().context);
  EXPECT_EQ((*read)[0].depth, 0.1);
  EXPECT_EQ((*read)[0].answers, Example().answers);
  EXPECT_EQ(TaskPromptLine((*read)[1]), TaskPromptLine(second));
  EXPECT_FALSE((*read)[1].depth);
}

std::string ErrorOf(const std::string& from, const std::string& to) {
  std::string line = TaskPromptLine(Example());
  const size_t at = line.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  line.replace(at, from.size(), to);
  return ParseTaskPrompts("p.jsonl", TaskPromptLine(Example()) + line).status().message();
}

TEST(TaskJsonlTest, SaysWhichLineAndFieldIsWrong) {
  EXPECT_EQ(ErrorOf("\"passkey\"", "5"), "p.jsonl: line 2: \"task\" is number, expected a string");
  EXPECT_EQ(ErrorOf("\"task\"", "\"tusk\""), "p.jsonl: line 2: the field \"task\" is missing");
  EXPECT_THAT(ErrorOf("1024", "-1"), HasSubstr("\"length\" is not an integer from 1"));
  EXPECT_THAT(ErrorOf("1024", "1e30"), HasSubstr("\"length\" is not an integer from 1"));
  EXPECT_THAT(ErrorOf("1024", "18446744073709551615"), HasSubstr("\"length\" is not an integer"));
  EXPECT_THAT(ErrorOf("0.1", "1.5"), HasSubstr("\"depth\" is 1.5, expected 0 to 1"));
  EXPECT_THAT(ErrorOf("0.1", "\"deep\""), HasSubstr("\"depth\" is neither null nor a number"));
  EXPECT_THAT(ErrorOf("[\"1\",\"two\"]", "[]"), HasSubstr("\"answers\" is empty"));
  EXPECT_THAT(ErrorOf("[\"1\",\"two\"]", "[1]"), HasSubstr("\"answers\" is not a list of strings"));
  EXPECT_THAT(ErrorOf("\"What?\"", "\"\""), HasSubstr("\"question\" is empty"));
  EXPECT_THAT(ErrorOf("first_number", "bleu"), HasSubstr("\"metric\" is \"bleu\""));
  EXPECT_THAT(ErrorOf("false", "0"), HasSubstr("\"chat\" is neither true nor false"));
  EXPECT_EQ(ErrorOf("}", "]"), "p.jsonl: line 2: expected a JSON object");
}

TEST(TaskJsonlTest, RefusesDamagedAndEmptyFiles) {
  const std::string line = TaskPromptLine(Example());
  for (size_t size = 1; size + 2 < line.size(); size += 7) {
    EXPECT_EQ(ParseTaskPrompts("p", line.substr(0, size)).status().message(),
              "p: line 1: expected a JSON object");
  }
  EXPECT_THAT(ParseTaskPrompts("p", "[1]").status().message(), HasSubstr("line 1"));
  EXPECT_FALSE(ParseTaskPrompts("p", std::string(100000, '[')).ok());
  EXPECT_THAT(ParseTaskPrompts("p", "\n \n").status().message(), HasSubstr("p: no prompt"));
}

}  // namespace
}  // namespace tidal
