// The Executor on CPU cores: portable C++, AVX2 or AVX-512, chosen when it is made.
#ifndef TIDAL_CPU_CPU_EXECUTOR_H_
#define TIDAL_CPU_CPU_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/status.h"
#include "executor/executor.h"
#include "model/model.h"

namespace tidal {

struct CpuExecutorOptions {
  int32_t num_threads = 1;
  Isa isa = Isa::kAuto;
  Precision precision = Precision::kFast;
  CacheType k_cache_type = CacheType::kF16;
  CacheType v_cache_type = CacheType::kF16;
  int32_t max_batch_tokens = 512;  // rows of a step
  int32_t max_sequences = 1;       // sequences of a step
  int32_t max_context = 0;         // tokens of a sequence; 0: as many as the pool holds
  int32_t num_pages = 0;           // of the KV pool
  // Which layers have a key index, [num_layers], nonzero: it has; empty: none. Of index_bits, 4 or
  // 2.
  std::vector<uint8_t> index_layers;
  int32_t index_bits = 4;
};

// Bytes of one KV page (all layers) under these options, before anything is allocated.
Result<int64_t> CpuKvPageBytes(const ModelConfig& config, CacheType k_cache_type,
                               CacheType v_cache_type);
// Bytes of the key index of one page, of num_index_layers layers.
int64_t CpuIndexPageBytes(const ModelConfig& config, int32_t num_index_layers, int32_t index_bits);

// Packs the weights (progress gets the share done) and reserves the cache: address space at once,
// memory as pages are first written. `model` outlives the executor: embeddings are read from its
// mapping. Errors: kUnsupported (an ISA that this machine lacks, naming those it has),
// kOutOfMemory.
Result<std::unique_ptr<Executor>> CreateCpuExecutor(const Model& model,
                                                    const CpuExecutorOptions& options,
                                                    const std::function<void(double)>& progress);

}  // namespace tidal

#endif  // TIDAL_CPU_CPU_EXECUTOR_H_
