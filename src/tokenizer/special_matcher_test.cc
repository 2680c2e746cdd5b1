#include "tokenizer/special_matcher.h"

#include <gtest/gtest.h>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tidal {
namespace {

std::pair<size_t, std::string> PlainFind(const std::set<std::string>& tokens, std::string_view text,
                                         size_t from) {
  for (size_t pos = from; pos < text.size(); ++pos) {
    std::string longest;
    for (const std::string& token : tokens) {
      if (text.substr(pos).starts_with(token) && token.size() > longest.size()) longest = token;
    }
    if (!longest.empty()) return {pos, longest};
  }
  return {text.size(), ""};
}

TEST(SpecialMatcherTest, FindsNothingWithoutTokens) {
  const SpecialMatcher matcher({});
  EXPECT_EQ(matcher.Find("abc", 0).id, kNoToken);
  EXPECT_EQ(matcher.Find("abc", 0).begin, 3u);
  EXPECT_EQ(matcher.Find("", 0).begin, 0u);
}

TEST(SpecialMatcherTest, TakesTheLeftmostAndThereTheLongest) {
  const SpecialMatcher matcher({{"<a>", 1}, {"<a><b>", 2}, {"b><c", 3}, {"\xFF", 4}});
  const SpecialMatch match = matcher.Find("..<a><b><c", 0);
  EXPECT_EQ(match.id, 2);
  EXPECT_EQ(match.begin, 2u);
  EXPECT_EQ(match.end, 8u);
  EXPECT_EQ(matcher.Find("..<a><b><c", 3).id, 3);
  EXPECT_EQ(matcher.Find("<a><", 0).id, 1);
  EXPECT_EQ(matcher.Find("<a", 0).id, kNoToken);
  EXPECT_EQ(matcher.Find("x\xFF", 0).id, 4);
}

TEST(SpecialMatcherTest, EqualsAPlainSearch) {
  std::mt19937 rng(1);
  for (int round = 0; round < 300; ++round) {
    std::set<std::string> texts;
    for (size_t i = rng() % 20; i > 0; --i) {
      std::string text(1 + rng() % 6, ' ');
      for (char& c : text) c = "<a\xFF\0"[rng() % 4];
      texts.insert(text);
    }
    std::vector<std::pair<std::string, TokenId>> tokens;
    for (const std::string& text : texts)
      tokens.emplace_back(text, static_cast<TokenId>(tokens.size()));
    const SpecialMatcher matcher(tokens);
    std::string text(50, ' ');
    for (char& c : text) c = "<a\xFF\0b"[rng() % 5];
    for (size_t from = 0; from <= text.size(); ++from) {
      const auto [begin, expected] = PlainFind(texts, text, from);
      const SpecialMatch match = matcher.Find(text, from);
      ASSERT_EQ(match.begin, begin);
      ASSERT_EQ(match.end, begin + expected.size());
      ASSERT_EQ(match.id == kNoToken ? "" : tokens[match.id].first, expected);
    }
  }
}

}  // namespace
}  // namespace tidal
