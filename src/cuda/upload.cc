#include "cuda/upload.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/math.h"
#include "base/thread_pool.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"
#include "cuda/pack.h"
#include "cuda/weight_layout.h"
#include "quant/dtype.h"

namespace tidal {
namespace {

// Large enough that starting a copy costs nothing beside it, small against a card's memory.
constexpr int64_t kBufferBytes = int64_t{32} << 20;
constexpr int64_t kCopyGrain = int64_t{1} << 20;  // bytes that a thread copies at a time
constexpr int kMaxThreads = 8;                    // more do not copy faster

class WeightUploadImpl : public WeightUpload {
 public:
  WeightUploadImpl() : threads_(std::min(UsableCores(), kMaxThreads)) {}
  ~WeightUploadImpl() override {
    (void)cudaStreamSynchronize(stream_);  // the buffers below may be in use
    for (Buffer& buffer : buffers_) {
      if (buffer.done != nullptr) (void)cudaEventDestroy(buffer.done);
    }
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }

  Status Init() {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    for (Buffer& buffer : buffers_) {
      TIDAL_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&buffer.done, cudaEventDisableTiming));
    }
    return OkStatus();
  }

  Status Upload(DType dtype, int64_t rows, int64_t cols, const std::byte* source,
                uint8_t* device) override {
    const int64_t row_bytes = BytesOf(dtype, cols);
    const int64_t slice_rows = std::max<int64_t>(
        kBufferBytes / std::max<int64_t>(row_bytes, 1) / kTileRows * kTileRows, kTileRows);
    for (int64_t row = 0; row < rows; row += slice_rows) {
      const int64_t num_rows = std::min(slice_rows, rows - row);
      Buffer& buffer = buffers_[next_];
      next_ = (next_ + 1) % buffers_.size();
      TIDAL_RETURN_IF_ERROR(Fill(source + row * row_bytes, num_rows * row_bytes, &buffer));
      TIDAL_RETURN_IF_ERROR(IsTiled(dtype) ? SendTiles(dtype, row, num_rows, cols, buffer, device)
                                           : SendRows(dtype, row, num_rows, cols, buffer, device));
      TIDAL_RETURN_IF_CUDA_ERROR(cudaEventRecord(buffer.done, stream_));
    }
    return OkStatus();
  }

  Status Finish() override {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_));
    for (Buffer& buffer : buffers_) {
      buffer.host = PinnedBuffer();
      buffer.device = DeviceBuffer();
    }
    return OkStatus();
  }

 private:
  struct Buffer {
    PinnedBuffer host;
    DeviceBuffer device;  // blocks as files have them, for tiles
    cudaEvent_t done = nullptr;
  };

  // Waits until the buffer is free, then copies `bytes` bytes of the file there.
  Status Fill(const std::byte* source, int64_t bytes, Buffer* buffer) {
    TIDAL_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(buffer->done));
    if (buffer->host.bytes() < bytes) {
      TIDAL_ASSIGN_OR_RETURN(buffer->host, PinnedBuffer::Create(std::max(bytes, kBufferBytes),
                                                                "the upload of weights"));
    }
    std::byte* to = buffer->host.data();
    threads_.ParallelFor(CeilDiv(bytes, kCopyGrain), 1, [&](int64_t begin, int64_t end, int) {
      const int64_t first = begin * kCopyGrain;
      const int64_t count = std::min(end * kCopyGrain, bytes) - first;
      std::memcpy(to + first, source + first, static_cast<size_t>(count));
    });
    return OkStatus();
  }

  Status SendTiles(DType dtype, int64_t row, int64_t num_rows, int64_t cols, Buffer& buffer,
                   uint8_t* device) {
    const int64_t bytes = BytesOf(dtype, num_rows * cols);
    if (buffer.device.bytes() < bytes) {
      TIDAL_ASSIGN_OR_RETURN(buffer.device, DeviceBuffer::Create(std::max(bytes, kBufferBytes),
                                                                 "the upload of weights"));
    }
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(buffer.device.data(), buffer.host.data(),
                                               static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                                               stream_));
    uint8_t* tiles = device + row / kTileRows * TileBytes(dtype, cols);
    return CudaStatus(PackTiles(dtype, buffer.device.as<uint8_t>(), num_rows, cols, tiles, stream_),
                      "re-arranging weights");
  }

  Status SendRows(DType dtype, int64_t row, int64_t num_rows, int64_t cols, const Buffer& buffer,
                  uint8_t* device) {
    const auto row_bytes = static_cast<size_t>(BytesOf(dtype, cols));
    const auto pitch = static_cast<size_t>(FloatRowBytes(dtype, cols));
    uint8_t* to = device + static_cast<size_t>(row) * pitch;
    const auto count = static_cast<size_t>(num_rows);
    if (row_bytes == pitch) {
      return CudaStatus(
          cudaMemcpyAsync(to, buffer.host.data(), count * pitch, cudaMemcpyHostToDevice, stream_),
          "uploading weights");
    }
    TIDAL_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(to, 0, count * pitch, stream_));
    return CudaStatus(cudaMemcpy2DAsync(to, pitch, buffer.host.data(), row_bytes, row_bytes, count,
                                        cudaMemcpyHostToDevice, stream_),
                      "uploading weights");
  }

  ThreadPool threads_;
  cudaStream_t stream_ = nullptr;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

}  // namespace

Result<std::unique_ptr<WeightUpload>> WeightUpload::Create() {
  auto upload = std::make_unique<WeightUploadImpl>();
  TIDAL_RETURN_IF_ERROR(upload->Init());
  return std::unique_ptr<WeightUpload>(std::move(upload));
}

}  // namespace tidal
