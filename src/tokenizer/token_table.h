// The tokens of a vocabulary: what bytes each stands for, and of what type it is.
#ifndef TIDAL_TOKENIZER_TOKEN_TABLE_H_
#define TIDAL_TOKENIZER_TOKEN_TABLE_H_

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/bpe_vocab.h"
#include "tokenizer/token_id.h"
#include "tokenizer/token_index.h"

namespace tidal {

// Threads: const methods may be called from any thread.
class TokenTable {
 public:
  // Errors: kCorrupt (no tokens or too many, an empty one, two alike, a type that is none, a byte
  // token that names no byte, types that are more or fewer than tokens).
  static Result<TokenTable> Create(const BpeVocab& vocab);

  int32_t size() const { return static_cast<int32_t>(types_.size()); }
  TokenType type(TokenId id) const { return types_[id]; }
  // The bytes of a normal or byte token (of SentencePiece's normal tokens with spaces for U+2581),
  // the plain text of the others.
  std::string_view bytes(TokenId id) const {
    return {bytes_.data() + offsets_[id], offsets_[id + 1] - offsets_[id]};
  }
  // The token of a single byte, kNoToken where the vocabulary has none.
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }
  const std::array<TokenId, 256>& byte_tokens() const { return byte_tokens_; }

  void MakeControl(TokenId id) { types_[id] = TokenType::kControl; }

 private:
  Status AppendToken(TokenId id, std::string_view text, TokenSpelling spelling);

  std::string bytes_;              // of all tokens, one after the other
  std::vector<uint32_t> offsets_;  // [size() + 1], into bytes_
  std::vector<TokenType> types_;   // [size()]
  std::array<TokenId, 256> byte_tokens_;
};

// The id of each token's text as the file spells it. Errors: kCorrupt (two alike).
Result<TokenIndex> IndexTokens(const BpeVocab& vocab);
// The id of each normal token's bytes.
TokenIndex IndexWholeWords(const TokenTable& tokens);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_TOKEN_TABLE_H_
