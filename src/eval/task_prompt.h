// One prompt of a retrieval task and how its answer is scored.
#ifndef TIDAL_EVAL_TASK_PROMPT_H_
#define TIDAL_EVAL_TASK_PROMPT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tidal {

// How an answer is scored against the references, always in [0, 1].
enum class TaskMetric : uint8_t {
  kAllParts,     // share of the references that occur in it, whatever the case (RULER)
  kAnyPart,      // one of them occurs in it (RULER's questions)
  kFirstNumber,  // its first run of digits is the reference (InfiniteBench)
  kWord,         // the reference is one of its words (InfiniteBench)
  kTokenF1,      // overlap of words without articles and punctuation (LongBench)
  kFirstLineF1,  // the same of its first line
  kRougeL,       // longest common subsequence of words
  kFirstLineRougeL,
  kClass,      // of the first line: the class named, shared where several are
  kParagraph,  // share of its numbers that are the reference's
  kCount,      // share of its numbers that are the reference
  kCodeLine,   // edit similarity of its first line of code
};

struct TaskPrompt {
  std::string task;
  int32_t length = 0;           // tokens that the prompt and its answer have to fit into
  std::optional<double> depth;  // where the needle is, 0 (start) to 1 (end); none: no such thing
  int32_t number = 0;           // of the case at this task, length and depth, from 0
  std::string context;          // what is read before the question
  std::string question;         // comes right after it
  // How the answer begins, without white space around it: put behind the chat template's opening of
  // the answer, or behind the question and a space.
  std::string answer_prefix;
  std::vector<std::string> answers;  // references; at least one
  std::vector<std::string> classes;  // of kClass: all that there are
  int32_t max_tokens = 0;            // of the answer
  TaskMetric metric = TaskMetric::kAllParts;
  bool chat = true;  // whether a chat template may be put around it
};

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_PROMPT_H_
