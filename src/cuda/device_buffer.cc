#include "cuda/device_buffer.h"

#include <cuda_runtime_api.h>

#include "base/system_memory.h"
#include "cuda/cuda_status.h"

namespace tidal {
namespace {

Status TooMuch(CudaMemory memory, int64_t bytes, std::string_view what) {
  (void)cudaGetLastError();  // the device stays usable: the error must not meet the next launch
  if (memory == CudaMemory::kPinned) {
    return OutOfMemory("{} needs {} of page-locked host memory, which the system refuses", what,
                       FormatBytes(bytes));
  }
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  return OutOfMemory("{} needs {} of device memory, but {} of {} are free", what,
                     FormatBytes(bytes), FormatBytes(static_cast<int64_t>(free_bytes)),
                     FormatBytes(static_cast<int64_t>(total_bytes)));
}

}  // namespace

template <CudaMemory kMemory>
Result<CudaBuffer<kMemory>> CudaBuffer<kMemory>::Create(int64_t bytes, std::string_view what) {
  CudaBuffer buffer;
  if (bytes == 0) return buffer;
  void* data = nullptr;
  const auto size = static_cast<size_t>(bytes);
  const cudaError_t error =
      kMemory == CudaMemory::kDevice ? cudaMalloc(&data, size) : cudaMallocHost(&data, size);
  if (error == cudaErrorMemoryAllocation) return TooMuch(kMemory, bytes, what);
  TIDAL_RETURN_IF_ERROR(CudaStatus(error, what));
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.bytes_ = bytes;
  return buffer;
}

// Freeing fails only after an error that has been reported already.
template <CudaMemory kMemory>
CudaBuffer<kMemory>::~CudaBuffer() {
  (void)(kMemory == CudaMemory::kDevice ? cudaFree(data_) : cudaFreeHost(data_));
}

template class CudaBuffer<CudaMemory::kDevice>;
template class CudaBuffer<CudaMemory::kPinned>;

}  // namespace tidal
