#include "gguf/printable.h"

#include <gtest/gtest.h>
#include <string>

namespace tidal {
namespace {

TEST(PrintableTest, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(Printable("llama.block_count"), "llama.block_count");
  EXPECT_EQ(Printable("gr\u00fc\u00df \u4f60\u597d \U0001f600"),
            "gr\u00fc\u00df \u4f60\u597d \U0001f600");
  EXPECT_EQ(Printable("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
  EXPECT_EQ(Printable(std::string_view("\0\x1b[31m\x7f", 7)), "\\x00\\x1b[31m\\x7f");
  EXPECT_EQ(Printable(""), "");
}

TEST(PrintableTest, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(Printable("\xff"), "\\xff");
  EXPECT_EQ(Printable("\x80"), "\\x80");
  EXPECT_EQ(Printable("\xc3"), "\\xc3");                             // cut short
  EXPECT_EQ(Printable("\xe4\xbd"), "\\xe4\\xbd");                    // cut short
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(Printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // past U+10FFFF
  EXPECT_EQ(Printable("\xc2\x85"), "\\xc2\\x85");                    // U+0085 breaks lines
  EXPECT_EQ(Printable("\xe2\x80\xa8"), "\\xe2\\x80\\xa8");           // so does U+2028
}

TEST(PrintableTest, CutsLongTextAtACharacter) {
  EXPECT_EQ(Printable("abcdef", 6), "abcdef");
  EXPECT_EQ(Printable("abcdef", 5), "abcde...");
  EXPECT_EQ(Printable("\u4f60\u597d\u4f60", 4), "\u4f60\u597d...");
  EXPECT_EQ(Printable(std::string(1 << 20, 'x'), 10), "xxxxxxxxxx...");
}

}  // namespace
}  // namespace tidal
