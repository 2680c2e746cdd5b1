#include "base/checksum.h"

#include <gtest/gtest.h>
#include <set>
#include <vector>

namespace tidal {
namespace {

std::vector<std::byte> SomeBytes(size_t n) {
  std::vector<std::byte> bytes(n);
  uint32_t state = 7;
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

// Word by word with 128-bit products reduced by hand: as the header says it, in another form.
uint64_t PlainChecksum(const std::vector<std::byte>& bytes, uint64_t seed) {
  const auto step = [](uint64_t state, uint64_t word) {
    const uint64_t mixed = state ^ word;
    const uint64_t x = mixed ^ mixed >> 32;
    uint64_t product = 0;
    for (int bit = 0; bit < 64; ++bit)
      if ((0x6a09e667f3bcc909 >> bit & 1) != 0) product += x << bit;
    return product << 29 | product >> 35;
  };
  const auto word = [&](size_t at) {
    uint64_t value = 0;
    for (size_t i = 0; i < 8 && at + i < bytes.size(); ++i)
      value |= static_cast<uint64_t>(bytes[at + i]) << (8 * i);
    return value;
  };
  const uint64_t start = 0xbb67ae8584caa73b;
  std::vector<uint64_t> lanes;
  for (uint64_t i = 0; i < 4; ++i) lanes.push_back(step(seed + i, start));
  const size_t in_lanes = bytes.size() / 32 * 32;
  for (size_t at = 0; at < in_lanes; at += 8) {
    uint64_t& lane = lanes[at / 8 % 4];
    lane = step(lane, word(at));
  }
  uint64_t state = step(start, bytes.size());
  for (const uint64_t lane : lanes) state = step(state, lane);
  for (size_t at = in_lanes; at < bytes.size(); at += 8) state = step(state, word(at));
  for (int i = 0; i < 3; ++i) state = step(state, start);
  return state;
}

TEST(Checksum64, IsThePlainFormForEveryLength) {
  for (size_t n = 0; n <= 130; ++n)
    EXPECT_EQ(Checksum64(SomeBytes(n), n), PlainChecksum(SomeBytes(n), n)) << n << " bytes";
}

TEST(Checksum64, SeesEveryFlippedBitAndEveryLength) {
  std::set<uint64_t> seen;
  size_t tried = 0;
  for (const size_t n : {1u, 8u, 31u, 32u, 33u, 100u}) {
    std::vector<std::byte> bytes = SomeBytes(n);
    seen.insert(Checksum64(bytes, 1));
    ++tried;
    for (size_t bit = 0; bit < 8 * n; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      seen.insert(Checksum64(bytes, 1));
      ++tried;
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
  }
  EXPECT_EQ(seen.size(), tried) << "two blocks have the same checksum";
}

// Two flips, in the lane's next word or the next lane's: where a weak step lets one undo the other.
TEST(Checksum64, SeesPairsOfFlippedBits) {
  std::vector<std::byte> bytes = SomeBytes(128);
  const uint64_t before = Checksum64(bytes, 0);
  const auto flip = [&](size_t bit) { bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8); };
  for (const size_t first_byte : {0u, 32u, 88u}) {
    for (const size_t distance : {8u, 32u}) {
      for (size_t a = 0; a < 64; ++a) {
        for (size_t b = 0; b < 64; ++b) {
          flip(8 * first_byte + a);
          flip(8 * (first_byte + distance) + b);
          ASSERT_NE(Checksum64(bytes, 0), before) << first_byte << " " << distance;
          flip(8 * first_byte + a);
          flip(8 * (first_byte + distance) + b);
        }
      }
    }
  }
}

TEST(Checksum64, TellsZerosOfDifferentLengthsAndSeedsApart) {
  std::set<uint64_t> seen;
  for (size_t n = 0; n < 100; ++n)
    for (uint64_t seed = 0; seed < 10; ++seed)
      seen.insert(Checksum64(std::vector<std::byte>(n), seed));
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(Checksum64, SeesWordsThatChangedPlaces) {
  std::vector<std::byte> bytes = SomeBytes(256);
  const uint64_t before = Checksum64(bytes, 0);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 32);  // of one lane
  EXPECT_NE(Checksum64(bytes, 0), before);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 40);  // of two
  EXPECT_NE(Checksum64(bytes, 0), before);
}

}  // namespace
}  // namespace tidal
