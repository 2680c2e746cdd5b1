// A vocabulary made by hand, for tests: the 256 bytes first, then what is added.
#ifndef TIDAL_TOKENIZER_VOCAB_FOR_TEST_H_
#define TIDAL_TOKENIZER_VOCAB_FOR_TEST_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/bpe_vocab.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/token_id.h"

namespace tidal {

class VocabForTest {
 public:
  VocabForTest() {
    for (int byte = 0; byte < 256; ++byte) {
      AddToken(ByteAlphabetCharacter(static_cast<uint8_t>(byte)), TokenType::kNormal);
    }
  }

  // `text` as a file has it. Returns its id.
  TokenId AddToken(std::string text, TokenType type) {
    texts_.push_back(std::move(text));
    types_.push_back(static_cast<int64_t>(type));
    const auto id = static_cast<TokenId>(texts_.size() - 1);
    ids_.emplace(texts_.back(), id);
    return id;
  }

  // Of two byte strings that are tokens; what it makes becomes a token where it is none. Returns
  // the id of that.
  TokenId AddMerge(std::string_view left, std::string_view right) {
    merges_.push_back(Alphabet(left) + " " + Alphabet(right));
    ranks_.emplace(std::pair(std::string(left), std::string(right)), ranks_.size());
    const std::string product = Alphabet(left) + Alphabet(right);
    const auto known = ids_.find(product);
    return known != ids_.end() ? known->second : AddToken(product, TokenType::kNormal);
  }

  // Points into this object.
  BpeVocab View(std::string_view pre_tokenizer) const {
    BpeVocab vocab;
    vocab.tokens.assign(texts_.begin(), texts_.end());
    vocab.types = types_;
    vocab.merges.assign(merges_.begin(), merges_.end());
    vocab.pre_tokenizer = pre_tokenizer;
    return vocab;
  }

  // The definition of BPE, carried out to the letter on strings.
  std::vector<std::string> PlainBpe(std::string_view word) const {
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    while (true) {
      size_t best = parts.size();
      size_t best_rank = ranks_.size();
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto merge = ranks_.find({parts[i], parts[i + 1]});
        if (merge == ranks_.end() || merge->second >= best_rank) continue;
        best = i;
        best_rank = merge->second;
      }
      if (best == parts.size()) return parts;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }

  TokenId IdOf(std::string_view bytes) const { return ids_.at(Alphabet(bytes)); }

  // `num_merges` different ones over the letters "abc", in an order that no training would give: a
  // merge may come before those that make its parts.
  static VocabForTest Random(std::mt19937* rng, size_t num_merges) {
    std::vector<std::string> texts = {"a", "b", "c"};
    std::set<std::pair<std::string, std::string>> pairs;
    while (pairs.size() < num_merges) {
      const std::string left = texts[(*rng)() % texts.size()];
      const std::string right = texts[(*rng)() % texts.size()];
      if (left.size() + right.size() > 12 || !pairs.emplace(left, right).second) {
        continue;
      }
      texts.push_back(left + right);
    }
    std::vector<std::pair<std::string, std::string>> order(pairs.begin(), pairs.end());
    std::shuffle(order.begin(), order.end(), *rng);
    VocabForTest vocab;
    for (const auto& [left, right] : order) vocab.AddMerge(left, right);
    return vocab;
  }

 private:
  static std::string Alphabet(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) text += ByteAlphabetCharacter(static_cast<uint8_t>(c));
    return text;
  }

  std::deque<std::string> texts_;
  std::vector<int64_t> types_;
  std::deque<std::string> merges_;
  std::map<std::string, TokenId> ids_;
  std::map<std::pair<std::string, std::string>, size_t> ranks_;
};

// Seeds are fixed, so that a failure can be seen again.
inline std::string RandomBytes(std::mt19937* rng, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>((*rng)());
  return bytes;
}

// `count` characters, from all of Unicode: half of them ASCII, some NUL, spaces and digits among
// them.
inline std::string RandomText(std::mt19937* rng, size_t count) {
  std::string text;
  while (count > 0) {
    uint32_t c = 0;
    switch ((*rng)() % 8) {
      case 0:
        c = (*rng)() % 0x110000;
        break;
      case 1:
        c = (*rng)() % 0x3000;
        break;
      case 2:
        c = static_cast<uint8_t>(" \n\r\t\0 12"[(*rng)() % 8]);
        break;
      case 3:
        c = 0x4E00 + (*rng)() % 0x5000;
        break;
      default:
        c = (*rng)() % 0x80;
    }
    if (c >= 0xD800 && c < 0xE000) continue;
    const auto tail = [c](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
    if (c < 0x80)
      text += static_cast<char>(c);
    else if (c < 0x800)
      text += {static_cast<char>(0xC0 | (c >> 6)), tail(0)};
    else if (c < 0x10000)
      text += {static_cast<char>(0xE0 | (c >> 12)), tail(6), tail(0)};
    else
      text += {static_cast<char>(0xF0 | (c >> 18)), tail(12), tail(6), tail(0)};
    --count;
  }
  return text;
}

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_VOCAB_FOR_TEST_H_
