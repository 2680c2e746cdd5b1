// Remembers where in the output the tokens of a short word stand, so that a word seen again is
// copied. For one call: it holds no tokens of its own.
#ifndef TIDAL_TOKENIZER_WORD_CACHE_H_
#define TIDAL_TOKENIZER_WORD_CACHE_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "tokenizer/token_index.h"

namespace tidal {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 15;

  // A word with its length, in two machine words.
  struct Key {
    uint64_t low = 0;
    uint64_t high = 0;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;           // of no word while empty: a word is never of length 0
    size_t begin = 0;  // of its tokens, in the output
    size_t count = 0;
  };

  explicit WordCache(size_t text_bytes)
      : entries_(std::bit_ceil(std::clamp(text_bytes / 8, kMinEntries, kMaxEntries))) {}

  // REQUIRES: 0 < word.size() <= kMaxWordBytes.
  static Key KeyOf(std::string_view word) {
    char bytes[16] = {};
    std::memcpy(bytes, word.data(), word.size());
    bytes[kMaxWordBytes] = static_cast<char>(word.size());
    Key key;
    std::memcpy(&key.low, bytes, sizeof(key.low));
    std::memcpy(&key.high, bytes + sizeof(key.low), sizeof(key.high));
    return key;
  }

  // The place of the key. Another word may be in it, which the caller may overwrite.
  Entry& EntryOf(const Key& key) {
    return entries_[MixHash(key.low ^ std::rotl(key.high, 29)) & (entries_.size() - 1)];
  }

 private:
  static constexpr size_t kMinEntries = 16;
  static constexpr size_t kMaxEntries = 8192;  // 256 KiB: stays in the second-level cache

  std::vector<Entry> entries_;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_WORD_CACHE_H_
