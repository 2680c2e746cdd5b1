// The CUDA devices of this machine. Built with TIDAL_CUDA it asks the driver; without, disabled.cc
// says so.
#ifndef TIDAL_CUDA_CUDA_DEVICES_H_
#define TIDAL_CUDA_CUDA_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace tidal {

struct CudaDevice {
  std::string name;                // "NVIDIA H100 80GB HBM3"
  int32_t compute_capability = 0;  // 90: sm_90
  int64_t memory_bytes = 0;
};

// In the driver's order, so that an entry's index is the N of --device cuda:N. kUnsupported: this
// build has no CUDA, or there is no driver or no device (with the driver's own words, the driver
// that is needed and the one that is there).
Result<std::vector<CudaDevice>> ListCudaDevices();

// GB/s (1e9 bytes) of summing up to 8 GiB of the device's memory, the best of several passes; takes
// some ten milliseconds. REQUIRES: a device of the list. Errors: kOutOfMemory where less than 1 GiB
// is free, those of the device.
Result<double> MeasureCudaReadGbps(int32_t device);

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_DEVICES_H_
