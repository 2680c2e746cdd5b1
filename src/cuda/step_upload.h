// What the host tells the device about a step, in one copy: regions of a page-locked buffer and
// their twins on the device, whose addresses never change, so that captured graphs find them.
//
// Use: Reserve regions while the executor is made, Allocate once, write through Region::host in
// BeginStep, Send. Threads: one.
#ifndef TIDAL_CUDA_STEP_UPLOAD_H_
#define TIDAL_CUDA_STEP_UPLOAD_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "base/check.h"
#include "base/math.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"

namespace tidal {

class StepUpload {
 public:
  // `count` elements of T; host() and device() are valid after Allocate.
  template <typename T>
  class Region {
   public:
    T* host() const { return reinterpret_cast<T*>(owner_->host_.data() + offset_); }
    T* device() const { return reinterpret_cast<T*>(owner_->device_.data() + offset_); }
    // Bytes of the upload up to the end of the region's first `count` elements.
    int64_t EndOf(int64_t count) const { return offset_ + count * static_cast<int64_t>(sizeof(T)); }

   private:
    friend class StepUpload;
    const StepUpload* owner_ = nullptr;
    int64_t offset_ = 0;
  };

  StepUpload() = default;
  StepUpload(const StepUpload&) = delete;  // regions point here
  StepUpload& operator=(const StepUpload&) = delete;

  template <typename T>
  Region<T> Reserve(int64_t count) {
    TIDAL_CHECK(host_.data() == nullptr, "a region was reserved after the allocation");
    Region<T> region;
    region.owner_ = this;
    region.offset_ = bytes_;
    bytes_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), 256);
    return region;
  }
  Status Allocate() {
    TIDAL_ASSIGN_OR_RETURN(host_, PinnedBuffer::Create(bytes_, "the upload of a step"));
    TIDAL_ASSIGN_OR_RETURN(device_, DeviceBuffer::Create(bytes_, "the upload of a step"));
    return OkStatus();
  }
  // Enqueues the copy of the first `bytes` bytes. The host's regions must not change before it is
  // done.
  Status Send(int64_t bytes, cudaStream_t stream) const {
    return CudaStatus(cudaMemcpyAsync(device_.data(), host_.data(), static_cast<size_t>(bytes),
                                      cudaMemcpyHostToDevice, stream),
                      "uploading a step");
  }
  int64_t bytes() const { return bytes_; }

 private:
  PinnedBuffer host_;
  DeviceBuffer device_;
  int64_t bytes_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_UPLOAD_H_
