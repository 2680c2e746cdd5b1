#include "tokenizer/bpe.h"

#include <algorithm>

namespace tidal {
namespace {

// Up to here, looking through all neighbours for each merge is faster than a heap.
constexpr size_t kMaxShortWord = 32;

// Positions have 32 bits. A word this long is cut, which can change the tokens at the cut.
constexpr size_t kMaxSymbols = size_t{1} << 30;

}  // namespace

void Bpe::Tokenize(std::string_view word, BpeScratch* scratch, std::vector<TokenId>* tokens) const {
  const auto symbol_at = [&](size_t i) { return byte_tokens_[static_cast<uint8_t>(word[i])]; };
  if (word.size() <= kMaxShortWord) return MergeShort(word.size(), symbol_at, tokens);
  for (; !word.empty(); word.remove_prefix(std::min(word.size(), kMaxSymbols))) {
    MergeLong(std::min(word.size(), kMaxSymbols), symbol_at, scratch, tokens);
  }
}

void Bpe::Merge(std::span<const TokenId> symbols, BpeScratch* scratch,
                std::vector<TokenId>* tokens) const {
  const auto symbol_at = [&](size_t i) { return symbols[i]; };
  if (symbols.size() <= kMaxShortWord) return MergeShort(symbols.size(), symbol_at, tokens);
  for (; !symbols.empty(); symbols = symbols.subspan(std::min(symbols.size(), kMaxSymbols))) {
    MergeLong(std::min(symbols.size(), kMaxSymbols), symbol_at, scratch, tokens);
  }
}

template <typename SymbolAt>
void Bpe::MergeShort(size_t size, const SymbolAt& symbol_at, std::vector<TokenId>* tokens) const {
  std::array<TokenId, kMaxShortWord> ids;
  std::array<tidal::Merge, kMaxShortWord> merges;  // merges[i]: of ids[i] and ids[i + 1]
  for (size_t i = 0; i < size; ++i) ids[i] = symbol_at(i);
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

template <typename SymbolAt>
void Bpe::LinkSymbols(uint32_t size, const SymbolAt& symbol_at, BpeScratch* scratch) const {
  scratch->symbols.resize(size);
  for (uint32_t i = 0; i < size; ++i) {
    scratch->symbols[i] = {symbol_at(i), i + 1, i - 1, kNoRank};
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

template <typename SymbolAt>
void Bpe::MergeLong(size_t num_symbols, const SymbolAt& symbol_at, BpeScratch* scratch,
                    std::vector<TokenId>* tokens) const {
  const auto size = static_cast<uint32_t>(num_symbols);
  LinkSymbols(size, symbol_at, scratch);
  auto& symbols = scratch->symbols;
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
