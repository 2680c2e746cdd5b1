#include "engine/engine_device.h"

#include <algorithm>
#include <string_view>

#include "base/system_memory.h"
#include "cpu/cpu_executor.h"
#include "cuda/cuda_devices.h"
#include "cuda/cuda_executor.h"

namespace tidal {
namespace {

constexpr std::string_view kCpu = "cpu";
constexpr std::string_view kCuda = "cuda";

// Left to the rest of the program and the system when a context is sized to the memory that there
// is.
constexpr int64_t kMemoryReserveBytes = int64_t{256} << 20;

// The N of "cuda:N"; 0 for "cuda". REQUIRES: well formed.
int32_t CudaIndexOf(const std::string& device) {
  return device == kCuda ? 0 : std::stoi(device.substr(kCuda.size() + 1));
}

bool IsCuda(const std::string& device) {
  constexpr size_t kMaxDigits = 3;
  if (device == kCuda) return true;
  const size_t prefix = kCuda.size() + 1;
  return device.starts_with("cuda:") && device.size() > prefix &&
         device.size() <= prefix + kMaxDigits &&
         std::all_of(device.begin() + static_cast<int64_t>(prefix), device.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

Result<CudaExecutorOptions> CudaOptions(const EngineOptions& options, const KeyIndexChoice& index) {
  if (options.k_cache_type != options.v_cache_type) {
    return Unsupported(
        "--cache-type-k is {} and --cache-type-v {}; with --device {} keys and values have one "
        "type",
        NameOf(options.k_cache_type), NameOf(options.v_cache_type), options.device);
  }
  CudaExecutorOptions cuda;
  cuda.device = CudaIndexOf(options.device);
  cuda.precision = options.precision;
  cuda.cache_type = options.k_cache_type;
  cuda.max_batch_tokens = options.max_batch_tokens;
  cuda.max_sequences = options.max_sequences;
  cuda.index_layers = index.layers;
  cuda.index_bits = index.bits;
  return cuda;
}

}  // namespace

Status CheckDevice(const std::string& device) { return DeviceName(device).status(); }

Result<std::string> DeviceName(const std::string& device) {
  if (device == kCpu) return std::string();
  if (!IsCuda(device))
    return InvalidArgument("--device is \"{}\", expected cpu, cuda or cuda:N", device);
  const auto devices = ListCudaDevices();
  if (!devices.ok()) return devices.status().Annotate("--device " + device);
  const auto index = static_cast<size_t>(CudaIndexOf(device));
  if (index >= devices->size()) {
    return InvalidArgument("--device is {}, but this machine has {} CUDA devices", device,
                           devices->size());
  }
  return (*devices)[index].name;
}

Result<double> MeasureDeviceReadGbps(const std::string& device) {
  return MeasureCudaReadGbps(CudaIndexOf(device));
}

Result<CacheRoom> MeasureRoom(const EngineOptions& options, const Model& model,
                              const KeyIndexChoice& index) {
  CacheRoom room;
  int64_t bytes = 0;
  if (options.device == kCpu) {
    TIDAL_ASSIGN_OR_RETURN(room.kv_page_bytes, CpuKvPageBytes(model.config(), options.k_cache_type,
                                                              options.v_cache_type));
    room.index_page_bytes = CpuIndexPageBytes(model.config(), index.num_layers(), index.bits);
    room.available_bytes = AvailableMemoryBytes();
    bytes = room.available_bytes - model.weight_bytes() - kMemoryReserveBytes;
  } else {
    TIDAL_ASSIGN_OR_RETURN(const CudaExecutorOptions cuda, CudaOptions(options, index));
    TIDAL_ASSIGN_OR_RETURN(bytes, CudaMemoryForCache(model, cuda));
    room.kv_page_bytes = CudaKvPageBytes(model.config(), cuda.cache_type);
    room.index_page_bytes = CudaIndexPageBytes(model.config(), index.num_layers(), index.bits);
    room.available_bytes = bytes + model.weight_bytes();
  }
  room.num_pages = std::max<int64_t>(bytes / (room.kv_page_bytes + room.index_page_bytes), 0);
  return room;
}

Result<std::unique_ptr<Executor>> CreateExecutor(const EngineOptions& options, const Model& model,
                                                 const KeyIndexChoice& index, int32_t num_pages,
                                                 int32_t max_batch_tokens,
                                                 const std::function<void(double)>& progress) {
  if (options.device != kCpu) {
    TIDAL_ASSIGN_OR_RETURN(CudaExecutorOptions cuda, CudaOptions(options, index));
    cuda.num_pages = num_pages;
    cuda.max_batch_tokens = max_batch_tokens;
    cuda.max_context = options.ctx_size;
    return CreateCudaExecutor(model, cuda, progress);
  }
  CpuExecutorOptions cpu;
  cpu.num_threads = options.num_threads;
  cpu.isa = options.isa;
  cpu.precision = options.precision;
  cpu.k_cache_type = options.k_cache_type;
  cpu.v_cache_type = options.v_cache_type;
  cpu.max_sequences = options.max_sequences;
  cpu.num_pages = num_pages;
  cpu.max_batch_tokens = max_batch_tokens;
  cpu.max_context = options.ctx_size;
  cpu.index_layers = index.layers;
  cpu.index_bits = index.bits;
  return CreateCpuExecutor(model, cpu, progress);
}

}  // namespace tidal
