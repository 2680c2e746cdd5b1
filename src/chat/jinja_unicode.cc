#include "chat/jinja_unicode.h"

#include <algorithm>

namespace tidal::jinja {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// The range that holds `code`, or null.
template <typename Range>
const Range* FindRange(std::span<const Range> ranges, uint32_t code) {
  const auto it = std::lower_bound(ranges.begin(), ranges.end(), code,
                                   [](const Range& range, uint32_t c) { return range.last < c; });
  if (it == ranges.end() || code < it->first || (code - it->first) % it->stride != 0)
    return nullptr;
  return &*it;
}

void AppendMapped(const CaseMap& map, char32_t code, std::string* out) {
  if (const CaseRange* range = FindRange(map.ranges, code)) {
    AppendUtf8(static_cast<char32_t>(static_cast<int64_t>(code) + range->delta), out);
    return;
  }
  const auto special =
      std::lower_bound(map.specials.begin(), map.specials.end(), code,
                       [](const CaseSpecial& s, char32_t c) { return s.code < c; });
  if (special != map.specials.end() && special->code == code) {
    for (const uint32_t mapped : special->mapped) {
      if (mapped != 0) AppendUtf8(mapped, out);
    }
    return;
  }
  AppendUtf8(code, out);
}

std::string MapAll(const CaseMap& map, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) AppendMapped(map, DecodeUtf8(text, &pos), &out);
  return out;
}

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kSmallSigma = 0x3C3;
constexpr char32_t kFinalSigma = 0x3C2;

// The start of the code point that ends before text[pos].
size_t PreviousStart(std::string_view text, size_t pos) {
  size_t start = pos - 1;
  while (start > 0 && pos - start < 4 && IsContinuation(static_cast<unsigned char>(text[start]))) {
    --start;
  }
  size_t end = start;
  DecodeUtf8(text, &end);
  return end == pos ? start : pos - 1;
}

// Whether the capital sigma at [begin, end) closes a word: a cased letter before it and none after
// it, where case-ignorable code points do not count.
bool IsFinalSigma(std::string_view text, size_t begin, size_t end) {
  bool cased_before = false;
  for (size_t pos = begin; pos > 0;) {
    pos = PreviousStart(text, pos);
    size_t next = pos;
    const char32_t code = DecodeUtf8(text, &next);
    if (Contains(kCaseIgnorable, code)) continue;
    cased_before = Contains(kCased, code);
    break;
  }
  if (!cased_before) return false;
  for (size_t pos = end; pos < text.size();) {
    const char32_t code = DecodeUtf8(text, &pos);
    if (!Contains(kCaseIgnorable, code)) return !Contains(kCased, code);
  }
  return true;
}

// Lower case of the code point at [begin, end) of text.
void AppendLower(std::string_view text, size_t begin, size_t end, char32_t code, std::string* out) {
  if (code == kCapitalSigma) {
    AppendUtf8(IsFinalSigma(text, begin, end) ? kFinalSigma : kSmallSigma, out);
  } else {
    AppendMapped(kToLower, code, out);
  }
}

}  // namespace

char32_t DecodeUtf8(std::string_view text, size_t* pos) {
  const auto lead = static_cast<unsigned char>(text[*pos]);
  if (lead < 0x80) {
    ++*pos;
    return lead;
  }
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  char32_t code = lead & (0x7Fu >> length);
  bool valid = lead >= 0xC2 && lead <= 0xF4 && *pos + length <= text.size();
  for (size_t i = 1; valid && i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[*pos + i]);
    valid = IsContinuation(byte);
    code = (code << 6) | (byte & 0x3Fu);
  }
  if (!valid || code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
    ++*pos;
    return kInvalidByteBase + lead;
  }
  *pos += length;
  return code;
}

void AppendUtf8(char32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code >= kInvalidByteBase && code <= kInvalidByteBase + 0xFF) {
    out->push_back(static_cast<char>(code - kInvalidByteBase));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code >> 6)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

bool IsAscii(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

int64_t CountCodePoints(std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) DecodeUtf8(text, &pos);
  return count;
}

size_t CodePointOffset(std::string_view text, int64_t index) {
  size_t pos = 0;
  for (int64_t i = 0; i < index && pos < text.size(); ++i) DecodeUtf8(text, &pos);
  return pos;
}

std::string ReverseCodePoints(std::string_view text) {
  std::string out(text.size(), '\0');
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    DecodeUtf8(text, &pos);
    out.replace(text.size() - pos, pos - begin, text.substr(begin, pos - begin));
  }
  return out;
}

bool Contains(const CodeSet& set, char32_t code) { return FindRange(set.ranges, code) != nullptr; }

bool IsSpace(char32_t code) {
  if (code < 0x80)
    return code == ' ' || (code >= 0x9 && code <= 0xD) || (code >= 0x1C && code <= 0x1F);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool IsLineBreak(char32_t code) {
  return (code >= 0xA && code <= 0xD) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
         code == 0x2028 || code == 0x2029;
}

bool IsIdentifierStart(char32_t code) { return code == '_' || Contains(kAlpha, code); }

bool IsIdentifierPart(char32_t code) { return IsIdentifierStart(code) || Contains(kDecimal, code); }

std::string_view StripLeft(std::string_view text) {
  size_t pos = 0;
  for (size_t next = 0; pos < text.size() && IsSpace(DecodeUtf8(text, &next));) pos = next;
  return text.substr(pos);
}

std::string_view StripRight(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = PreviousStart(text, end);
    size_t next = start;
    if (!IsSpace(DecodeUtf8(text, &next))) break;
    end = start;
  }
  return text.substr(0, end);
}

std::string_view Strip(std::string_view text) { return StripRight(StripLeft(text)); }

std::string ToUpper(std::string_view text) { return MapAll(kToUpper, text); }
std::string CaseFold(std::string_view text) { return MapAll(kToFolded, text); }

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    AppendLower(text, begin, pos, code, &out);
  }
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    if (Contains(kUpper, code)) {
      AppendLower(text, begin, pos, code, &out);
    } else if (Contains(kLower, code)) {
      AppendMapped(kToUpper, code, &out);
    } else {
      AppendUtf8(code, &out);
    }
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    if (begin == 0) {
      AppendMapped(kToTitle, code, &out);
    } else {
      AppendLower(text, begin, pos, code, &out);
    }
  }
  return out;
}

std::string ToTitle(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    if (in_word) {
      AppendLower(text, begin, pos, code, &out);
    } else {
      AppendMapped(kToTitle, code, &out);
    }
    in_word = Contains(kCased, code);
  }
  return out;
}

bool IsUpperText(std::string_view text) {
  bool found = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t code = DecodeUtf8(text, &pos);
    if (Contains(kLower, code) || Contains(kTitle, code)) return false;
    found = found || Contains(kUpper, code);
  }
  return found;
}

bool IsLowerText(std::string_view text) {
  bool found = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t code = DecodeUtf8(text, &pos);
    if (Contains(kUpper, code) || Contains(kTitle, code)) return false;
    found = found || Contains(kLower, code);
  }
  return found;
}

bool IsTitleText(std::string_view text) {
  bool found = false;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t code = DecodeUtf8(text, &pos);
    if (Contains(kUpper, code) || Contains(kTitle, code)) {
      if (in_word) return false;
      in_word = found = true;
    } else if (Contains(kLower, code)) {
      if (!in_word) return false;
    } else {
      in_word = false;
    }
  }
  return found;
}

}  // namespace tidal::jinja
