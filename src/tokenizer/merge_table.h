// Which two neighbouring tokens become one, and how soon: the merges of a BPE vocabulary.
#ifndef TIDAL_TOKENIZER_MERGE_TABLE_H_
#define TIDAL_TOKENIZER_MERGE_TABLE_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "tokenizer/bpe_vocab.h"
#include "tokenizer/token_id.h"
#include "tokenizer/token_index.h"

namespace tidal {

inline constexpr uint32_t kNoRank = UINT32_MAX;

struct Merge {
  uint32_t rank = kNoRank;  // The merge with the lowest rank is done first.
  TokenId product = kNoToken;
};

// Threads: const methods may be called from any thread.
class MergeTable {
 public:
  // From the vocabulary's merges, or else from its scores: then all ways to cut a normal token in
  // two normal ones are merges, and equal scores are equal ranks. Errors: kCorrupt (a merge that is
  // not two tokens with one space between, or that names or makes a text which is no token; scores
  // that are more or fewer than tokens, or NaN; tokens so long that there are too many cuts). Where
  // two merges are of the same pair, the first counts.
  static Result<MergeTable> Create(const BpeVocab& vocab, const TokenIndex& index);

  // rank == kNoRank where the two do not merge. kNoToken merges with nothing.
  Merge Find(TokenId left, TokenId right) const {
    const uint64_t key = KeyOf(left, right);
    for (size_t i = SlotOf(key);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.merge.rank == kNoRank || slot.key == key) return slot.merge;
    }
  }

  // Whether any merge makes the token. Linear in the number of merges.
  bool Makes(TokenId id) const;

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;  // rank == kNoRank: the slot is free
  };

  static Result<MergeTable> FromScores(const BpeVocab& vocab, const TokenIndex& index);

  explicit MergeTable(size_t num_merges);
  void Insert(TokenId left, TokenId right, Merge merge);

  static uint64_t KeyOf(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t SlotOf(uint64_t key) const { return MixHash(key) & mask_; }

  std::vector<Slot> slots_;
  size_t mask_;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_MERGE_TABLE_H_
