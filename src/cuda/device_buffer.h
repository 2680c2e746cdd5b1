// Memory of the current CUDA device, and page-locked memory of the host, owned.
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

enum class CudaMemory : uint8_t {
  kDevice,
  kPinned,  // of the host, page-locked: it copies to and from the device without an extra copy
};

template <CudaMemory kMemory>
class CudaBuffer {
 public:
  // Uninitialised, aligned to 256 bytes; 0 bytes give a null buffer. kOutOfMemory names `what` and
  // the bytes asked for, of the device also those that are free.
  static Result<CudaBuffer> Create(int64_t bytes, std::string_view what);

  CudaBuffer() = default;
  CudaBuffer(CudaBuffer&& other) noexcept { *this = std::move(other); }
  CudaBuffer& operator=(CudaBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~CudaBuffer();

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

using DeviceBuffer = CudaBuffer<CudaMemory::kDevice>;
using PinnedBuffer = CudaBuffer<CudaMemory::kPinned>;

}  // namespace tidal

#endif  // TIDAL_CUDA_DEVICE_BUFFER_H_
