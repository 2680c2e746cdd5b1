#include "tokenizer/bpe.h"

#include <algorithm>

namespace tidal {
namespace {

// Up to here, looking through all neighbours for each merge is faster than a heap.
constexpr size_t kMaxShortWord = 32;

// Positions have 32 bits. A word this long is cut, which can change the tokens at the cut.
constexpr size_t kMaxWordBytes = size_t{1} << 30;

}  // namespace

void Bpe::Tokenize(std::string_view word, BpeScratch* scratch, std::vector<TokenId>* tokens) const {
  if (word.size() <= kMaxShortWord) return TokenizeShort(word, tokens);
  for (; !word.empty(); word.remove_prefix(std::min(word.size(), kMaxWordBytes))) {
    TokenizeLong(word.substr(0, kMaxWordBytes), scratch, tokens);
  }
}

void Bpe::TokenizeShort(std::string_view word, std::vector<TokenId>* tokens) const {
  std::array<TokenId, kMaxShortWord> ids;
  std::array<Merge, kMaxShortWord> merges;  // merges[i]: of ids[i] and ids[i + 1]
  size_t size = word.size();
  for (size_t i = 0; i < size; ++i) ids[i] = byte_tokens_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i + 1 < size; ++i) merges[i] = merges_.Find(ids[i], ids[i + 1]);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    ids[best] = merges[best].product;
    --size;
    std::copy(ids.begin() + best + 2, ids.begin() + size + 1, ids.begin() + best + 1);
    std::copy(merges.begin() + best + 1, merges.begin() + size, merges.begin() + best);
    if (best > 0) merges[best - 1] = merges_.Find(ids[best - 1], ids[best]);
    if (best + 1 < size) merges[best] = merges_.Find(ids[best], ids[best + 1]);
  }
  std::copy_if(ids.begin(), ids.begin() + size, std::back_inserter(*tokens),
               [](TokenId id) { return id != kNoToken; });
}

void Bpe::LinkSymbols(std::string_view word, BpeScratch* scratch) const {
  const auto size = static_cast<uint32_t>(word.size());
  scratch->symbols.resize(size);
  for (uint32_t i = 0; i < size; ++i) {
    scratch->symbols[i] = {byte_tokens_[static_cast<uint8_t>(word[i])], i + 1, i - 1, kNoRank};
  }
  for (uint32_t i = 0; i + 1 < size; ++i) {
    auto& symbol = scratch->symbols[i];
    symbol.rank = merges_.Find(symbol.id, scratch->symbols[i + 1].id).rank;
    if (symbol.rank != kNoRank) scratch->queue.Push({symbol.rank, i});
  }
}

// Finds the merge of the symbol at `pos` with its right neighbour anew.
void Bpe::UpdateRank(uint32_t pos, BpeScratch* scratch) const {
  auto& symbol = scratch->symbols[pos];
  symbol.rank = kNoRank;
  if (symbol.next == scratch->symbols.size()) return;
  symbol.rank = merges_.Find(symbol.id, scratch->symbols[symbol.next].id).rank;
  if (symbol.rank != kNoRank) scratch->queue.Push({symbol.rank, pos});
}

void Bpe::TokenizeLong(std::string_view word, BpeScratch* scratch,
                       std::vector<TokenId>* tokens) const {
  LinkSymbols(word, scratch);
  auto& symbols = scratch->symbols;
  const auto size = static_cast<uint32_t>(symbols.size());
  while (!scratch->queue.empty()) {
    const auto [rank, pos] = scratch->queue.Pop();
    auto& symbol = symbols[pos];
    if (symbol.rank != rank) continue;  // Its neighbour, or itself, was merged meanwhile.
    auto& right = symbols[symbol.next];
    symbol.id = merges_.Find(symbol.id, right.id).product;
    symbol.next = right.next;
    right.rank = kNoRank;
    if (symbol.next < size) symbols[symbol.next].prev = pos;
    UpdateRank(pos, scratch);
    if (pos > 0) UpdateRank(symbol.prev, scratch);
  }
  for (uint32_t pos = 0; pos < size; pos = symbols[pos].next) {
    if (symbols[pos].id != kNoToken) tokens->push_back(symbols[pos].id);
  }
}

}  // namespace tidal
