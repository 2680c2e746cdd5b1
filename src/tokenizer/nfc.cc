#include "tokenizer/nfc.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tokenizer/nfc_tables.h"
#include "tokenizer/utf8.h"

namespace tidal {
namespace {

// Hangul syllables: a leading consonant, a vowel, perhaps a trailing consonant (section 3.12 of the
// Unicode Standard).
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr uint32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28;
constexpr uint32_t kNumSyllables = kNumLeads * kNumVowels * kNumTrails;

// No character below combines with one before it, and each of them is as it should be.
constexpr uint32_t kFirstMark = 0x300;

uint8_t CombiningClass(uint32_t code) {
  if (code < kFirstMark) return 0;
  const auto range = std::ranges::lower_bound(kCombiningClasses, code, {}, &ClassRange::last);
  return range != kCombiningClasses.end() && range->first <= code ? range->combining_class : 0;
}

void AppendDecomposed(uint32_t code, std::vector<uint32_t>* codes) {
  if (const uint32_t syllable = code - kSyllables; code >= kSyllables && syllable < kNumSyllables) {
    codes->push_back(kLeads + syllable / (kNumVowels * kNumTrails));
    codes->push_back(kVowels + syllable / kNumTrails % kNumVowels);
    if (syllable % kNumTrails != 0) codes->push_back(kTrails + syllable % kNumTrails);
    return;
  }
  const auto pair = std::ranges::lower_bound(kCanonicalPairs, code, {}, &CanonicalPair::code);
  if (pair != kCanonicalPairs.end() && pair->code == code) {
    AppendDecomposed(pair->first, codes);
    AppendDecomposed(pair->second, codes);
    return;
  }
  const auto one = std::ranges::lower_bound(kCanonicalSingles, code, {}, &CanonicalSingle::code);
  if (one != kCanonicalSingles.end() && one->code == code)
    return AppendDecomposed(one->equal, codes);
  codes->push_back(code);
}

// The character that the two make; 0 where they make none.
uint32_t Compose(uint32_t first, uint32_t second) {
  if (first - kLeads < kNumLeads && second - kVowels < kNumVowels)
    return kSyllables + ((first - kLeads) * kNumVowels + second - kVowels) * kNumTrails;
  if (first - kSyllables < kNumSyllables && (first - kSyllables) % kNumTrails == 0 &&
      second > kTrails && second - kTrails < kNumTrails) {
    return first + second - kTrails;
  }
  const auto key = [](uint16_t row) {
    const CanonicalPair& pair = kCanonicalPairs[row];
    return uint64_t{pair.first} << 32 | pair.second;
  };
  const uint64_t wanted = uint64_t{first} << 32 | second;
  const auto row = std::ranges::lower_bound(kComposingPairs, wanted, {}, key);
  return row != kComposingPairs.end() && key(*row) == wanted ? kCanonicalPairs[*row].code : 0;
}

struct Mark {
  uint32_t code;
  uint8_t combining_class;
};

// Puts each run of marks in the order of their classes.
std::vector<Mark> Ordered(const std::vector<uint32_t>& codes) {
  std::vector<Mark> marks;
  for (const uint32_t code : codes) marks.push_back({code, CombiningClass(code)});
  for (auto begin = marks.begin(); begin != marks.end();) {
    if (begin->combining_class == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, marks.end(), [](const Mark& m) { return m.combining_class == 0; });
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
  return marks;
}

// Joins each mark, unless one of its class or none stands between, with the starter before it.
std::vector<uint32_t> Composed(const std::vector<Mark>& marks) {
  constexpr size_t kNone = SIZE_MAX;
  std::vector<uint32_t> codes;
  size_t starter = kNone;
  uint8_t last_class = 0;  // of what stands between the starter and here
  bool adjacent = false;   // nothing does
  for (const auto& [code, combining_class] : marks) {
    const bool blocked = !adjacent && last_class >= combining_class;
    if (starter != kNone && !blocked) {
      if (const uint32_t joined = Compose(codes[starter], code); joined != 0) {
        codes[starter] = joined;
        continue;
      }
    }
    if (combining_class == 0) {
      starter = codes.size();
      adjacent = true;
    } else {
      adjacent = false;
    }
    last_class = combining_class;
    codes.push_back(code);
  }
  return codes;
}

// Appends a stretch of characters that nothing before or after it combines with.
void AppendStretch(const std::vector<uint32_t>& stretch, std::string* text) {
  if (stretch.size() == 1 && stretch[0] < kFirstMark) return AppendUtf8(stretch[0], text);
  std::vector<uint32_t> codes;
  for (const uint32_t code : stretch) AppendDecomposed(code, &codes);
  for (const uint32_t code : Composed(Ordered(codes))) AppendUtf8(code, text);
}

}  // namespace

std::string ToNfc(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  std::vector<uint32_t> stretch;  // one character below kFirstMark at most, then others
  for (size_t pos = 0; pos < text.size();) {
    const auto length = static_cast<size_t>(ReadUtf8(text.substr(pos)).length);
    const uint32_t code = CodePointOf(text.substr(pos, length));
    if (code < kFirstMark) {
      AppendStretch(stretch, &result);
      stretch.clear();
    }
    stretch.push_back(code);
    pos += length;
  }
  AppendStretch(stretch, &result);
  return result;
}

}  // namespace tidal
