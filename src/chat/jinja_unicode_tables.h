// Character classes and case mappings as Python's str has them. The data is generated:
// tools/make_unicode_tables.py.
//
// Threads: constant data.
#ifndef TIDAL_CHAT_JINJA_UNICODE_TABLES_H_
#define TIDAL_CHAT_JINJA_UNICODE_TABLES_H_

#include <cstdint>
#include <span>

namespace tidal::jinja {

// The code points first, first + stride, ..., last.
struct CodeRange {
  uint32_t first;
  uint32_t last;
  uint32_t stride;
};

// A CodeRange whose members all map to themselves + delta.
struct CaseRange {
  uint32_t first;
  uint32_t last;
  uint32_t stride;
  int32_t delta;
};

// A code point that maps to two or three; unused places are 0.
struct CaseSpecial {
  uint32_t code;
  uint32_t mapped[3];
};

// Sorted and disjoint, so that a binary search by `last` finds the only candidate.
struct CodeSet {
  std::span<const CodeRange> ranges;
};
struct CaseMap {
  std::span<const CaseRange> ranges;
  std::span<const CaseSpecial> specials;
};

extern const CodeSet kAlpha, kDecimal, kDigit, kNumeric, kPrintable;
extern const CodeSet kUpper, kLower, kTitle, kCased, kCaseIgnorable;
extern const CaseMap kToUpper, kToLower, kToTitle, kToFolded;

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_UNICODE_TABLES_H_
