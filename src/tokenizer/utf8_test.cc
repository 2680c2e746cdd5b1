#include "tokenizer/utf8.h"

#include <gtest/gtest.h>
#include <random>
#include <string>

#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

// The code point of the whole text, decoded by arithmetic and then checked by range; -1 where it is
// not one character.
int64_t PlainDecode(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const int length = lead < 0x80       ? 1
                     : lead >> 5 == 6  ? 2
                     : lead >> 4 == 14 ? 3
                     : lead >> 3 == 30 ? 4
                                       : 0;
  if (length == 0 || text.size() != static_cast<size_t>(length)) return -1;
  int64_t point = length == 1 ? lead : lead & ((1 << (7 - length)) - 1);
  for (const char c : text.substr(1)) {
    if ((static_cast<uint8_t>(c) & 0xC0) != 0x80) return -1;
    point = point << 6 | (static_cast<uint8_t>(c) & 0x3F);
  }
  constexpr int64_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xD800 && point < 0xE000;
  return point < kSmallest[length] || point > 0x10FFFF || surrogate ? -1 : point;
}

std::string Drained(std::string bytes, std::string* rest) {
  std::string text;
  DrainUtf8(&bytes, &text);
  *rest = bytes;
  return text;
}

TEST(Utf8Test, KnowsEveryCharacterOfUpToThreeBytesAndItsNeighbours) {
  std::string text(3, '\0');
  for (int bytes = 0; bytes < 1 << 24; bytes += 7) {
    for (int i = 0; i < 3; ++i) text[i] = static_cast<char>(bytes >> (8 * i));
    for (const size_t length : {1, 2, 3}) {
      const std::string_view prefix = std::string_view(text).substr(0, length);
      const Utf8Unit unit = ReadUtf8(prefix);
      const bool whole =
          unit.kind == Utf8Kind::kCharacter && unit.length == static_cast<int>(length);
      ASSERT_EQ(whole, PlainDecode(prefix) >= 0) << std::hex << bytes << " length " << length;
    }
  }
}

TEST(Utf8Test, KnowsFourByteCharacters) {
  std::mt19937 rng(1);
  for (int i = 0; i < 1000000; ++i) {
    std::string text = RandomBytes(&rng, 4);
    text[0] = static_cast<char>(0xF0 | (text[0] & 7));
    if (i % 2 == 0) {
      for (int k = 1; k < 4; ++k) text[k] = static_cast<char>(0x80 | (text[k] & 0x3F));
    }
    const Utf8Unit unit = ReadUtf8(text);
    ASSERT_EQ(unit.kind == Utf8Kind::kCharacter, PlainDecode(text) >= 0) << i;
  }
}

TEST(Utf8Test, ValidPrefixEndsWhereAnErrorStarts) {
  EXPECT_EQ(ValidUtf8Prefix(""), 0u);
  EXPECT_EQ(ValidUtf8Prefix("0123456789abcdef\xC3\xA9"), 18u);
  EXPECT_EQ(ValidUtf8Prefix("0123456789\xC3"), 10u);
  EXPECT_EQ(ValidUtf8Prefix("01234567\xFF"
                            "89"),
            8u);
  EXPECT_EQ(ValidUtf8Prefix(std::string_view("\0\0", 2)), 2u);
}

// The examples of the Unicode Standard, tables 3-8 to 3-11 of section 3.9.
TEST(Utf8Test, ReplacesMaximalSubpartsAsTheStandardShows) {
  const std::string r(kReplacementCharacter);
  std::string rest;
  EXPECT_EQ(Drained("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", &rest),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Drained("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", &rest),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Drained("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", &rest),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(Drained("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", &rest), r + r + r + r + "A");
  EXPECT_EQ(rest, "");
}

TEST(Utf8Test, HoldsBackAnIncompleteCharacter) {
  std::string rest;
  EXPECT_EQ(Drained("ab\xF0\x9F\x8C", &rest), "ab");
  EXPECT_EQ(rest, "\xF0\x9F\x8C");
  EXPECT_EQ(Drained("\xE4", &rest), "");
  EXPECT_EQ(rest, "\xE4");
}

TEST(Utf8Test, DrainedBytesAreAlwaysValidAndNeverLeaveMoreThanThree) {
  std::mt19937 rng(2);
  for (int i = 0; i < 20000; ++i) {
    std::string rest;
    const std::string text = Drained(RandomBytes(&rng, rng() % 20), &rest);
    ASSERT_EQ(ValidUtf8Prefix(text), text.size());
    ASSERT_LE(rest.size(), 3u);
  }
}

}  // namespace
}  // namespace tidal
