// A BPE vocabulary as a model's file states it, before anything is checked. Files of every format
// are read into this struct, and the tokenizer is made from it.
#ifndef TIDAL_TOKENIZER_BPE_VOCAB_H_
#define TIDAL_TOKENIZER_BPE_VOCAB_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"

namespace tidal {

// The numbers are those of the GGUF format.
enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// How normal tokens are written, and with it what merges start from.
enum class TokenSpelling : uint8_t {
  kByteAlphabet,   // GPT-2's way: every byte is a character, and words are cut before merging
  kSentencePiece,  // text with U+2581 for a space; merging starts from characters
};

// Where a space is put in front of a text (between special tokens, each is a text of its own).
enum class SpacePrefix : uint8_t {
  kNever,
  kAlways,
  kUnlessThere,         // where the text does not start with a space
  kAtStartUnlessThere,  // the same, and only of the first text
};

// Settings of TokenSpelling::kSentencePiece.
struct SentencePieceRules {
  SpacePrefix prefix = SpacePrefix::kAlways;
  bool splits_at_spaces = false;  // no merge reaches over the start of a word
  bool byte_fallback = true;      // characters without a token become their bytes' tokens
  bool fuses_unknown = true;      // neighbouring unknown characters are one unknown token
  // The space that was put in front is taken away again from a whole text.
  bool strips_prefix = true;
};

// Views point into the file: they need to live only until the tokenizer is made.
struct BpeVocab {
  TokenSpelling spelling = TokenSpelling::kByteAlphabet;
  std::vector<std::string_view> tokens;  // normal ones as `spelling` says, others as plain text
  std::vector<int64_t> types;            // values of TokenType, one a token; empty: all normal
  std::vector<std::string_view> merges;  // "left right", the most important first
  // Of each token, instead of merges (kSentencePiece): any two neighbours that make a token merge,
  // the highest score first.
  std::vector<float> scores;
  std::string_view pre_tokenizer;      // kByteAlphabet: a name that PreTokenizer knows
  SentencePieceRules sentence_piece;   // kSentencePiece
  bool normalizes_nfc = false;         // text is brought into Unicode's form C first
  std::optional<bool> ignores_merges;  // absent: as is usual for the pre-tokenizer
  std::optional<uint64_t> unknown;     // the token of what has none (kSentencePiece)
  std::optional<uint64_t> bos;
  std::optional<uint64_t> eos;
  std::vector<uint64_t> more_ends;  // further tokens that end a generation
  std::optional<bool> add_bos;      // absent: as is usual for the pre-tokenizer
};

// From a file whose tokenizer model is "gpt2" or "llama". Errors: kCorrupt (missing or ill-typed
// keys), kUnsupported (another tokenizer model, such as SentencePiece's unigrams; a setting that is
// not known). The views point into `file`.
Result<BpeVocab> BpeVocabFromGguf(const GgufFile& file);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_BPE_VOCAB_H_
