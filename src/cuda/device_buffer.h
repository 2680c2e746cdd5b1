// Memory of the current CUDA device and page-locked memory of the host, owned.
//
// Plain allocations only, never managed memory. Threads: as values; the device that is current at
// creation must be current at destruction.
#ifndef TIDAL_CUDA_DEVICE_BUFFER_H_
#define TIDAL_CUDA_DEVICE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace tidal {

class DeviceBuffer {
 public:
  // Uninitialised, aligned to 256 bytes; 0 bytes give a null buffer. kOutOfMemory names `what`, the
  // bytes asked for and those that are free.
  static Result<DeviceBuffer> Create(int64_t bytes, std::string_view what);

  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Page-locked host memory, which copies to and from the device without an extra copy.
class PinnedBuffer {
 public:
  static Result<PinnedBuffer> Create(int64_t bytes, std::string_view what);

  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept { *this = std::move(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedBuffer();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_DEVICE_BUFFER_H_
