#include "tokenizer/token_table.h"

#include <limits>
#include <optional>

#include "gguf/printable.h"
#include "tokenizer/byte_alphabet.h"

namespace tidal {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// "<0x0A>" is the byte 10.
std::optional<uint8_t> ParseByteToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const int high = HexDigit(text[3]);
  const int low = HexDigit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

// GGUF's 0 means "undefined"; such tokens are plain ones.
std::optional<TokenType> ParseType(int64_t value) {
  if (value == 0) return TokenType::kNormal;
  if (value < static_cast<int64_t>(TokenType::kNormal) ||
      value > static_cast<int64_t>(TokenType::kByte)) {
    return std::nullopt;
  }
  return static_cast<TokenType>(value);
}

void AppendWithSpaces(std::string_view text, std::string* bytes) {
  constexpr std::string_view kSpacePiece = "\xE2\x96\x81";  // U+2581
  for (size_t at = text.find(kSpacePiece); at != std::string_view::npos;
       at = text.find(kSpacePiece)) {
    bytes->append(text.substr(0, at)).append(" ");
    text.remove_prefix(at + kSpacePiece.size());
  }
  bytes->append(text);
}

}  // namespace

Result<TokenTable> TokenTable::Create(const BpeVocab& vocab) {
  const size_t num_tokens = vocab.tokens.size();
  if (num_tokens == 0) return Corrupt("the vocabulary has no tokens");
  if (num_tokens >= static_cast<size_t>(std::numeric_limits<TokenId>::max())) {
    return Corrupt("the vocabulary has {} tokens, expected fewer than 2^31", num_tokens);
  }
  if (!vocab.types.empty() && vocab.types.size() != num_tokens) {
    return Corrupt("there are {} token types for {} tokens, expected one type a token",
                   vocab.types.size(), num_tokens);
  }
  TokenTable table;
  table.byte_tokens_.fill(kNoToken);
  table.types_.assign(num_tokens, TokenType::kNormal);
  table.offsets_.reserve(num_tokens + 1);
  table.offsets_.push_back(0);
  for (size_t i = 0; i < num_tokens; ++i) {
    if (!vocab.types.empty()) {
      const std::optional<TokenType> type = ParseType(vocab.types[i]);
      if (!type) return Corrupt("token {} has the type {}, expected 0 to 6", i, vocab.types[i]);
      table.types_[i] = *type;
    }
    TIDAL_RETURN_IF_ERROR(
        table.AppendToken(static_cast<TokenId>(i), vocab.tokens[i], vocab.spelling));
  }
  table.bytes_.shrink_to_fit();
  return table;
}

Status TokenTable::AppendToken(TokenId id, std::string_view text, TokenSpelling spelling) {
  if (text.empty()) return Corrupt("token {} is empty", id);
  if (text.size() > std::numeric_limits<uint32_t>::max() - bytes_.size()) {
    return Corrupt("the tokens up to {} have more than 2^32 bytes", id);
  }
  if (types_[id] == TokenType::kByte) {
    const std::optional<uint8_t> byte = ParseByteToken(text);
    if (!byte) {
      return Corrupt("the byte token {} is \"{}\", expected <0x00> to <0xFF>", id, Printable(text));
    }
    bytes_.push_back(static_cast<char>(*byte));
    // A token in the byte alphabet is preferred: only such ones take part in merges.
    if (byte_tokens_[*byte] == kNoToken) byte_tokens_[*byte] = id;
  } else if (types_[id] == TokenType::kNormal && spelling == TokenSpelling::kSentencePiece) {
    AppendWithSpaces(text, &bytes_);
  } else if (types_[id] == TokenType::kNormal && AppendAlphabetBytes(text, &bytes_)) {
    if (bytes_.size() - offsets_.back() == 1) {
      byte_tokens_[static_cast<uint8_t>(bytes_.back())] = id;
    }
  } else {
    bytes_.append(text);
  }
  offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
  return OkStatus();
}

Result<TokenIndex> IndexTokens(const BpeVocab& vocab) {
  TokenIndex index(vocab.tokens.size());
  const auto text_of = [&vocab](TokenId id) { return vocab.tokens[id]; };
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const TokenId other = index.Insert(vocab.tokens[i], static_cast<TokenId>(i), text_of);
    if (other != kNoToken) {
      return Corrupt("the tokens {} and {} are both \"{}\", expected each once", other, i,
                     Printable(vocab.tokens[i]));
    }
  }
  return index;
}

TokenIndex IndexWholeWords(const TokenTable& tokens) {
  TokenIndex index(tokens.size());
  const auto bytes_of = [&tokens](TokenId id) { return tokens.bytes(id); };
  for (TokenId id = 0; id < tokens.size(); ++id) {
    if (tokens.type(id) == TokenType::kNormal) index.Insert(tokens.bytes(id), id, bytes_of);
  }
  return index;
}

}  // namespace tidal
