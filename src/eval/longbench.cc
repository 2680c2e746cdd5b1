#include "eval/longbench.h"

#include <algorithm>
#include <fmt/format.h>
#include <span>

#include "eval/json_lines.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// What is asked around the context: `before` it, and behind it with "{}" for the line's input.
struct DataSet {
  std::string_view name;
  int32_t max_tokens;
  TaskMetric metric;
  bool chat;  // false: its examples are a text to continue
  std::string_view before;
  std::string_view after;
};

constexpr std::string_view kPassages =
    "Several passages follow, then a question about them. Answer with the answer alone.\n\n";
constexpr std::string_view kPassagesQuestion =
    "\n\nAnswer this question from the passages above, with the answer alone and no other words."
    "\n\nQuestion: {}\nAnswer:";
constexpr std::string_view kCode = "Complete the code below by its next line.\n";

constexpr DataSet kDataSets[] = {
    {"narrativeqa", 128, TaskMetric::kTokenF1, true,
     "A story (a novel or a film script) follows, then a question about it. Answer as briefly as "
     "possible, in one phrase if you can, and explain nothing.\n\nStory: ",
     "\n\nAnswer this question about the story as briefly as possible, in one phrase if you can, "
     "and explain nothing.\n\nQuestion: {}\n\nAnswer:"},
    {"qasper", 128, TaskMetric::kTokenF1, true,
     "A scientific article follows, then a question about it. Answer as briefly as possible, in a "
     "phrase or a sentence.\n\nArticle: ",
     "\n\nAnswer this question about the article as briefly as possible, in a phrase or a "
     "sentence. Write \"unanswerable\" where the article does not tell, and \"yes\" or \"no\" "
     "where "
     "that is what is asked. Explain nothing.\n\nQuestion: {}\n\nAnswer:"},
    {"multifieldqa_en", 64, TaskMetric::kTokenF1, true,
     "Read this text and answer the question behind it briefly.\n\n",
     "\n\nAnswer this question from the text above, with the answer alone and no other words."
     "\n\nQuestion: {}\nAnswer:"},
    {"hotpotqa", 32, TaskMetric::kTokenF1, true, kPassages, kPassagesQuestion},
    {"2wikimqa", 32, TaskMetric::kTokenF1, true, kPassages, kPassagesQuestion},
    {"musique", 32, TaskMetric::kTokenF1, true, kPassages, kPassagesQuestion},
    {"gov_report", 512, TaskMetric::kRougeL, true,
     "A government agency's report follows. Write a summary of it of about one page.\n\nReport:\n",
     "\n\nNow write the summary of the report, about one page long.\n\nSummary:"},
    {"qmsum", 512, TaskMetric::kRougeL, true,
     "The transcript of a meeting follows, then a question or task about it. Answer in one or a "
     "few sentences.\n\nTranscript:\n",
     "\n\nAnswer this about the meeting in one or a few sentences.\n\nQuery: {}\nAnswer:"},
    {"multi_news", 512, TaskMetric::kRougeL, true,
     "Several news articles follow. Write a summary of all of them of about one page.\n\nNews:\n",
     "\n\nNow write the summary of all the news, about one page long.\n\nSummary:"},
    {"trec", 64, TaskMetric::kClass, false,
     "Name the type of the last question below. Examples come first.\n\n", "\n{}"},
    {"triviaqa", 32, TaskMetric::kFirstLineF1, false,
     "Answer the question from the passage, with the answer alone. Examples come first.\n\n",
     "\n\n{}"},
    {"samsum", 128, TaskMetric::kFirstLineRougeL, false,
     "Sum up the dialogue in a few short sentences. Examples come first.\n\n", "\n\n{}"},
    {"lsht", 64, TaskMetric::kClass, false, "判断最后一条新闻属于哪个类别。先给出一些例子。\n\n",
     "\n{}"},
    {"passage_count", 32, TaskMetric::kCount, true,
     "Paragraphs of an encyclopedia follow, some of them more than once. Count how many different "
     "ones there are.\n\n",
     "\n\nHow many different paragraphs are there? Write the number alone.\n\nThe number is: "},
    {"passage_retrieval_en", 32, TaskMetric::kParagraph, true,
     "Thirty paragraphs of an encyclopedia follow, then a summary of one of them. Find out which "
     "one it is of.\n\n",
     "\n\nThis is the summary.\n\n{}\n\nName the paragraph that it is of in the form \"Paragraph "
     "1\", \"Paragraph 2\" and so on.\n\nThe answer is: "},
    {"passage_retrieval_zh", 32, TaskMetric::kParagraph, true,
     "下面有若干段落，随后是其中某一段的摘要。请找出摘要对应的段落。\n\n",
     "\n\n摘要如下。\n\n{}\n\n请按\"段落1\"、\"段落2\"的格式写出对应的段落。\n\n答案是："},
    {"lcc", 64, TaskMetric::kCodeLine, false, kCode, "Next line of code:\n"},
    {"repobench-p", 64, TaskMetric::kCodeLine, false, kCode, "{}Next line of code:\n"},
};

// Their references have to be cut into words, by a dictionary that the original brings.
constexpr std::string_view kChineseWords[] = {"multifieldqa_zh", "dureader", "vcsum"};

Result<const DataSet*> FindDataSet(std::string_view name) {
  if (std::find(std::begin(kChineseWords), std::end(kChineseWords), name) !=
      std::end(kChineseWords))
    return Unsupported("data set {} is scored by Chinese words, which are not cut here", name);
  std::string names;
  for (const DataSet& set : kDataSets) {
    if (name == set.name) return &set;
    names += (names.empty() ? "" : ", ") + std::string(set.name);
  }
  return InvalidArgument("\"dataset\" is \"{}\", expected one of {}", name, names);
}

std::string FillIn(std::string_view text, const std::string& input) {
  const size_t hole = text.find("{}");
  if (hole == std::string_view::npos) return std::string(text);
  return std::string(text.substr(0, hole)) + input + std::string(text.substr(hole + 2));
}

// Null or a list of strings.
Result<std::vector<std::string>> ReadClasses(const Json& object) {
  const auto found = object.find("all_classes");
  if (found == object.end() || found->is_null()) return std::vector<std::string>();
  return JsonTexts(object, "all_classes");
}

Result<TaskPrompt> ReadLine(const Json& object) {
  TIDAL_ASSIGN_OR_RETURN(const std::string name, JsonText(object, "dataset"));
  TIDAL_ASSIGN_OR_RETURN(const DataSet* set, FindDataSet(name));
  TIDAL_ASSIGN_OR_RETURN(const std::string context, JsonText(object, "context"));
  TIDAL_ASSIGN_OR_RETURN(const std::string input, JsonText(object, "input"));
  TaskPrompt prompt;
  prompt.task = "longbench:" + name;
  prompt.context = std::string(set->before) + context;
  prompt.question = FillIn(set->after, input);
  TIDAL_ASSIGN_OR_RETURN(prompt.answers, JsonTexts(object, "answers"));
  TIDAL_ASSIGN_OR_RETURN(prompt.classes, ReadClasses(object));
  if (prompt.answers.empty()) return InvalidArgument("\"answers\" is empty");
  if (set->metric == TaskMetric::kClass && prompt.classes.empty())
    return InvalidArgument("\"all_classes\" is empty, which data set {} is scored by", name);
  prompt.max_tokens = set->max_tokens;
  prompt.metric = set->metric;
  prompt.chat = set->chat;
  return prompt;
}

std::string TextOf(const Tokenizer& tokenizer, std::span<const TokenId> tokens) {
  IncrementalDetokenizer detokenizer(tokenizer);
  std::string text;
  for (const TokenId token : tokens) text += detokenizer.Push(token);
  return text + detokenizer.Finish();
}

// The prompt with `half` tokens of its beginning and as many of its end.
TaskPrompt KeepEnds(const TaskPrompt& prompt, const Tokenizer& tokenizer,
                    std::span<const TokenId> tokens, size_t half) {
  TaskPrompt cut = prompt;
  cut.context = TextOf(tokenizer, tokens.first(half));
  std::string end = TextOf(tokenizer, tokens.last(half));
  if (end.ends_with(prompt.question)) {
    cut.context += end.substr(0, end.size() - prompt.question.size());
  } else {
    cut.question = std::move(end);
  }
  return cut;
}

}  // namespace

Result<std::vector<TaskPrompt>> ReadLongBench(std::string_view name, std::string_view text,
                                              int32_t most) {
  std::vector<TaskPrompt> prompts;
  const auto take = [&](const Json& object) -> Status {
    if (static_cast<int32_t>(prompts.size()) >= most) return OkStatus();
    TIDAL_ASSIGN_OR_RETURN(TaskPrompt prompt, ReadLine(object));
    prompt.number = static_cast<int32_t>(prompts.size());
    prompts.push_back(std::move(prompt));
    return OkStatus();
  };
  TIDAL_RETURN_IF_ERROR(ForEachJsonLine(name, text, take));
  if (prompts.empty()) return InvalidArgument("{}: no line, expected LongBench's", name);
  return prompts;
}

Result<TaskPrompt> TruncateMiddle(const TaskPrompt& prompt, int32_t length,
                                  const Tokenizer& tokenizer, const CountTokensFn& count) {
  TaskPrompt cut = prompt;
  cut.length = length;
  TIDAL_ASSIGN_OR_RETURN(int64_t whole, count(cut));
  const std::vector<TokenId> tokens =
      tokenizer.Tokenize(prompt.context + prompt.question, SpecialTokens::kAsText, AddBos::kNever);
  auto kept = static_cast<int64_t>(tokens.size());
  // Where the ends meet, and within the chat template, tokens may come out otherwise: what is then
  // too much is taken away again.
  while (whole + prompt.max_tokens > length) {
    kept = std::min(kept - 1, kept - (whole + prompt.max_tokens - length));
    if (kept < 2) {
      return InvalidArgument(
          "{} at a length of {} tokens: an answer of {} and the chat template leave no room for a "
          "prompt; give a larger --lengths",
          prompt.task, length, prompt.max_tokens);
    }
    cut = KeepEnds(prompt, tokenizer, tokens, static_cast<size_t>(kept / 2));
    cut.length = length;
    TIDAL_ASSIGN_OR_RETURN(whole, count(cut));
  }
  return cut;
}

}  // namespace tidal
