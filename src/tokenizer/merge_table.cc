#include "tokenizer/merge_table.h"

#include <algorithm>
#include <bit>
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

Result<MergeTable> MergeTable::Create(const BpeVocab& vocab, const TokenIndex& index) {
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
