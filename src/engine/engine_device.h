// Which backend an engine runs on: the only place that knows all of them.
#ifndef TIDAL_ENGINE_ENGINE_DEVICE_H_
#define TIDAL_ENGINE_ENGINE_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "engine/engine.h"
#include "engine/key_index_choice.h"
#include "executor/executor.h"
#include "model/model.h"

namespace tidal {

// kInvalidArgument for a --device that is none, kUnsupported for one that this build or machine has
// not.
Status CheckDevice(const std::string& device);
// The driver's name for a device that CheckDevice accepts; empty for the CPU. Errors as
// CheckDevice.
Result<std::string> DeviceName(const std::string& device);

// GB/s at which a device other than the CPU reads its memory; needs some that is free. REQUIRES:
// CheckDevice accepts it. Errors: as MeasureCudaReadGbps.
Result<double> MeasureDeviceReadGbps(const std::string& device);

// What a cache can have of the device's memory.
struct CacheRoom {
  int64_t kv_page_bytes = 0;
  int64_t index_page_bytes = 0;
  int64_t available_bytes = 0;  // of memory, weights and all
  int64_t num_pages = 0;        // that fit beside the weights
};
// Errors: kUnsupported for cache types that the device has not, those of the device.
Result<CacheRoom> MeasureRoom(const EngineOptions& options, const Model& model,
                              const KeyIndexChoice& index);

// The executor that options.device names, of num_pages pages and steps of max_batch_tokens rows.
// Errors as CreateCpuExecutor and CreateCudaExecutor.
Result<std::unique_ptr<Executor>> CreateExecutor(const EngineOptions& options, const Model& model,
                                                 const KeyIndexChoice& index, int32_t num_pages,
                                                 int32_t max_batch_tokens,
                                                 const std::function<void(double)>& progress);

}  // namespace tidal

#endif  // TIDAL_ENGINE_ENGINE_DEVICE_H_
