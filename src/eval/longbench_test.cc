#include "eval/longbench.h"

#include <gmock/gmock.h>

#include "eval/task_score.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string Line(const std::string& data_set, const std::string& rest) {
  return R"({"input":"Who?","context":"Some text.","dataset":")" + data_set +
         R"(","language":"en","length":2,"_id":"x",)" + rest + "}\n";
}

constexpr const char* kAnswers = R"("answers":["Ann","Bob"],"all_classes":null)";

TEST(LongBenchTest, MakesPromptsOfOfficialLines) {
  const std::string text = Line("hotpotqa", kAnswers) + Line("hotpotqa", kAnswers) +
                           Line("trec", R"("answers":["Place"],"all_classes":["Place","Date"])");
  const Result<std::vector<TaskPrompt>> prompts = ReadLongBench("f.jsonl", text, 10);
  ASSERT_TRUE(prompts.ok()) << prompts.status().message();
  ASSERT_EQ(prompts->size(), 3U);
  const TaskPrompt& first = (*prompts)[0];
  EXPECT_EQ(first.task, "longbench:hotpotqa");
  EXPECT_THAT(first.context, EndsWith("Some text."));
  EXPECT_THAT(first.question, EndsWith("Question: Who?\nAnswer:"));
  EXPECT_EQ(first.max_tokens, 32);
  EXPECT_TRUE(first.chat);
  EXPECT_EQ(ScoreAnswer(first, "bob."), 1);
  EXPECT_EQ((*prompts)[1].number, 1);
  EXPECT_FALSE((*prompts)[2].chat);
  EXPECT_EQ(ScoreAnswer((*prompts)[2], "Place"), 1);
  EXPECT_EQ(ReadLongBench("f.jsonl", text, 2)->size(), 2U);
}

TEST(LongBenchTest, KnowsEveryDataSet) {
  for (const char* name :
       {"narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report",
        "qmsum", "multi_news", "trec", "triviaqa", "samsum", "lsht", "passage_count",
        "passage_retrieval_en", "passage_retrieval_zh", "lcc", "repobench-p"}) {
    const std::string line = Line(name, R"("answers":["a"],"all_classes":["a"])");
    EXPECT_TRUE(ReadLongBench("f", line, 1).ok()) << name;
  }
  for (const char* name : {"multifieldqa_zh", "dureader", "vcsum"})
    EXPECT_EQ(ReadLongBench("f", Line(name, kAnswers), 1).status().code(),
              StatusCode::kUnsupported);
}

TEST(LongBenchTest, SaysWhatIsWrongWithALine) {
  const auto error = [](const std::string& text) {
    return ReadLongBench("f.jsonl", text, 10).status().message();
  };
  const std::string good = Line("hotpotqa", kAnswers);
  EXPECT_THAT(error(good + Line("bookqa", kAnswers)),
              HasSubstr("f.jsonl: line 2: \"dataset\" is \"bookqa\", expected one of narrativeqa"));
  EXPECT_EQ(error(good + "{\"dataset\":\"qmsum\"}"),
            "f.jsonl: line 2: the field \"context\" is missing");
  EXPECT_EQ(error("{"), "f.jsonl: line 1: expected a JSON object");
  EXPECT_THAT(error(Line("hotpotqa", "\"answers\":[]")), HasSubstr("\"answers\" is empty"));
  EXPECT_THAT(error(Line("trec", kAnswers)), HasSubstr("\"all_classes\" is empty"));
  EXPECT_THAT(error(""), HasSubstr("f.jsonl: no line"));
}

// Every byte is a token.
std::unique_ptr<Tokenizer> ByteTokenizer() {
  const VocabForTest vocab;
  return Tokenizer::FromVocab(vocab.View("gpt2")).value();
}

Result<int64_t> CountBytes(const TaskPrompt& prompt) {
  constexpr int64_t kChatTemplate = 10;
  return static_cast<int64_t>(prompt.context.size() + prompt.question.size()) + kChatTemplate;
}

TEST(LongBenchTest, CutsTheMiddleOut) {
  const auto tokenizer = ByteTokenizer();
  TaskPrompt prompt;
  prompt.task = "longbench:qmsum";
  prompt.context = std::string(500, 'a') + std::string(500, 'b');
  prompt.question = "What?";
  prompt.max_tokens = 50;
  const Result<TaskPrompt> fits = TruncateMiddle(prompt, 1065, *tokenizer, CountBytes);
  ASSERT_TRUE(fits.ok());
  EXPECT_EQ(fits->context, prompt.context);
  EXPECT_EQ(fits->length, 1065);
  const Result<TaskPrompt> cut = TruncateMiddle(prompt, 260, *tokenizer, CountBytes);
  ASSERT_TRUE(cut.ok()) << cut.status().message();
  EXPECT_EQ(cut->context, std::string(100, 'a') + std::string(95, 'b'));
  EXPECT_EQ(cut->question, "What?");
  const Result<TaskPrompt> tiny = TruncateMiddle(prompt, 66, *tokenizer, CountBytes);
  ASSERT_TRUE(tiny.ok());
  EXPECT_EQ(tiny->context + tiny->question, "aaaat?");
  EXPECT_THAT(TruncateMiddle(prompt, 61, *tokenizer, CountBytes).status().message(),
              HasSubstr("longbench:qmsum at a length of 61 tokens"));
}

}  // namespace
}  // namespace tidal
