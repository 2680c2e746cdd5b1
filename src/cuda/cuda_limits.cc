#include "cuda/cuda_limits.h"

#include <algorithm>
#include <cuda_runtime_api.h>
#include <vector>

#include "cuda/candidates.h"
#include "cuda/cuda_activations.h"
#include "cuda/cuda_devices.h"
#include "cuda/cuda_status.h"
#include "cuda/cuda_weights.h"
#include "cuda/key_index.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

constexpr int32_t kMinComputeCapability = 80;
constexpr int32_t kMaxHeadDim = 256;
// Left to the driver and to cuBLAS when a cache is sized to the memory that there is.
constexpr int64_t kMemoryReserveBytes = int64_t{1} << 30;
constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

int64_t ElementBytes(CacheType type) {
  if (type == CacheType::kF32) return 4;
  return type == CacheType::kF8e4m3 ? 1 : 2;
}

int64_t WeightBytes(const Model& model) {
  int64_t bytes = 0;
  model.ForEachWeight([&](const TensorView& view) {
    bytes +=
        view.rows == 1 ? view.cols * kFloat : DeviceMatrixBytes(view.dtype, view.rows, view.cols);
  });
  return bytes;
}

}  // namespace

DeviceKv KvShape(const ModelConfig& config, CacheType type) {
  DeviceKv kv;
  kv.row_bytes = static_cast<int32_t>(config.head_dim * ElementBytes(type));
  kv.v_offset = kPageSize * int64_t{kv.row_bytes};
  kv.scales_offset = 2 * kv.v_offset;
  kv.kv_head_bytes =
      kv.scales_offset + (type == CacheType::kF8e4m3 ? kPageSize * int64_t{kTokenScaleBytes} : 0);
  kv.page_bytes = config.num_kv_heads * kv.kv_head_bytes;
  kv.head_dim = config.head_dim;
  kv.num_kv_heads = config.num_kv_heads;
  kv.type = type;
  return kv;
}

int64_t CudaKvPageBytes(const ModelConfig& config, CacheType cache_type) {
  return config.num_layers * KvShape(config, cache_type).page_bytes;
}

int64_t CudaIndexPageBytes(const ModelConfig& config, int32_t num_index_layers,
                           int32_t index_bits) {
  if (num_index_layers == 0) return 0;
  return num_index_layers * DeviceIndexPageBytes(config.num_kv_heads, config.head_dim, index_bits);
}

Status CheckCudaDevice(const Model& model, const CudaExecutorOptions& options) {
  TIDAL_ASSIGN_OR_RETURN(const std::vector<CudaDevice> devices, ListCudaDevices());
  if (options.device < 0 || static_cast<size_t>(options.device) >= devices.size()) {
    return InvalidArgument("--device is cuda:{}, but this machine has {} CUDA devices",
                           options.device, devices.size());
  }
  const CudaDevice& device = devices[static_cast<size_t>(options.device)];
  if (device.compute_capability < kMinComputeCapability) {
    return Unsupported("--device cuda:{} is {} (sm_{}), expected sm_{} or newer", options.device,
                       device.name, device.compute_capability, kMinComputeCapability);
  }
  if (options.cache_type == CacheType::kQ8_0) {
    return Unsupported(
        "a q8_0 KV cache is for the CPU; with --device cuda use f16, bf16, f32 or f8e4m3");
  }
  const int32_t head_dim = model.config().head_dim;
  if (head_dim % 16 != 0 || head_dim > kMaxHeadDim) {
    return Unsupported("{}: head_dim is {}, with --device cuda expected a multiple of 16 up to {}",
                       model.path(), head_dim, kMaxHeadDim);
  }
  if (model.config().vocab_size > kMaxCandidateCols) {
    return Unsupported("{}: the vocabulary has {} tokens, with --device cuda expected up to {}",
                       model.path(), model.config().vocab_size, kMaxCandidateCols);
  }
  return OkStatus();
}

Result<int64_t> CudaMemoryForCache(const Model& model, const CudaExecutorOptions& options) {
  TIDAL_RETURN_IF_ERROR(CheckCudaDevice(model, options));
  TIDAL_RETURN_IF_CUDA_ERROR(cudaSetDevice(options.device));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  const ModelConfig& config = model.config();
  const int64_t rows = std::max(options.max_batch_tokens, kMaxCudaLogitRows);
  const int64_t logits = kMaxCudaLogitRows * int64_t{config.vocab_size} * kFloat;
  // A widened matrix and 16-bit rows.
  const int64_t scratch = SizesOf(model.weights()).max_elems * kFloat;
  return static_cast<int64_t>(free_bytes) - WeightBytes(model) -
         CudaActivations::Bytes(config, rows) - logits - scratch - kMemoryReserveBytes;
}

}  // namespace tidal
