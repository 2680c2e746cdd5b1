#include "eval/text_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "tokenizer/utf8.h"

namespace tidal {
namespace {

using Words = std::vector<std::string>;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsPunctuation(char c) {
  return std::string_view("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").find(c) != std::string_view::npos;
}

Words SplitAtSpace(std::string_view text) {
  Words words;
  std::string word;
  for (const char c : text) {
    if (!IsSpace(c)) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

Words NormalizedWords(std::string_view text) {
  std::string kept;
  for (const char c : LowerAscii(text))
    if (!IsPunctuation(c)) kept += c;
  Words words = SplitAtSpace(kept);
  std::erase_if(
      words, [](const std::string& word) { return word == "a" || word == "an" || word == "the"; });
  return words;
}

std::vector<Words> Sentences(std::string_view text) {
  std::vector<Words> sentences;
  while (!text.empty()) {
    const size_t end = std::min(text.find('.'), text.size());
    if (end > 0) {
      Words words = SplitAtSpace(text.substr(0, end));
      // White space between two full stops is a sentence of one empty word.
      if (words.empty()) words.emplace_back();
      sentences.push_back(std::move(words));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return sentences;
}

std::set<std::string> DifferentWords(const std::vector<Words>& sentences) {
  std::set<std::string> words;
  for (const Words& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return words;
}

// lengths[i][j]: of the longest common subsequence of the first i of `a` and the first j of `b`.
template <typename Sequence>
std::vector<std::vector<int32_t>> CommonLengths(const Sequence& a, const Sequence& b) {
  std::vector<std::vector<int32_t>> lengths(a.size() + 1, std::vector<int32_t>(b.size() + 1, 0));
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      lengths[i][j] = a[i - 1] == b[j - 1] ? lengths[i - 1][j - 1] + 1
                                           : std::max(lengths[i - 1][j], lengths[i][j - 1]);
    }
  }
  return lengths;
}

// Where several subsequences are the longest, the choice shows in the result: it is the original's.
void AddCommonWords(const Words& reference, const Words& answer, std::set<std::string>* common) {
  const auto lengths = CommonLengths(reference, answer);
  size_t i = reference.size();
  size_t j = answer.size();
  while (i > 0 && j > 0) {
    if (reference[i - 1] == answer[j - 1]) {
      common->insert(reference[i - 1]);
      --i;
      --j;
    } else if (lengths[i - 1][j] > lengths[i][j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

double Share(size_t part, size_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  while (!text.empty()) {
    const auto length = static_cast<size_t>(ReadUtf8(text).length);
    characters.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return characters;
}

std::vector<std::string_view> Numbers(std::string_view text) {
  std::vector<std::string_view> numbers;
  for (std::string_view number = FirstNumber(text); !number.empty(); number = FirstNumber(text)) {
    numbers.push_back(number);
    text = std::string_view(
        number.data() + number.size(),
        static_cast<size_t>(text.data() + text.size() - number.data()) - number.size());
  }
  return numbers;
}

}  // namespace

std::string LowerAscii(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lowered;
}

double TokenF1(std::string_view answer, std::string_view reference) {
  const Words given = NormalizedWords(answer);
  const Words expected = NormalizedWords(reference);
  std::map<std::string, int32_t> left;
  for (const std::string& word : expected) ++left[word];
  size_t same = 0;
  for (const std::string& word : given) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = Share(same, given.size());
  const double recall = Share(same, expected.size());
  return 2 * precision * recall / (precision + recall);
}

double RougeL(std::string_view answer, std::string_view reference) {
  const std::vector<Words> given = Sentences(answer);
  const std::vector<Words> expected = Sentences(reference);
  if (given.empty() || expected.empty()) return 0;
  std::set<std::string> common;
  for (const Words& sentence : expected)
    for (const Words& candidate : given) AddCommonWords(sentence, candidate, &common);
  const double recall = Share(common.size(), DifferentWords(expected).size());
  const double precision = Share(common.size(), DifferentWords(given).size());
  constexpr double kNoDivisionByZero = 1e-8;
  return 2 * precision * recall / (precision + recall + kNoDivisionByZero);
}

double ClassScore(std::string_view answer, std::string_view reference,
                  std::span<const std::string> classes) {
  std::vector<std::string_view> named;
  for (const std::string& name : classes)
    if (answer.find(name) != std::string_view::npos) named.emplace_back(name);
  // The original takes names out while it walks over them, and so passes over the one behind each
  // that it takes.
  for (size_t i = 0; i < named.size(); ++i) {
    if (named[i] != reference && reference.find(named[i]) != std::string_view::npos)
      named.erase(named.begin() + static_cast<std::ptrdiff_t>(i));
  }
  const bool is_named = std::find(named.begin(), named.end(), reference) != named.end();
  return is_named ? 1 / static_cast<double>(named.size()) : 0;
}

std::string_view FirstNumber(std::string_view text) {
  const auto* begin = std::find_if(text.begin(), text.end(), IsDigit);
  const auto* end = std::find_if_not(begin, text.end(), IsDigit);
  return {begin, static_cast<size_t>(end - begin)};
}

double NumberShare(std::string_view answer, std::string_view number) {
  const std::vector<std::string_view> numbers = Numbers(answer);
  if (numbers.empty()) return 0;
  const auto right = std::count(numbers.begin(), numbers.end(), number);
  return Share(static_cast<size_t>(right), numbers.size());
}

double EditSimilarity(std::string_view answer, std::string_view reference) {
  const std::vector<std::string_view> given = Characters(answer);
  const std::vector<std::string_view> expected = Characters(reference);
  const size_t total = given.size() + expected.size();
  if (total == 0) return 1;
  const int32_t common = CommonLengths(given, expected)[given.size()][expected.size()];
  return std::round(100 * 2.0 * common / static_cast<double>(total)) / 100;
}

std::string_view FirstCodeLine(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const bool is_code = line.find_first_of("`#") == std::string_view::npos &&
                         line.find("//") == std::string_view::npos;
    if (is_code) return line;
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return {};
}

}  // namespace tidal
