#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "tokenizer/bpe.h"
#include "tokenizer/bpe_vocab.h"
#include "tokenizer/hf_vocab.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/nfc.h"
#include "tokenizer/piece_speller.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/token_index.h"
#include "tokenizer/token_table.h"
#include "tokenizer/utf8.h"
#include "tokenizer/word_cache.h"

namespace tidal {
namespace {

// DeepSeek's, with a fullwidth bar (U+FF5C) and a lower block (U+2581).
constexpr std::string_view kDeepSeekEnd =
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>";

// Texts of tokens that end a generation in the model families that have them, whether or not the
// file names their ids.
constexpr std::string_view kEndTexts[] = {
    "<|endoftext|>",   "<|im_end|>", "<|eot_id|>",  "<|eom_id|>",    "<|end|>",
    "<|end_of_text|>", "<|return|>", "<|call|>",    "</s>",          "<end_of_turn>",
    "<EOT>",           kDeepSeekEnd, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
};

// The search for special tokens costs at most this many steps a byte of text.
constexpr size_t kMaxSpecialBytes = 1024;

Result<TokenId> CheckId(std::optional<uint64_t> id, std::string_view what, int32_t num_tokens) {
  if (!id) return kNoToken;
  if (*id >= static_cast<uint64_t>(num_tokens)) {
    return Corrupt(
        "the id of the {} token is {}, expected less than the {} tokens of the vocabulary", what,
        *id, num_tokens);
  }
  return static_cast<TokenId>(*id);
}

bool StandsForText(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kByte || type == TokenType::kUserDefined;
}

// The end tokens that the file gives by id.
Result<std::vector<TokenId>> NamedEndTokens(const BpeVocab& vocab) {
  std::vector<TokenId> ends;
  const auto num_tokens = static_cast<int32_t>(vocab.tokens.size());
  TIDAL_ASSIGN_OR_RETURN(const TokenId eos, CheckId(vocab.eos, "EOS", num_tokens));
  if (eos != kNoToken) ends.push_back(eos);
  for (const uint64_t id : vocab.more_ends) {
    TIDAL_ASSIGN_OR_RETURN(const TokenId end, CheckId(id, "end", num_tokens));
    ends.push_back(end);
  }
  return ends;
}

// Appends those of the well-known end tokens that the vocabulary has. A normal token is only taken
// for one where no merge makes it: then it was added to the vocabulary as a whole, its type in the
// file is wrong, and it becomes a control token.
void FindEndTokens(const BpeVocab& vocab, const TokenIndex& index, const MergeTable& merges,
                   TokenTable* tokens, std::vector<TokenId>* ends) {
  for (const std::string_view text : kEndTexts) {
    const TokenId id = index.Find(text, [&](TokenId other) { return vocab.tokens[other]; });
    if (id == kNoToken || tokens->type(id) == TokenType::kUnused) continue;
    if (tokens->type(id) == TokenType::kNormal) {
      if (merges.Makes(id)) continue;
      tokens->MakeControl(id);
    }
    ends->push_back(id);
  }
}

Result<SpecialMatcher> MakeMatcher(const TokenTable& tokens, SpecialTokens special) {
  std::vector<std::pair<std::string, TokenId>> texts;
  for (TokenId id = 0; id < tokens.size(); ++id) {
    const TokenType type = tokens.type(id);
    const bool parsed = type == TokenType::kUserDefined ||
                        (special == SpecialTokens::kParse &&
                         (type == TokenType::kControl || type == TokenType::kUnknown));
    if (!parsed) continue;
    if (tokens.bytes(id).size() > kMaxSpecialBytes) {
      return Corrupt("the special token {} has {} bytes, expected at most {}", id,
                     tokens.bytes(id).size(), kMaxSpecialBytes);
    }
    texts.emplace_back(tokens.bytes(id), id);
  }
  return SpecialMatcher(std::move(texts));
}

}  // namespace

struct Tokenizer::Impl {
  class Call;

  static Status MakeInput(const BpeVocab& vocab, Impl* impl);

  TokenTable tokens;
  Bpe bpe;
  std::optional<PreTokenizer> pre_tokenizer;  // one of these two
  std::optional<PieceSpeller> pieces;
  TokenIndex
      whole_words;  // normal tokens by their bytes; empty unless the pre-tokenizer ignores merges
  SpecialMatcher parsed_tokens;
  SpecialMatcher user_tokens;
  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  bool adds_bos = false;
  bool normalizes_nfc = false;
  bool strips_prefix = false;
  std::vector<TokenId> ends;

  TokenId FindWholeWord(std::string_view word) const {
    if (whole_words.empty()) return kNoToken;
    return whole_words.Find(word, [this](TokenId id) { return tokens.bytes(id); });
  }
};

// The state of one call of Tokenize.
class Tokenizer::Impl::Call {
 public:
  Call(const Impl& impl, size_t text_bytes) : impl_(impl), cache_(text_bytes) {
    if (impl.pre_tokenizer) scanner_.emplace(*impl.pre_tokenizer);
    tokens_.reserve(text_bytes / 4 + 1);
  }

  void AddToken(TokenId id) { tokens_.push_back(id); }

  // Text without special tokens. `at_start`: the first of the whole.
  void AddText(std::string_view text, bool at_start) {
    if (impl_.pieces) {
      impl_.pieces->Spell(text, at_start, &symbols_, [this](std::span<const TokenId> symbols) {
        impl_.bpe.Merge(symbols, &scratch_, &tokens_);
      });
      return;
    }
    while (!text.empty()) {
      const size_t valid = ValidUtf8Prefix(text);
      if (impl_.normalizes_nfc) {
        AddWords(ToNfc(text.substr(0, valid)));
      } else {
        AddWords(text.substr(0, valid));
      }
      text.remove_prefix(valid);
      if (text.empty()) break;
      const TokenId id = impl_.tokens.byte_token(static_cast<uint8_t>(text[0]));
      if (id != kNoToken) tokens_.push_back(id);
      text.remove_prefix(1);
    }
  }

  std::vector<TokenId> TakeTokens() { return std::move(tokens_); }

 private:
  // REQUIRES: text is valid UTF-8.
  void AddWords(std::string_view text) {
    for (size_t pos = 0; pos < text.size();) {
      const size_t end = scanner_->WordEnd(text, pos);
      AddWord(text.substr(pos, end - pos));
      pos = end;
    }
  }

  void AddWord(std::string_view word) {
    if (word.size() > WordCache::kMaxWordBytes) return AddNewWord(word);
    const WordCache::Key key = WordCache::KeyOf(word);
    WordCache::Entry& entry = cache_.EntryOf(key);
    if (entry.key == key) {
      // By index: the tokens move when the vector grows.
      for (size_t i = 0; i < entry.count; ++i) tokens_.push_back(tokens_[entry.begin + i]);
      return;
    }
    const size_t begin = tokens_.size();
    AddNewWord(word);
    entry = {key, begin, tokens_.size() - begin};
  }

  void AddNewWord(std::string_view word) {
    const TokenId whole = impl_.FindWholeWord(word);
    if (whole != kNoToken) {
      tokens_.push_back(whole);
    } else {
      impl_.bpe.Tokenize(word, &scratch_, &tokens_);
    }
  }

  const Impl& impl_;
  std::optional<WordScanner> scanner_;
  WordCache cache_;
  BpeScratch scratch_;
  std::vector<TokenId> symbols_;
  std::vector<TokenId> tokens_;
};

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufFile& file) {
  TIDAL_ASSIGN_OR_RETURN(const BpeVocab vocab, BpeVocabFromGguf(file));
  auto tokenizer = FromVocab(vocab);
  if (!tokenizer.ok()) return tokenizer.status().Annotate(file.path());
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromHf(const HfFolder& folder) {
  TIDAL_ASSIGN_OR_RETURN(const HfVocab vocab, HfVocab::Read(folder));
  auto tokenizer = FromVocab(vocab.vocab());
  if (!tokenizer.ok()) return tokenizer.status().Annotate(vocab.where());
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::ForModel(const Model& model) {
  if (model.hf_folder() != nullptr) return FromHf(*model.hf_folder());
  return FromGguf(*model.gguf());
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Open(const std::string& model_path) {
  std::error_code error;
  if (std::filesystem::is_directory(model_path, error)) {
    TIDAL_ASSIGN_OR_RETURN(const HfFolder folder, HfFolder::Open(model_path));
    return FromHf(folder);
  }
  TIDAL_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(model_path));
  return FromGguf(file);
}

// What cuts or spells texts.
Status Tokenizer::Impl::MakeInput(const BpeVocab& vocab, Impl* impl) {
  if (vocab.spelling == TokenSpelling::kSentencePiece) {
    TIDAL_ASSIGN_OR_RETURN(impl->pieces, PieceSpeller::Create(vocab, impl->tokens));
    impl->strips_prefix = vocab.sentence_piece.strips_prefix;
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(impl->pre_tokenizer, PreTokenizer::Create(vocab.pre_tokenizer));
  if (vocab.ignores_merges.value_or(impl->pre_tokenizer->ignores_merges()))
    impl->whole_words = IndexWholeWords(impl->tokens);
  return OkStatus();
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromVocab(const BpeVocab& vocab) {
  TIDAL_ASSIGN_OR_RETURN(TokenTable tokens, TokenTable::Create(vocab));
  TIDAL_ASSIGN_OR_RETURN(const TokenIndex index, IndexTokens(vocab));
  TIDAL_ASSIGN_OR_RETURN(MergeTable merges, MergeTable::Create(vocab, index));
  TIDAL_ASSIGN_OR_RETURN(const TokenId bos, CheckId(vocab.bos, "BOS", tokens.size()));
  TIDAL_ASSIGN_OR_RETURN(const TokenId eos, CheckId(vocab.eos, "EOS", tokens.size()));
  if (vocab.add_bos.value_or(false) && bos == kNoToken) {
    return Corrupt(
        "a BOS token is to be added to each text, but the id of the BOS token is missing");
  }
  TIDAL_ASSIGN_OR_RETURN(std::vector<TokenId> ends, NamedEndTokens(vocab));
  FindEndTokens(vocab, index, merges, &tokens, &ends);
  TIDAL_ASSIGN_OR_RETURN(SpecialMatcher parsed, MakeMatcher(tokens, SpecialTokens::kParse));
  TIDAL_ASSIGN_OR_RETURN(SpecialMatcher user, MakeMatcher(tokens, SpecialTokens::kAsText));

  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer());
  Bpe bpe(std::move(merges), tokens.byte_tokens());
  tokenizer->impl_ = std::make_unique<Impl>(Impl{
      .tokens = std::move(tokens),
      .bpe = std::move(bpe),
      .parsed_tokens = std::move(parsed),
      .user_tokens = std::move(user),
      .bos = bos,
      .eos = eos,
      .normalizes_nfc = vocab.normalizes_nfc,
      .ends = std::move(ends),
  });
  Impl& impl = *tokenizer->impl_;
  TIDAL_RETURN_IF_ERROR(Impl::MakeInput(vocab, &impl));
  const bool usual = impl.pre_tokenizer && impl.pre_tokenizer->adds_bos();
  impl.adds_bos = vocab.add_bos.value_or(usual) && bos != kNoToken;
  return tokenizer;
}

std::vector<TokenId> Tokenizer::Tokenize(std::string_view text, SpecialTokens special,
                                         AddBos bos) const {
  const SpecialMatcher& matcher =
      special == SpecialTokens::kParse ? impl_->parsed_tokens : impl_->user_tokens;
  Impl::Call call(*impl_, text.size());
  if (bos == AddBos::kModelDefault && impl_->adds_bos) call.AddToken(impl_->bos);
  for (size_t pos = 0; pos < text.size();) {
    const SpecialMatch match = matcher.Find(text, pos);
    call.AddText(text.substr(pos, match.begin - pos), pos == 0);
    if (match.id != kNoToken) call.AddToken(match.id);
    pos = match.end;
  }
  return call.TakeTokens();
}

std::string_view Tokenizer::TokenBytes(TokenId id, bool show_special) const {
  TIDAL_CHECK(id >= 0 && id < vocab_size(), "the token id is {}, the vocabulary has {}", id,
              vocab_size());
  if (!show_special && !StandsForText(impl_->tokens.type(id))) return "";
  return impl_->tokens.bytes(id);
}

std::string Tokenizer::Detokenize(std::span<const TokenId> ids, bool show_special) const {
  std::string text;
  for (const TokenId id : ids) text += TokenBytes(id, show_special);
  if (impl_->strips_prefix && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

int32_t Tokenizer::vocab_size() const { return impl_->tokens.size(); }
TokenId Tokenizer::bos() const { return impl_->bos; }
TokenId Tokenizer::eos() const { return impl_->eos; }
TokenId Tokenizer::newline() const { return impl_->tokens.byte_token('\n'); }
bool Tokenizer::adds_bos() const { return impl_->adds_bos; }

bool Tokenizer::IsEndOfGeneration(TokenId id) const {
  return std::ranges::find(impl_->ends, id) != impl_->ends.end();
}

bool Tokenizer::IsControl(TokenId id) const {
  TIDAL_CHECK(id >= 0 && id < vocab_size(), "the token id is {}, the vocabulary has {}", id,
              vocab_size());
  const TokenType type = impl_->tokens.type(id);
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

}  // namespace tidal
