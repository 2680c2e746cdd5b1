// The plain text that tasks are made of: its sentences are the haystack, its words become keys.
#ifndef TIDAL_EVAL_TASK_TEXT_H_
#define TIDAL_EVAL_TASK_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "eval/task_random.h"

namespace tidal {

class TaskText {
 public:
  // `name` is for messages. White space is evened out; a sentence ends behind ". ", "! " or "? ",
  // and after 40 words at the latest. kInvalidArgument: not UTF-8, or fewer than 20 sentences or
  // 200 different words of 4 to 10 lowercase letters.
  static Result<TaskText> Parse(std::string_view name, std::string_view text);

  // `count` sentences in their order from number `start` on, from the first again after the last.
  std::vector<std::string> Sentences(int64_t start, int64_t count) const;
  int64_t num_sentences() const { return static_cast<int64_t>(sentences_.size()); }

  // Lowercase words, all different, sorted.
  const std::vector<std::string>& words() const { return words_; }
  // So many words with hyphens between them.
  std::string DrawPhrase(int32_t num_words, TaskRandom* random) const;
  // `count` different words in random order; where the text has too few, phrases of two words
  // follow, and so on.
  std::vector<std::string> DrawWords(int64_t count, TaskRandom* random) const;

 private:
  std::vector<std::string> sentences_;
  std::vector<std::string> words_;
};

// A number of so many digits that does not begin with 0.
std::string DrawNumber(int32_t digits, TaskRandom* random);
// A version 4 UUID, lowercase.
std::string DrawUuid(TaskRandom* random);

}  // namespace tidal

#endif  // TIDAL_EVAL_TASK_TEXT_H_
