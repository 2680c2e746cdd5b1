// Finds the texts of special tokens, such as "<|im_end|>", in a text.
#ifndef TIDAL_TOKENIZER_SPECIAL_MATCHER_H_
#define TIDAL_TOKENIZER_SPECIAL_MATCHER_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/token_id.h"

namespace tidal {

struct SpecialMatch {
  size_t begin;  // text.size() where there is none
  size_t end;
  TokenId id;
};

// Threads: const methods may be called from any thread.
class SpecialMatcher {
 public:
  // REQUIRES: no text is empty.
  explicit SpecialMatcher(std::vector<std::pair<std::string, TokenId>> tokens);

  // The leftmost at or after `from`, the longest one there. At most the longest token's length of
  // steps a byte of text.
  SpecialMatch Find(std::string_view text, size_t from) const;

 private:
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  // Length and id of the longest token that `text` starts with; {0, kNoToken} where none.
  std::pair<size_t, TokenId> LongestPrefix(std::string_view text) const;

  std::vector<std::pair<std::string, TokenId>> tokens_;  // sorted by text
  std::array<Range, 256> by_first_byte_;                 // into tokens_
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_SPECIAL_MATCHER_H_
