#include "eval/task_score.h"

#include <algorithm>
#include <utility>

#include "eval/text_metrics.h"

namespace tidal {
namespace {

constexpr std::pair<TaskMetric, const char*> kNames[] = {
    {TaskMetric::kAllParts, "all_parts"},
    {TaskMetric::kAnyPart, "any_part"},
    {TaskMetric::kFirstNumber, "first_number"},
    {TaskMetric::kWord, "word"},
    {TaskMetric::kTokenF1, "token_f1"},
    {TaskMetric::kFirstLineF1, "first_line_f1"},
    {TaskMetric::kRougeL, "rouge_l"},
    {TaskMetric::kFirstLineRougeL, "first_line_rouge_l"},
    {TaskMetric::kClass, "class"},
    {TaskMetric::kParagraph, "paragraph"},
    {TaskMetric::kCount, "count"},
    {TaskMetric::kCodeLine, "code_line"},
};

bool Contains(std::string_view answer, std::string_view reference) {
  return LowerAscii(answer).find(LowerAscii(reference)) != std::string::npos;
}

// Whether the reference is one of the words between white space and these marks.
bool HasWord(std::string_view answer, std::string_view reference) {
  constexpr std::string_view kBetween = " \t\n\v\f\r:\"'.,?!{}";
  while (!answer.empty()) {
    const size_t end = std::min(answer.find_first_of(kBetween), answer.size());
    if (end > 0 && answer.substr(0, end) == reference) return true;
    answer.remove_prefix(std::min(end + 1, answer.size()));
  }
  return false;
}

std::string_view FirstLine(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text.substr(0, text.find('\n'));
}

double ScoreOne(const TaskPrompt& prompt, std::string_view answer, std::string_view reference) {
  switch (prompt.metric) {
    case TaskMetric::kAllParts:
    case TaskMetric::kAnyPart:
      return Contains(answer, reference) ? 1 : 0;
    case TaskMetric::kFirstNumber:
      return FirstNumber(answer) == reference ? 1 : 0;
    case TaskMetric::kWord:
      return HasWord(answer, reference) ? 1 : 0;
    case TaskMetric::kTokenF1:
      return TokenF1(answer, reference);
    case TaskMetric::kFirstLineF1:
      return TokenF1(FirstLine(answer), reference);
    case TaskMetric::kRougeL:
      return RougeL(answer, reference);
    case TaskMetric::kFirstLineRougeL:
      return RougeL(FirstLine(answer), reference);
    case TaskMetric::kClass:
      return ClassScore(FirstLine(answer), reference, prompt.classes);
    case TaskMetric::kParagraph:
      return NumberShare(answer, FirstNumber(reference));
    case TaskMetric::kCount:
      return NumberShare(answer, reference);
    case TaskMetric::kCodeLine:
      return EditSimilarity(FirstCodeLine(answer), reference);
  }
  return 0;
}

}  // namespace

double ScoreAnswer(const TaskPrompt& prompt, std::string_view answer) {
  double sum = 0;
  double best = 0;
  for (const std::string& reference : prompt.answers) {
    const double score = ScoreOne(prompt, answer, reference);
    sum += score;
    best = std::max(best, score);
  }
  if (prompt.metric != TaskMetric::kAllParts) return best;
  return prompt.answers.empty() ? 0 : sum / static_cast<double>(prompt.answers.size());
}

const char* NameOf(TaskMetric metric) {
  for (const auto& [value, name] : kNames)
    if (value == metric) return name;
  return "";
}

std::optional<TaskMetric> FindTaskMetric(std::string_view name) {
  for (const auto& [value, known] : kNames)
    if (name == known) return value;
  return std::nullopt;
}

}  // namespace tidal
