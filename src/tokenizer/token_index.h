// A flat hash table from a token's text to its id. The texts stay where they are: the caller says
// how to find them.
#ifndef TIDAL_TOKENIZER_TOKEN_INDEX_H_
#define TIDAL_TOKENIZER_TOKEN_INDEX_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "tokenizer/token_id.h"

namespace tidal {

inline uint64_t MixHash(uint64_t value) {
  value *= 0x9E3779B97F4A7C15u;
  value ^= value >> 32;
  value *= 0xD6E8FEB86659FD93u;
  return value ^ (value >> 32);
}

inline uint64_t HashBytes(std::string_view bytes) {
  uint64_t hash = bytes.size();
  while (bytes.size() >= sizeof(uint64_t)) {
    uint64_t chunk;
    std::memcpy(&chunk, bytes.data(), sizeof(chunk));
    hash = MixHash(hash ^ chunk);
    bytes.remove_prefix(sizeof(chunk));
  }
  uint64_t tail = 0;
  for (const char c : bytes) tail = tail << 8 | static_cast<uint8_t>(c);
  return MixHash(hash ^ tail);
}

class TokenIndex {
 public:
  TokenIndex() = default;
  // Room for `max_tokens` of them.
  explicit TokenIndex(size_t max_tokens)
      : slots_(std::bit_ceil(max_tokens + max_tokens / 2 + 1)), mask_(slots_.size() - 1) {}

  bool empty() const { return slots_.empty(); }

  // The id that `text` has already, else kNoToken, and then it has `id` from now on. text_of(id) is
  // the text of an id that was inserted before.
  template <typename TextOf>
  TokenId Insert(std::string_view text, TokenId id, const TextOf& text_of) {
    const uint64_t hash = HashBytes(text);
    Slot& slot = slots_[FindSlot(text, hash, text_of)];
    if (slot.id != kNoToken) return slot.id;
    slot = {static_cast<uint32_t>(hash >> 32), id};
    return kNoToken;
  }

  template <typename TextOf>
  TokenId Find(std::string_view text, const TextOf& text_of) const {
    return slots_[FindSlot(text, HashBytes(text), text_of)].id;
  }

 private:
  struct Slot {
    uint32_t tag = 0;  // part of the hash, so that most other texts need not be read
    TokenId id = kNoToken;
  };

  // Where `text` is, else the free slot where it would be put.
  template <typename TextOf>
  size_t FindSlot(std::string_view text, uint64_t hash, const TextOf& text_of) const {
    const auto tag = static_cast<uint32_t>(hash >> 32);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.id == kNoToken || (slot.tag == tag && text_of(slot.id) == text)) return i;
    }
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_TOKEN_INDEX_H_
