// What a machine's devices are listed as, or what one without a usable GPU is told.
#include "cuda/cuda_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidal {
namespace {

using testing::HasSubstr;

TEST(CudaDevicesTest, AreListedOrTheMessageSaysWhatIsNeeded) {
  const auto devices = ListCudaDevices();
  if (!devices.ok()) {
    EXPECT_EQ(devices.status().code(), StatusCode::kUnsupported);
    EXPECT_THAT(devices.status().message(), HasSubstr("an NVIDIA driver for CUDA "));
    EXPECT_THAT(devices.status().message(), HasSubstr("--device cpu"));
    return;
  }
  ASSERT_FALSE(devices->empty());
  for (const CudaDevice& device : *devices) {
    EXPECT_FALSE(device.name.empty());
    EXPECT_GE(device.compute_capability, 10);
    EXPECT_GT(device.memory_bytes, 0);
  }
}

}  // namespace
}  // namespace tidal
