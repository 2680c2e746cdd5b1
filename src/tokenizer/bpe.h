// Byte-pair encoding of one word: starting from single bytes or other symbols, the neighbours with
// the lowest merge rank (the leftmost where there are several) are merged until none can be.
#ifndef TIDAL_TOKENIZER_BPE_H_
#define TIDAL_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/merge_table.h"
#include "tokenizer/rank_queue.h"
#include "tokenizer/token_id.h"

namespace tidal {

// Memory to use again from word to word; one for each thread that tokenizes.
struct BpeScratch {
  struct Symbol {
    TokenId id;
    uint32_t next;  // position of the right neighbour; the word's length at the end
    uint32_t prev;
    uint32_t rank;  // of the merge with the right neighbour
  };
  std::vector<Symbol> symbols;
  RankQueue queue;  // may hold what no longer stands
};

// Threads: const methods may be called from any thread, each with a scratch of its own.
class Bpe {
 public:
  Bpe(MergeTable merges, const std::array<TokenId, 256>& byte_tokens)
      : merges_(std::move(merges)), byte_tokens_(byte_tokens) {}

  // Appends the tokens of `word`. Bytes for which there is no token give none. O(n log n) in the
  // word's length.
  void Tokenize(std::string_view word, BpeScratch* scratch, std::vector<TokenId>* tokens) const;
  // The same from symbols that are tokens already, such as the characters of a word.
  void Merge(std::span<const TokenId> symbols, BpeScratch* scratch,
             std::vector<TokenId>* tokens) const;

 private:
  // symbol_at(i): the i-th of `size` symbols.
  template <typename SymbolAt>
  void MergeShort(size_t size, const SymbolAt& symbol_at, std::vector<TokenId>* tokens) const;
  template <typename SymbolAt>
  void MergeLong(size_t size, const SymbolAt& symbol_at, BpeScratch* scratch,
                 std::vector<TokenId>* tokens) const;
  template <typename SymbolAt>
  void LinkSymbols(uint32_t size, const SymbolAt& symbol_at, BpeScratch* scratch) const;
  void UpdateRank(uint32_t pos, BpeScratch* scratch) const;

  MergeTable merges_;
  std::array<TokenId, 256> byte_tokens_;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_BPE_H_
