#include "cuda/device_buffer.h"

#include <cuda_runtime_api.h>

#include "base/system_memory.h"
#include "cuda/cuda_status.h"

namespace tidal {

Result<DeviceBuffer> DeviceBuffer::Create(int64_t bytes, std::string_view what) {
  DeviceBuffer buffer;
  if (bytes == 0) return buffer;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // the device stays usable: the error must not meet the next launch
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
    return OutOfMemory("{} needs {} of device memory, but {} of {} are free", what,
                       FormatBytes(bytes), FormatBytes(static_cast<int64_t>(free_bytes)),
                       FormatBytes(static_cast<int64_t>(total_bytes)));
  }
  TIDAL_RETURN_IF_ERROR(CudaStatus(error, what));
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.bytes_ = bytes;
  return buffer;
}

// Freeing fails only after an error that has been reported already.
DeviceBuffer::~DeviceBuffer() { (void)cudaFree(data_); }

Result<PinnedBuffer> PinnedBuffer::Create(int64_t bytes, std::string_view what) {
  PinnedBuffer buffer;
  if (bytes == 0) return buffer;
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return OutOfMemory("{} needs {} of page-locked host memory, which the system refuses", what,
                       FormatBytes(bytes));
  }
  TIDAL_RETURN_IF_ERROR(CudaStatus(error, what));
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.bytes_ = bytes;
  return buffer;
}

PinnedBuffer::~PinnedBuffer() { (void)cudaFreeHost(data_); }

}  // namespace tidal
