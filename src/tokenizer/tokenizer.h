// Text to token ids and back, as the model's file defines it.
#ifndef TIDAL_TOKENIZER_TOKENIZER_H_
#define TIDAL_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "model/model.h"
#include "tokenizer/token_id.h"

namespace tidal {

struct BpeVocab;
class HfFolder;

// Does "<|im_end|>" in the text become one token? With kAsText only tokens of the type "user
// defined" still do: they are text to the model, such as "<tool_call>", and never control it.
enum class SpecialTokens : uint8_t { kParse, kAsText };
enum class AddBos : uint8_t { kModelDefault, kNever };

// Thread-safe: const methods may be called from any thread.
class Tokenizer {
 public:
  // That of the model at a path, a GGUF file or a Hugging Face folder, without loading the model.
  // Errors of GgufFile::Open or HfFolder::Open, and those below.
  static Result<std::unique_ptr<Tokenizer>> Open(const std::string& model_path);
  // That of a model, whatever its format.
  static Result<std::unique_ptr<Tokenizer>> ForModel(const Model& model);
  // Errors: kCorrupt (missing or ill-typed keys, ids out of range, byte tokens like "<0x-1>",
  // tokens that are empty or there twice, merges of what is no token), kUnsupported (a tokenizer
  // model or pre-tokenizer that is not known; the message lists those that are). Needs nothing of
  // the file afterwards.
  static Result<std::unique_ptr<Tokenizer>> FromGguf(const GgufFile& file);
  // From tokenizer.json and the files beside it. Errors: kNotFound, kIo, kCorrupt as above;
  // kUnsupported for another model than BPE, or for a step that is not known.
  static Result<std::unique_ptr<Tokenizer>> FromHf(const HfFolder& folder);
  // The same from a vocabulary that was read from any format. Needs nothing of it afterwards.
  static Result<std::unique_ptr<Tokenizer>> FromVocab(const BpeVocab& vocab);
  ~Tokenizer();

  // Never fails on any bytes: invalid UTF-8 is tokenized byte by byte. Bytes for which the
  // vocabulary has no token (SmolLM2 lacks some control characters, and bytes that valid UTF-8
  // never or hardly ever has) are left out. O(n log n) in the longest word, linear in the rest.
  // Where special tokens overlap, the leftmost counts, and of several there the longest.
  std::vector<TokenId> Tokenize(std::string_view text,
                                SpecialTokens special = SpecialTokens::kParse,
                                AddBos bos = AddBos::kModelDefault) const;

  // The bytes of one token, valid while the tokenizer lives. Control, unknown and unused tokens
  // give "" unless `show_special`, and then their text. REQUIRES: 0 <= id < vocab_size().
  std::string_view TokenBytes(TokenId id, bool show_special = false) const;
  // All tokens' bytes joined; may hold invalid UTF-8 where the tokens do. The space that a
  // SentencePiece vocabulary puts in front of texts is left out at the start.
  std::string Detokenize(std::span<const TokenId> ids, bool show_special = false) const;

  int32_t vocab_size() const;
  TokenId bos() const;  // kNoToken where the model has none
  TokenId eos() const;
  TokenId newline() const;  // the token of "\n", kNoToken where it is not one token
  bool adds_bos() const;
  // Eos, eot and the like ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", ...). Any id may be asked
  // for.
  bool IsEndOfGeneration(TokenId id) const;
  // A control or unknown token, which stands for no text. REQUIRES: 0 <= id < vocab_size().
  bool IsControl(TokenId id) const;

 private:
  Tokenizer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Turns tokens into text piece by piece, holding back bytes that are not yet a whole UTF-8
// character.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(const Tokenizer& tokenizer, bool show_special = false);
  // The text that became complete; may be empty. Bytes that can never become valid UTF-8 come out
  // as U+FFFD.
  std::string Push(TokenId id);
  // What is left at the end (an incomplete character becomes U+FFFD).
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool show_special_;
  std::string pending_;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_TOKENIZER_H_
