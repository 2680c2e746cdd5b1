#include <algorithm>
#include <cuda_runtime_api.h>

#include "base/system_memory.h"
#include "cuda/cuda_devices.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"
#include "cuda/sum_words.h"

namespace tidal {
namespace {

// Enough that the ends of a pass do not count; at least as much that caches do not help.
constexpr int64_t kMostBytes = int64_t{8} << 30;
constexpr int64_t kLeastBytes = int64_t{512} << 20;
constexpr int kPasses = 10;

struct Events {
  ~Events() {
    if (begin != nullptr) (void)cudaEventDestroy(begin);
    if (end != nullptr) (void)cudaEventDestroy(end);
  }
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
};

}  // namespace

Result<double> MeasureCudaReadGbps(int32_t device) {
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(device));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  const int64_t bytes = std::min(kMostBytes, static_cast<int64_t>(free_bytes) / 2) / 16 * 16;
  if (bytes < kLeastBytes) {
    return OutOfMemory("measuring the read rate needs twice {} of the device, {} are free",
                       FormatBytes(kLeastBytes), FormatBytes(static_cast<int64_t>(free_bytes)));
  }
  TIDAL_ASSIGN_OR_RETURN(const DeviceBuffer data, DeviceBuffer::Create(bytes, "the read rate"));
  TIDAL_ASSIGN_OR_RETURN(const DeviceBuffer sum, DeviceBuffer::Create(sizeof(uint32_t), "a sum"));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaMemset(data.data(), 1, static_cast<size_t>(bytes)));
  Events events;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaEventCreate(&events.begin));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaEventCreate(&events.end));
  float best_ms = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaEventRecord(events.begin));
    TIDAL_RETURN_IF_CUDA_ERROR(SumWords(data.as<uint8_t>(), bytes, sum.as<uint32_t>(), nullptr));
    TIDAL_RETURN_IF_CUDA_ERROR(cudaEventRecord(events.end));
    TIDAL_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(events.end));
    float ms = 0;
    TIDAL_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&ms, events.begin, events.end));
    if (pass == 0 || ms < best_ms) best_ms = ms;
  }
  return static_cast<double>(bytes) / static_cast<double>(best_ms) / 1e6;
}

}  // namespace tidal
