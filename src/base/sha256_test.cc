#include "base/sha256.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

namespace tidal {
namespace {

std::string HashOf(std::string_view text) {
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(text)));
  return hash.FinishHex();
}

// The examples that NIST publishes with FIPS 180-4.
TEST(Sha256Test, GivesThePublishedDigests) {
  EXPECT_EQ(HashOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(HashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HashOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(HashOf("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                   "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(HashOf(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWhole) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += static_cast<char>('a' + i % 23);
  for (size_t length = 0; length <= text.size(); ++length) {
    const std::string whole = HashOf(text.substr(0, length));
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{63}, size_t{64}, size_t{65}}) {
      Sha256 hash;
      for (size_t begin = 0; begin < length; begin += piece) {
        const std::string_view part(text.data() + begin, std::min(piece, length - begin));
        hash.Update(std::as_bytes(std::span(part)));
      }
      ASSERT_EQ(hash.FinishHex(), whole) << length << " bytes in pieces of " << piece;
    }
  }
}

}  // namespace
}  // namespace tidal
