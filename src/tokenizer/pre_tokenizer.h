// Cuts text into the words that BPE merges stay within, by the regular expression that the model
// was trained with.
#ifndef TIDAL_TOKENIZER_PRE_TOKENIZER_H_
#define TIDAL_TOKENIZER_PRE_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

// PCRE2's own names, so that its header, which needs a macro first, stays in the .cc.
struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace tidal {

// Threads: const methods may be called from any thread, each with a WordScanner of its own.
class PreTokenizer {
 public:
  enum class Jit : uint8_t { kWherePossible, kNever };

  // `name` as in the GGUF key tokenizer.ggml.pre. Errors: kUnsupported (an unknown name; the
  // message lists the known).
  static Result<PreTokenizer> Create(std::string_view name, Jit jit = Jit::kWherePossible);

  // The name of the family that cuts words by this regular expression, as tokenizer.json spells it;
  // "" where none is known.
  static std::string_view NameOfPattern(std::string_view pattern);

  // Does a word that is a token as a whole become that token, whatever the merges say?
  bool ignores_merges() const { return ignores_merges_; }
  // Is a BOS token put in front where the file says nothing about it?
  bool adds_bos() const { return adds_bos_; }

 private:
  friend class WordScanner;
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct FreeContext {
    void operator()(pcre2_real_match_context_8* context) const;
  };

  PreTokenizer() = default;

  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  std::unique_ptr<pcre2_real_match_context_8, FreeContext> context_;
  bool ignores_merges_ = false;
  bool adds_bos_ = false;
};

// For one thread. The pre-tokenizer must outlive it.
class WordScanner {
 public:
  explicit WordScanner(const PreTokenizer& pre_tokenizer);

  // Where the word that starts at text[pos] ends; always after pos. Words cover the text without
  // gaps. Linear in the text over all of its words. REQUIRES: text is valid UTF-8 and pos, at the
  // start of a character, is in it.
  size_t WordEnd(std::string_view text, size_t pos);

 private:
  struct FreeMatchData {
    void operator()(pcre2_real_match_data_8* match) const;
  };

  const PreTokenizer& pre_tokenizer_;
  std::unique_ptr<pcre2_real_match_data_8, FreeMatchData> match_;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_PRE_TOKENIZER_H_
