// The vocabulary of a Hugging Face folder: tokenizer.json, with the special tokens that
// tokenizer_config.json, generation_config.json and config.json name.
#ifndef TIDAL_TOKENIZER_HF_VOCAB_H_
#define TIDAL_TOKENIZER_HF_VOCAB_H_

#include <deque>
#include <string>

#include "base/status.h"
#include "hf/hf_folder.h"
#include "tokenizer/bpe_vocab.h"

namespace tidal {

class HfVocab {
 public:
  // Errors, with the file and the key: kNotFound, kIo, kCorrupt (ill-typed or missing keys, ids out
  // of range or there twice), kUnsupported (another model than BPE; a normalizer, pre-tokenizer,
  // post-processor or decoder that is not known; added tokens that change the text around them).
  static Result<HfVocab> Read(const HfFolder& folder);

  // Points into this object, which may be moved.
  const BpeVocab& vocab() const { return vocab_; }
  const std::string& where() const { return where_; }  // tokenizer.json, fit for a message

 private:
  explicit HfVocab(std::string where) : where_(std::move(where)) {}

  Status ReadModel(const JsonFields& model);
  Status ReadTokens(const JsonFields& model);
  Status ReadMerges(const JsonFields& model);
  Status ReadAddedTokens(const JsonFields& root);
  Status AddToken(std::string_view text, int64_t id, TokenType type, const JsonFields& where);
  // Ids that no token has become unused tokens; byte and unknown tokens get their types.
  Status FinishTypes();
  Status ReadSpecialTokens(const HfFolder& folder);
  // The id of a token's text.
  Result<uint64_t> IdOf(std::string_view text, const JsonFields& where, std::string_view key) const;
  Status ReadNamedToken(const JsonFields& config, std::string_view key,
                        std::optional<uint64_t>* id) const;

  std::string where_;
  std::deque<std::string> texts_;  // of tokens and merges: a deque, so that views stay
  std::string unknown_text_;
  bool has_bytes_ = false;
  BpeVocab vocab_;
};

// The steps around the model in tokenizer.json: normalizer, pre-tokenizer, post-processor and
// decoder, as settings of `vocab`. Used by hf_vocab.cc only. Errors as HfVocab::Read.
Status ReadHfPipeline(const JsonFields& root, BpeVocab* vocab);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_HF_VOCAB_H_
