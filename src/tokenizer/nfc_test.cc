#include "tokenizer/nfc.h"

#include <gtest/gtest.h>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocab_for_test.h"

namespace tidal {
namespace {

TEST(NfcTest, Examples) {
  EXPECT_EQ(ToNfc(""), "");
  EXPECT_EQ(ToNfc("plain text"), "plain text");
  EXPECT_EQ(ToNfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(ToNfc("\u212b"), "\u00c5");
  EXPECT_EQ(ToNfc("q\u0307\u0323"), "q\u0323\u0307");  // marks in the order of their classes
  EXPECT_EQ(ToNfc("\u1100\u1161\u11a8"), "\uac01");    // Hangul
  EXPECT_EQ(ToNfc("\u0915\u093c"), "\u0915\u093c");    // excluded from composition
  EXPECT_EQ(ToNfc("a\u0315\u0300\u05ae\u0301b"), "\u00e0\u05ae\u0301\u0315b");
}

// The digest is that of Python's unicodedata.normalize("NFC", ...), Unicode 14.0, for the same
// texts.
TEST(NfcTest, EveryCharacterAsPythonDoes) {
  constexpr uint32_t kPlanesWithDecompositions = 0x30000;
  Sha256 hash;
  for (uint32_t code = 1; code < kPlanesWithDecompositions; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string c;
    AppendUtf8(code, &c);
    for (const std::string& text : {c, "a" + c + "\u0301", c + "\u0323\u0307" + c, "a\u0328" + c}) {
      const std::string normalized = ToNfc(text);
      hash.Update(std::as_bytes(std::span(normalized)));
    }
  }
  EXPECT_EQ(hash.FinishHex(), "4848d8c7647c0895b4409c24a1d9aa12b9e56ee91517e17debc63b2725af8d17");
}

TEST(NfcTest, OnceIsEnough) {
  std::mt19937 rng(5);
  for (int i = 0; i < 200; ++i) {
    const std::string once = ToNfc(RandomText(&rng, 50));
    EXPECT_EQ(ToNfc(once), once);
  }
}

TEST(NfcTest, ManyMarksTakeLinearTime) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0323" : "\u0301";
  const std::string normalized = ToNfc(text);
  EXPECT_TRUE(normalized.starts_with("\u1ea1\u0323\u0323"));
}

}  // namespace
}  // namespace tidal
