// The Executor on one CUDA device (Hopper first; sm_80 and newer can run it).
//
// One stream; every operation enqueues, Logits and EndStep wait. A step of decoded rows only that
// comes again is captured once as a CUDA graph and replayed: what changes from step to step lies in
// device memory (step_upload.h), never in launch parameters.
#ifndef TIDAL_CUDA_CUDA_EXECUTOR_H_
#define TIDAL_CUDA_CUDA_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/status.h"
#include "executor/executor.h"
#include "model/model.h"

namespace tidal {

struct CudaExecutorOptions {
  int32_t device = 0;  // in the driver's order
  Precision precision = Precision::kFast;
  CacheType cache_type = CacheType::kF16;  // of keys and values: not kQ8_0
  int32_t max_batch_tokens = 512;          // rows of a step
  int32_t max_sequences = 1;               // sequences of a step
  int32_t max_context = 0;                 // tokens of a sequence; 0: as many as the pool holds
  int32_t num_pages = 0;                   // of the KV pool
  // Which layers have a key index, [num_layers], nonzero: it has; empty: none. Of index_bits, 4 or
  // 2.
  std::vector<uint8_t> index_layers;
  int32_t index_bits = 4;
};

// Bytes of one KV page (all layers), and of its key index (of num_index_layers layers).
int64_t CudaKvPageBytes(const ModelConfig& config, CacheType cache_type);
int64_t CudaIndexPageBytes(const ModelConfig& config, int32_t num_index_layers, int32_t index_bits);

// What is free on a device, less what an executor of this model needs beside its cache: weights,
// activations and scratch. Errors: those of ListCudaDevices; kInvalidArgument: no such device.
Result<int64_t> CudaMemoryForCache(const Model& model, const CudaExecutorOptions& options);

// Copies the weights to the device (progress gets the share done) and reserves the cache there.
// `model` outlives the executor. Errors: kUnsupported (no device, an older one than sm_80, a cache
// type, a head_dim or a vocabulary that it has no kernels for), kOutOfMemory with the numbers.
Result<std::unique_ptr<Executor>> CreateCudaExecutor(const Model& model,
                                                     const CudaExecutorOptions& options,
                                                     const std::function<void(double)>& progress);

}  // namespace tidal

#endif  // TIDAL_CUDA_CUDA_EXECUTOR_H_
