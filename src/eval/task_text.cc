#include "eval/task_text.h"

#include <algorithm>
#include <set>

#include "tokenizer/utf8.h"

namespace tidal {
namespace {

constexpr size_t kMaxSentenceWords = 40;
constexpr size_t kMinSentences = 20;
constexpr size_t kMinWords = 400;
constexpr size_t kShortestWord = 4;
constexpr size_t kLongestWord = 10;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsLowercase(char c) { return c >= 'a' && c <= 'z'; }

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (end < text.size() && !IsSpace(text[end])) ++end;
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

bool EndsSentence(std::string_view word) {
  return word.back() == '.' || word.back() == '!' || word.back() == '?';
}

std::vector<std::string> JoinSentences(const std::vector<std::string_view>& words) {
  std::vector<std::string> sentences;
  std::string sentence;
  size_t num_words = 0;
  for (const std::string_view word : words) {
    if (num_words > 0) sentence += ' ';
    sentence += word;
    if (++num_words < kMaxSentenceWords && !EndsSentence(word)) continue;
    sentences.push_back(std::move(sentence));
    sentence.clear();
    num_words = 0;
  }
  if (num_words > 0) sentences.push_back(std::move(sentence));
  return sentences;
}

// Those that can be part of a key: letters only, once a mark behind them is taken away.
std::vector<std::string> KeyWords(const std::vector<std::string_view>& words) {
  std::set<std::string> found;
  for (std::string_view word : words) {
    if (std::string_view(".,;:!?").find(word.back()) != std::string_view::npos)
      word.remove_suffix(1);
    if (word.size() >= kShortestWord && word.size() <= kLongestWord &&
        std::all_of(word.begin(), word.end(), IsLowercase))
      found.emplace(word);
  }
  return {found.begin(), found.end()};
}

}  // namespace

Result<TaskText> TaskText::Parse(std::string_view name, std::string_view text) {
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size())
    return InvalidArgument("{}: byte {} is not UTF-8, expected plain text", name, valid);
  const std::vector<std::string_view> words = SplitWords(text);
  TaskText result;
  result.sentences_ = JoinSentences(words);
  result.words_ = KeyWords(words);
  if (result.sentences_.size() < kMinSentences || result.words_.size() < kMinWords) {
    return InvalidArgument(
        "{}: {} sentences and {} different words of {} to {} lowercase letters, expected at least "
        "{} and {}; give a longer text",
        name, result.sentences_.size(), result.words_.size(), kShortestWord, kLongestWord,
        kMinSentences, kMinWords);
  }
  return result;
}

std::vector<std::string> TaskText::Sentences(int64_t start, int64_t count) const {
  std::vector<std::string> sentences;
  sentences.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    sentences.push_back(sentences_[static_cast<size_t>((start + i) % num_sentences())]);
  return sentences;
}

std::string TaskText::DrawPhrase(int32_t num_words, TaskRandom* random) const {
  std::string phrase = random->Pick(words_);
  for (int32_t i = 1; i < num_words; ++i) phrase += "-" + random->Pick(words_);
  return phrase;
}

std::vector<std::string> TaskText::DrawWords(int64_t count, TaskRandom* random) const {
  std::vector<std::string> drawn = words_;
  random->Shuffle(&drawn);
  if (count <= static_cast<int64_t>(drawn.size())) {
    drawn.resize(static_cast<size_t>(count));
    return drawn;
  }
  std::set<std::string> phrases;
  // Of half of all phrases of a length another one is found after two draws on average.
  int32_t words_each = 2;
  auto most = static_cast<int64_t>(words_.size() * words_.size() / 2);
  while (static_cast<int64_t>(drawn.size()) < count) {
    std::string phrase = DrawPhrase(words_each, random);
    if (phrases.insert(phrase).second) drawn.push_back(std::move(phrase));
    if (static_cast<int64_t>(phrases.size()) < most) continue;
    ++words_each;
    most *= static_cast<int64_t>(words_.size());
  }
  return drawn;
}

std::string DrawNumber(int32_t digits, TaskRandom* random) {
  std::string number(1, static_cast<char>('1' + random->Below(9)));
  while (static_cast<int32_t>(number.size()) < digits)
    number += static_cast<char>('0' + random->Below(10));
  return number;
}

std::string DrawUuid(TaskRandom* random) {
  constexpr std::string_view kHex = "0123456789abcdef";
  // Of the 16 values of the digit that says the variant, those that version 4 has.
  constexpr std::string_view kVariant = "89ab";
  std::string uuid;
  for (const char c : std::string_view("xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx")) {
    if (c == 'x')
      uuid += kHex[static_cast<size_t>(random->Below(16))];
    else if (c == 'y')
      uuid += kVariant[static_cast<size_t>(random->Below(4))];
    else
      uuid += c;
  }
  return uuid;
}

}  // namespace tidal
