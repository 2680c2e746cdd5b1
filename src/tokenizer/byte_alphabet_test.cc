#include "tokenizer/byte_alphabet.h"

#include <gtest/gtest.h>
#include <set>
#include <string>

namespace tidal {
namespace {

TEST(ByteAlphabetTest, ShowsSomeBytesAsGpt2Does) {
  EXPECT_EQ(ByteAlphabetCharacter('A'), "A");
  EXPECT_EQ(ByteAlphabetCharacter(' '), "\xC4\xA0");   // U+0120
  EXPECT_EQ(ByteAlphabetCharacter('\n'), "\xC4\x8A");  // U+010A
  EXPECT_EQ(ByteAlphabetCharacter(0x00), "\xC4\x80");  // U+0100
  EXPECT_EQ(ByteAlphabetCharacter(0x7F), "\xC4\xA1");  // U+0121
  EXPECT_EQ(ByteAlphabetCharacter(0xAD), "\xC5\x83");  // U+0143
  EXPECT_EQ(ByteAlphabetCharacter(0xFF), "\xC3\xBF");  // U+00FF
}

TEST(ByteAlphabetTest, EveryByteComesBack) {
  std::set<std::string> characters;
  std::string all;
  std::string expected;
  for (int byte = 0; byte < 256; ++byte) {
    characters.insert(ByteAlphabetCharacter(static_cast<uint8_t>(byte)));
    all += ByteAlphabetCharacter(static_cast<uint8_t>(byte));
    expected += static_cast<char>(byte);
  }
  EXPECT_EQ(characters.size(), 256u);
  std::string bytes = "before";
  ASSERT_TRUE(AppendAlphabetBytes(all, &bytes));
  EXPECT_EQ(bytes, "before" + expected);
}

TEST(ByteAlphabetTest, RefusesOtherCharactersAndKeepsTheOutput) {
  for (const std::string_view text :
       {"a b", "a\n", "\xC2\xAD", "\xC5\x84", "\xE4\xB8\xAD", "\xF0\x9F\x8C\x8D", "a\xC4",
        "\xC4"
        "a",
        "\x80", "\xFF\xFF"}) {
    std::string bytes = "before";
    EXPECT_FALSE(AppendAlphabetBytes(text, &bytes)) << text;
    EXPECT_EQ(bytes, "before");
  }
}

}  // namespace
}  // namespace tidal
