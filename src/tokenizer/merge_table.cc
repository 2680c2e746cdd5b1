#include "tokenizer/merge_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "gguf/printable.h"

namespace tidal {

MergeTable::MergeTable(size_t num_merges)
    : slots_(std::bit_ceil(num_merges + num_merges / 2 + 1)), mask_(slots_.size() - 1) {}

void MergeTable::Insert(TokenId left, TokenId right, Merge merge) {
  const uint64_t key = KeyOf(left, right);
  size_t i = SlotOf(key);
  while (slots_[i].merge.rank != kNoRank && slots_[i].key != key) i = (i + 1) & mask_;
  if (slots_[i].merge.rank == kNoRank) slots_[i] = {key, merge};
}

bool MergeTable::Makes(TokenId id) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [id](const Slot& slot) { return slot.merge.product == id; });
}

namespace {

// A token's bytes may be cut at each of them: this bounds the work that a hostile vocabulary takes.
constexpr size_t kMaxCuts = size_t{1} << 26;

struct ScoredMerge {
  TokenId left;
  TokenId right;
  TokenId product;
};

bool IsNormal(const BpeVocab& vocab, TokenId id) {
  if (id == kNoToken) return false;
  return vocab.types.empty() || vocab.types[id] == static_cast<int64_t>(TokenType::kNormal);
}

// All cuts of normal tokens into two.
Result<std::vector<ScoredMerge>> AllCuts(const BpeVocab& vocab, const TokenIndex& index) {
  const auto text_of = [&vocab](TokenId id) { return vocab.tokens[id]; };
  std::vector<ScoredMerge> cuts;
  size_t tried = 0;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view text = vocab.tokens[i];
    if (!IsNormal(vocab, id)) continue;
    tried += text.size() * text.size() / 64 + text.size();
    if (tried > kMaxCuts) return Corrupt("the tokens up to {} are too long to be cut", i);
    for (size_t at = 1; at < text.size(); ++at) {
      const TokenId left = index.Find(text.substr(0, at), text_of);
      if (!IsNormal(vocab, left)) continue;
      const TokenId right = index.Find(text.substr(at), text_of);
      if (IsNormal(vocab, right)) cuts.push_back({left, right, id});
    }
  }
  return cuts;
}

}  // namespace

Result<MergeTable> MergeTable::FromScores(const BpeVocab& vocab, const TokenIndex& index) {
  if (vocab.scores.size() != vocab.tokens.size()) {
    return Corrupt("there are {} token scores for {} tokens, expected one a token",
                   vocab.scores.size(), vocab.tokens.size());
  }
  for (size_t i = 0; i < vocab.scores.size(); ++i) {
    if (std::isnan(vocab.scores[i])) return Corrupt("the score of token {} is not a number", i);
  }
  TIDAL_ASSIGN_OR_RETURN(std::vector<ScoredMerge> cuts, AllCuts(vocab, index));
  const auto score_of = [&vocab](const ScoredMerge& cut) { return vocab.scores[cut.product]; };
  std::ranges::stable_sort(cuts, std::ranges::greater(), score_of);
  MergeTable table(cuts.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < cuts.size(); ++i) {
    if (i > 0 && score_of(cuts[i]) != score_of(cuts[i - 1])) ++rank;
    table.Insert(cuts[i].left, cuts[i].right, {rank, cuts[i].product});
  }
  return table;
}

Result<MergeTable> MergeTable::Create(const BpeVocab& vocab, const TokenIndex& index) {
  if (!vocab.scores.empty()) return FromScores(vocab, index);
  if (vocab.merges.size() >= kNoRank) {
    return Corrupt("the vocabulary has {} merges, expected fewer than 2^32", vocab.merges.size());
  }
  MergeTable table(vocab.merges.size());
  const auto text_of = [&vocab](TokenId id) { return vocab.tokens[id]; };
  std::string joined;
  for (size_t i = 0; i < vocab.merges.size(); ++i) {
    const std::string_view text = vocab.merges[i];
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == text.size() ||
        text.find(' ', space + 1) != std::string_view::npos) {
      return Corrupt("merge {} is \"{}\", expected two tokens with one space between", i,
                     Printable(text));
    }
    joined.assign(text.substr(0, space)).append(text.substr(space + 1));
    const TokenId left = index.Find(text.substr(0, space), text_of);
    const TokenId right = index.Find(text.substr(space + 1), text_of);
    const TokenId product = index.Find(joined, text_of);
    if (left == kNoToken || right == kNoToken || product == kNoToken) {
      std::string_view missing = joined;
      if (left == kNoToken) {
        missing = text.substr(0, space);
      } else if (right == kNoToken) {
        missing = text.substr(space + 1);
      }
      return Corrupt("merge {} is \"{}\", but \"{}\" is no token", i, Printable(text),
                     Printable(missing));
    }
    table.Insert(left, right, {static_cast<uint32_t>(i), product});
  }
  return table;
}

}  // namespace tidal
