// Unicode's canonical decompositions and combining classes. Hangul syllables, which follow a rule,
// are not in here.
#ifndef TIDAL_TOKENIZER_NFC_TABLES_H_
#define TIDAL_TOKENIZER_NFC_TABLES_H_

#include <cstdint>
#include <span>

namespace tidal {

struct CanonicalPair {
  uint32_t code;
  uint32_t first;
  uint32_t second;
};

struct CanonicalSingle {
  uint32_t code;
  uint32_t equal;  // may decompose further
};

struct ClassRange {
  uint32_t first;
  uint32_t last;
  uint8_t combining_class;  // never 0
};

extern const std::span<const CanonicalPair> kCanonicalPairs;      // by code
extern const std::span<const CanonicalSingle> kCanonicalSingles;  // by code
// Rows of kCanonicalPairs whose two parts compose to the character, by (first, second).
extern const std::span<const uint16_t> kComposingPairs;
extern const std::span<const ClassRange> kCombiningClasses;  // by code

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_NFC_TABLES_H_
