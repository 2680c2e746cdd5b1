// For tests of device code: arrays on the device, and a fixture that says loudly where there is
// none.
#ifndef TIDAL_CUDA_DEVICE_TESTING_H_
#define TIDAL_CUDA_DEVICE_TESTING_H_

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <vector>

#include "base/check.h"
#include "cuda/device_buffer.h"

namespace tidal {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : count_(values.size()) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    Result<DeviceBuffer> buffer = DeviceBuffer::Create(bytes, "a test's array");
    TIDAL_CHECK(buffer.ok(), "{}", buffer.status().message());
    buffer_ = std::move(buffer).value();
    Write(values);
  }
  // As many as there are.
  void Write(const std::vector<T>& values) {
    TIDAL_CHECK(values.size() == count_, "{} values for {}", values.size(), count_);
    if (count_ == 0) return;
    const cudaError_t error =
        cudaMemcpy(buffer_.data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
    TIDAL_CHECK(error == cudaSuccess, "{}", cudaGetErrorString(error));
  }
  T* data() const { return buffer_.as<T>(); }
  std::vector<T> Read() const {
    std::vector<T> values(count_);
    const cudaError_t error =
        cudaMemcpy(values.data(), buffer_.data(), count_ * sizeof(T), cudaMemcpyDeviceToHost);
    TIDAL_CHECK(error == cudaSuccess, "{}", cudaGetErrorString(error));
    return values;
  }

 private:
  size_t count_;
  DeviceBuffer buffer_;
};

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
      GTEST_SKIP() << "SKIPPED: no CUDA device (" << cudaGetErrorString(error)
                   << "); run scripts/test_cuda.sh on a machine with one";
    }
  }
};

}  // namespace tidal

#endif  // TIDAL_CUDA_DEVICE_TESTING_H_
