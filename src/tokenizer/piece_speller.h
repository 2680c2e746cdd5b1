// The symbols that merging starts from in the way of SentencePiece: the characters of a text whose
// spaces are U+2581, with bytes for characters that are no tokens.
#ifndef TIDAL_TOKENIZER_PIECE_SPELLER_H_
#define TIDAL_TOKENIZER_PIECE_SPELLER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/bpe_vocab.h"
#include "tokenizer/token_id.h"
#include "tokenizer/token_table.h"

namespace tidal {

inline constexpr std::string_view kSpacePiece = "\xE2\x96\x81";  // U+2581

// Threads: const methods may be called from any thread.
class PieceSpeller {
 public:
  // Errors: kCorrupt (the id of the unknown token is out of range).
  static Result<PieceSpeller> Create(const BpeVocab& vocab, const TokenTable& tokens);

  // Calls merge(symbols) with each run of symbols that merges stay within. `at_start`: nothing, not
  // even a special token, stands before `text`. Any bytes; those that are no valid UTF-8 are
  // treated as characters without a token. A character that has neither a token nor bytes with
  // tokens, in a vocabulary without an unknown token, gives none.
  template <typename MergeRun>
  void Spell(std::string_view text, bool at_start, std::vector<TokenId>* symbols,
             const MergeRun& merge) const;

 private:
  PieceSpeller() = default;
  bool NeedsPrefix(std::string_view text, bool at_start) const;
  // The token of a character; kNoToken where it has none.
  TokenId FindCharacter(uint32_t code) const;
  void AppendFallback(std::string_view bytes, std::vector<TokenId>* symbols) const;
  // Appends the symbols of the character that `text` starts with; returns its length.
  size_t AppendCharacter(std::string_view text, std::vector<TokenId>* symbols) const;

  SentencePieceRules rules_;
  std::vector<std::pair<uint32_t, TokenId>> characters_;  // by code point
  std::array<TokenId, 256> byte_tokens_{};
  TokenId space_ = kNoToken;
  TokenId unknown_ = kNoToken;
};

template <typename MergeRun>
void PieceSpeller::Spell(std::string_view text, bool at_start, std::vector<TokenId>* symbols,
                         const MergeRun& merge) const {
  symbols->clear();
  if (text.empty()) return;
  if (NeedsPrefix(text, at_start)) AppendCharacter(" ", symbols);
  while (!text.empty()) {
    const bool word_starts = text[0] == ' ' || text.starts_with(kSpacePiece);
    if (rules_.splits_at_spaces && word_starts && !symbols->empty()) {
      merge(*symbols);
      symbols->clear();
    }
    text.remove_prefix(AppendCharacter(text, symbols));
  }
  merge(*symbols);
}

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_PIECE_SPELLER_H_
