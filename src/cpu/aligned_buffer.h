// Memory for weights, caches and scratch.
#ifndef TIDAL_CPU_ALIGNED_BUFFER_H_
#define TIDAL_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/status.h"

namespace tidal {

// Owns zeroed memory straight from the operating system: address space at once, pages as they are
// first touched, huge pages where it spans some. Aligned to 4 KB, from 2 MB on to 2 MB.
class AlignedBuffer {
 public:
  // kOutOfMemory with the number of bytes. bytes may be 0.
  static Result<AlignedBuffer> Create(int64_t bytes);

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CPU_ALIGNED_BUFFER_H_
