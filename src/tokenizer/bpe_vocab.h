// A byte-level BPE vocabulary as a model's file states it, before anything is checked. Files of
// other formats are read into this struct, and the tokenizer is made from it.
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

// Views point into the file: they need to live only until the tokenizer is made.
struct BpeVocab {
  std::vector<std::string_view> tokens;  // normal ones in the byte alphabet, others as plain text
  std::vector<int64_t> types;            // values of TokenType, one a token; empty: all normal
  std::vector<std::string_view> merges;  // "left right", the most important first
  std::string_view pre_tokenizer;        // a name that PreTokenizer knows
  std::optional<uint64_t> bos;
  std::optional<uint64_t> eos;
  std::vector<uint64_t> more_ends;  // further tokens that end a generation
  std::optional<bool> add_bos;      // absent: as is usual for the pre-tokenizer
};

// Errors: kCorrupt (missing or ill-typed keys), kUnsupported (another tokenizer model). The views
// point into `file`.
Result<BpeVocab> BpeVocabFromGguf(const GgufFile& file);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_BPE_VOCAB_H_
