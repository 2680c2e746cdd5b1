#include "tokenizer/special_matcher.h"

#include <algorithm>

namespace tidal {

SpecialMatcher::SpecialMatcher(std::vector<std::pair<std::string, TokenId>> tokens)
    : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end());
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    Range& range = by_first_byte_[static_cast<uint8_t>(tokens_[i].first[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
}

SpecialMatch SpecialMatcher::Find(std::string_view text, size_t from) const {
  if (tokens_.empty()) return {text.size(), text.size(), kNoToken};
  for (size_t pos = from; pos < text.size(); ++pos) {
    if (by_first_byte_[static_cast<uint8_t>(text[pos])].end == 0) continue;
    const auto [length, id] = LongestPrefix(text.substr(pos));
    if (id != kNoToken) return {pos, pos + length, id};
  }
  return {text.size(), text.size(), kNoToken};
}

std::pair<size_t, TokenId> SpecialMatcher::LongestPrefix(std::string_view text) const {
  const Range range = by_first_byte_[static_cast<uint8_t>(text[0])];
  auto begin = tokens_.begin() + range.begin;
  auto end = tokens_.begin() + range.end;
  std::pair<size_t, TokenId> longest = {0, kNoToken};
  // All tokens in [begin, end) share their first `depth` bytes with the text; the shortest of them
  // comes first.
  for (size_t depth = 1;; ++depth) {
    if (begin != end && begin->first.size() == depth) {
      longest = {depth, begin->second};
      ++begin;
    }
    if (begin == end || depth == text.size()) return longest;
    const auto next = static_cast<uint8_t>(text[depth]);
    const auto byte_of = [depth](const auto& token) {
      return static_cast<uint8_t>(token.first[depth]);
    };
    begin = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) < next; });
    end = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) == next; });
  }
}

}  // namespace tidal
