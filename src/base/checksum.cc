#include "base/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tidal {
namespace {

constexpr size_t kLanes = 4;
constexpr size_t kWordBytes = sizeof(uint64_t);
// Odd, with about half of their bits set in no pattern: the fraction bits of the square roots of 2
// and 3.
constexpr uint64_t kMultiplier = 0x6a09e667f3bcc909;
constexpr uint64_t kStart = 0xbb67ae8584caa73b;

uint64_t LoadWord(const std::byte* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, kWordBytes);
  return std::endian::native == std::endian::big ? __builtin_bswap64(word) : word;
}

// A product carries bits upward only: the fold brings the upper half down before it, the rotation
// after it. Without the fold a flip of the highest bit would leave one flipped bit, which a flip in
// the lane's next word could take back.
uint64_t Step(uint64_t state, uint64_t word) {
  uint64_t x = state ^ word;
  x ^= x >> 32;
  return std::rotl(x * kMultiplier, 29);
}

}  // namespace

uint64_t Checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = Step(seed + i, kStart);
  const std::byte* next = bytes.data();
  size_t left = bytes.size();
  for (; left >= kLanes * kWordBytes; next += kLanes * kWordBytes, left -= kLanes * kWordBytes) {
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = Step(lanes[i], LoadWord(next + i * kWordBytes));
  }
  uint64_t state = Step(kStart, bytes.size());
  for (const uint64_t lane : lanes) state = Step(state, lane);
  while (left > 0) {
    const size_t taken = std::min(left, kWordBytes);
    std::byte padded[kWordBytes] = {};
    std::memcpy(padded, next, taken);
    state = Step(state, LoadWord(padded));
    next += taken;
    left -= taken;
  }
  // Three steps more, so that the last word too reaches every bit.
  for (int i = 0; i < 3; ++i) state = Step(state, kStart);
  return state;
}

}  // namespace tidal
