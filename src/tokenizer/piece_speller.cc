#include "tokenizer/piece_speller.h"

#include <algorithm>

#include "tokenizer/utf8.h"

namespace tidal {

Result<PieceSpeller> PieceSpeller::Create(const BpeVocab& vocab, const TokenTable& tokens) {
  PieceSpeller speller;
  speller.rules_ = vocab.sentence_piece;
  speller.byte_tokens_ = tokens.byte_tokens();
  if (vocab.unknown) {
    if (*vocab.unknown >= vocab.tokens.size()) {
      return Corrupt("the id of the unknown token is {}, expected less than the {} tokens",
                     *vocab.unknown, vocab.tokens.size());
    }
    speller.unknown_ = static_cast<TokenId>(*vocab.unknown);
  }
  for (TokenId id = 0; id < tokens.size(); ++id) {
    const std::string_view text = vocab.tokens[id];
    if (tokens.type(id) != TokenType::kNormal) continue;
    const Utf8Unit unit = ReadUtf8(text);
    if (unit.kind != Utf8Kind::kCharacter || text.size() != static_cast<size_t>(unit.length))
      continue;
    speller.characters_.emplace_back(CodePointOf(text), id);
    if (text == kSpacePiece) speller.space_ = id;
  }
  std::sort(speller.characters_.begin(), speller.characters_.end());
  return speller;
}

bool PieceSpeller::NeedsPrefix(std::string_view text, bool at_start) const {
  const bool there = text[0] == ' ' || text.starts_with(kSpacePiece);
  switch (rules_.prefix) {
    case SpacePrefix::kNever:
      return false;
    case SpacePrefix::kAlways:
      return true;
    case SpacePrefix::kUnlessThere:
      return !there;
    case SpacePrefix::kAtStartUnlessThere:
      return at_start && !there;
  }
  return false;
}

TokenId PieceSpeller::FindCharacter(uint32_t code) const {
  const auto found =
      std::ranges::lower_bound(characters_, code, {}, &std::pair<uint32_t, TokenId>::first);
  return found != characters_.end() && found->first == code ? found->second : kNoToken;
}

void PieceSpeller::AppendFallback(std::string_view bytes, std::vector<TokenId>* symbols) const {
  const auto token_of = [this](char byte) { return byte_tokens_[static_cast<uint8_t>(byte)]; };
  if (rules_.byte_fallback &&
      std::ranges::none_of(bytes, [&](char byte) { return token_of(byte) == kNoToken; })) {
    for (const char byte : bytes) symbols->push_back(token_of(byte));
    return;
  }
  if (unknown_ == kNoToken) return;
  if (rules_.fuses_unknown && !symbols->empty() && symbols->back() == unknown_) return;
  symbols->push_back(unknown_);
}

size_t PieceSpeller::AppendCharacter(std::string_view text, std::vector<TokenId>* symbols) const {
  const Utf8Unit unit = ReadUtf8(text);
  const auto length = static_cast<size_t>(unit.length);
  const bool is_space = text[0] == ' ';
  TokenId id = is_space ? space_ : kNoToken;
  if (!is_space && unit.kind == Utf8Kind::kCharacter)
    id = FindCharacter(CodePointOf(text.substr(0, length)));
  if (id != kNoToken) {
    symbols->push_back(id);
  } else {
    AppendFallback(is_space ? kSpacePiece : text.substr(0, length), symbols);
  }
  return length;
}

}  // namespace tidal
