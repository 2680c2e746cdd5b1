// RULER's tasks without a needle: a chain of variables, common words, frequent coded words.
#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <set>

#include "eval/task_makers.h"

namespace tidal {
namespace {

// Different words of so many random letters from `first` on.
std::vector<std::string> DrawLetters(int64_t count, int32_t letters, char first,
                                     TaskRandom* random) {
  std::set<std::string> seen;
  std::vector<std::string> words;
  while (static_cast<int64_t>(words.size()) < count) {
    std::string word;
    for (int32_t i = 0; i < letters; ++i)
      word += static_cast<char>(first + static_cast<char>(random->Below(26)));
    if (seen.insert(word).second) words.push_back(std::move(word));
  }
  return words;
}

std::string Join(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += separator;
    text += word;
  }
  return text;
}

// A text, what is asked about it, how the answer begins, and what belongs there.
struct Exercise {
  std::string text;
  std::string question;
  std::string prefix;
  std::vector<std::string> answers;
};

std::string NumberedList(const std::vector<std::string>& words) {
  std::string list;
  for (size_t i = 0; i < words.size(); ++i)
    list += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, words[i]);
  return list;
}

// The first exercise is shown with its answers, the second is asked.
void SetExercises(const Exercise& shown, const std::string& shown_answer, Exercise asked,
                  TaskPrompt* prompt) {
  prompt->context = fmt::format("{}\n\n{} {} {}\n\n{}\n\n", shown.text, shown.question,
                                shown.prefix, shown_answer, asked.text);
  prompt->question = std::move(asked.question);
  prompt->answer_prefix = std::move(asked.prefix);
  prompt->answers = std::move(asked.answers);
}

constexpr int32_t kHops = 4;

// `size` lines of noise with the assignments of one chain among them, in their order.
Exercise VariableChain(int64_t size, int32_t letters, TaskRandom* random) {
  constexpr int32_t kDigits = 5;
  Exercise exercise;
  exercise.answers = DrawLetters(kHops + 1, letters, 'A', random);
  const std::string value = DrawNumber(kDigits, random);
  std::vector<int64_t> places;  // lines before each assignment
  for (int32_t i = 0; i <= kHops; ++i) places.push_back(random->Below(size + 1));
  std::sort(places.begin(), places.end());
  std::vector<std::string> lines;
  size_t next = 0;
  for (int64_t line = 0; line <= size; ++line) {
    for (; next < places.size() && places[next] == line; ++next) {
      lines.push_back(fmt::format("VAR {} = {}", exercise.answers[next],
                                  next == 0 ? value : "VAR " + exercise.answers[next - 1]));
    }
    if (line < size) lines.emplace_back(kNoise);
  }
  exercise.text =
      "The text below hides a chain of variables that are assigned to each other. Follow it.\n\n" +
      Join(lines, "\n");
  exercise.question =
      fmt::format("Question: Which variables of the text above have the value {}?", value);
  exercise.prefix = fmt::format(
      "Answer: Following the assignments in the text above, the {} variables with the value {} "
      "are:",
      kHops + 1, value);
  return exercise;
}

constexpr int32_t kCommon = 10;

// `num_words` different words, the common ones among them more often than the others.
Exercise CommonWords(const TaskText& text, int64_t num_words, int32_t common_times,
                     int32_t other_times, TaskRandom* random) {
  std::vector<std::string> words = text.DrawWords(num_words, random);
  std::vector<std::string> list;
  for (size_t i = 0; i < words.size(); ++i) {
    const int32_t times = i < kCommon ? common_times : other_times;
    list.insert(list.end(), static_cast<size_t>(times), words[i]);
  }
  random->Shuffle(&list);
  words.resize(kCommon);
  Exercise exercise;
  exercise.text =
      "Below is a numbered list of words, some of which come more often than others. Remember "
      "those that come most often.\n\n" +
      NumberedList(list);
  exercise.question =
      fmt::format("Question: Which {} words are the most common ones of the list above?", kCommon);
  exercise.prefix = fmt::format("Answer: The {} most common words of the list are:", kCommon);
  exercise.answers = std::move(words);
  return exercise;
}

}  // namespace

void MakeVariableTracking(const TaskKind& kind, const TaskText& /*text*/, const TaskCase& spec,
                          int64_t size, TaskPrompt* prompt) {
  constexpr int64_t kShownSize = 5;
  TaskRandom random = NeedleRandom(kind, spec);
  const Exercise shown = VariableChain(kShownSize, /*letters=*/3, &random);
  Exercise asked = VariableChain(size, /*letters=*/5, &random);
  SetExercises(shown, Join(shown.answers, " "), std::move(asked), prompt);
}

void MakeCommonWords(const TaskKind& kind, const TaskText& text, const TaskCase& spec, int64_t size,
                     TaskPrompt* prompt) {
  constexpr int32_t kShortLength = 4096;  // below it the lists are thinner, as in the original
  const bool is_short = spec.length < kShortLength;
  TaskRandom random = NeedleRandom(kind, spec);
  const Exercise shown =
      is_short ? CommonWords(text, 20, 3, 1, &random) : CommonWords(text, 40, 10, 3, &random);
  Exercise asked =
      is_short ? CommonWords(text, size, 6, 1, &random) : CommonWords(text, size, 30, 3, &random);
  SetExercises(shown, NumberedList(shown.answers), std::move(asked), prompt);
}

// The k-th word comes size / (k^2 zeta(2)) times, and the first stands for noise.
void MakeFrequentWords(const TaskKind& kind, const TaskText& /*text*/, const TaskCase& spec,
                       int64_t size, TaskPrompt* prompt) {
  constexpr double kZeta2 = 1.6449340668482264;
  constexpr int32_t kLetters = 6;
  constexpr int32_t kAsked = 3;
  TaskRandom random = NeedleRandom(kind, spec);
  // Later words of the series come less than once.
  const auto times = [size](int64_t k) {
    return static_cast<int64_t>(static_cast<double>(size) / (static_cast<double>(k * k) * kZeta2));
  };
  int64_t num_words = kAsked + 1;
  while (times(num_words + 1) > 0) ++num_words;
  std::vector<std::string> words = DrawLetters(num_words, kLetters, 'a', &random);
  words[0] = "...";
  std::vector<std::string> coded;
  for (int64_t k = 1; k <= num_words; ++k)
    coded.insert(coded.end(), static_cast<size_t>(times(k)), words[static_cast<size_t>(k - 1)]);
  random.Shuffle(&coded);
  prompt->context = fmt::format(
      "Read the coded text below and count how often each coded word comes. Find the three words "
      "that come most often.\n\n{}\n\n",
      Join(coded, " "));
  prompt->question =
      "Question: Which three words come most often in the coded text above? Leave out the dots "
      "and explain nothing.";
  prompt->answer_prefix = "Answer: The three words that come most often in the coded text are:";
  prompt->answers.assign(words.begin() + 1, words.begin() + 1 + kAsked);
}

}  // namespace tidal
