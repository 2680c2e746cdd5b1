// A 64-bit checksum for large blocks of bytes that may be damaged, not forged: 32 bytes take four
// multiplications that do not wait for each other, which is several gigabytes a second on any
// core.
#ifndef TIDAL_BASE_CHECKSUM_H_
#define TIDAL_BASE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace tidal {

// The same on every machine. `seed` tells blocks apart that may not be exchanged. Every step is a
// bijection of the state and of the word that it takes, so a change within one aligned group of
// eight bytes is always seen, and other damage is missed by an accident of 1 in 2^64 or a pattern
// made for it.
uint64_t Checksum64(std::span<const std::byte> bytes, uint64_t seed);

}  // namespace tidal

#endif  // TIDAL_BASE_CHECKSUM_H_
