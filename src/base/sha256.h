// SHA-256 (FIPS 180-4), for naming files by content. Portable code: about 200 MB/s a core, and
// nothing here hashes more than a few megabytes.
#ifndef TIDAL_BASE_SHA256_H_
#define TIDAL_BASE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tidal {

class Sha256 {
 public:
  Sha256();
  // Appends bytes to the message.
  void Update(std::span<const std::byte> bytes);
  // The digest in 64 lower-case hex digits. Ends the message: REQUIRES that neither function is
  // called again.
  std::string FinishHex();

 private:
  static constexpr size_t kChunkBytes = 64;  // the function works on chunks of 512 bits

  void Compress(const std::byte* chunk);

  std::array<uint32_t, 8> state_;
  std::array<std::byte, kChunkBytes> pending_{};
  size_t pending_bytes_ = 0;
  uint64_t message_bytes_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_BASE_SHA256_H_
