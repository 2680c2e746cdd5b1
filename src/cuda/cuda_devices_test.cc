// What a machine without a usable GPU is told.
#include "cuda/cuda_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidal {
namespace {

using testing::HasSubstr;

TEST(CudaDevicesTest, WithoutOneTheMessageSaysWhatIsNeeded) {
  const auto devices = ListCudaDevices();
  if (devices.ok()) {
    EXPECT_FALSE(devices->empty());
    GTEST_SKIP() << "NOT TESTED: there are CUDA devices here";
  }
  EXPECT_EQ(devices.status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(devices.status().message(), HasSubstr("an NVIDIA driver for CUDA "));
  EXPECT_THAT(devices.status().message(), HasSubstr("--device cpu"));
}

}  // namespace
}  // namespace tidal
