// What happens to a step's rows between the products and attention: head norms, RoPE, the append of
// K and V to the cache, and the key index of the pages that they fill.
//
// Use: BeginStep; then Append in each layer, behind the products that give q, k and v. Nothing
// allocates in a step.
#ifndef TIDAL_CPU_STEP_APPEND_H_
#define TIDAL_CPU_STEP_APPEND_H_

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "cpu/cpu_activations.h"
#include "cpu/cpu_cache.h"
#include "cpu/cpu_executor.h"
#include "cpu/cpu_weights.h"
#include "cpu/elementwise.h"
#include "cpu/kernels.h"
#include "kv/page_pool.h"
#include "model/model.h"
#include "scheduler/step_batch.h"

namespace tidal {

// Threads: one, which shares rows out to the pool's.
class CpuStepAppend {
 public:
  // For steps within the options' limits. Kernels, pool and config outlive the object; of the
  // weights it keeps nothing.
  CpuStepAppend(const KernelTable& kernels, ThreadPool* pool, const ModelConfig& config,
                const CpuExecutorOptions& options, const CpuWeights& weights);

  // Where the batch's rows go, and their angles, to activations.cos and sin. The batch is alive and
  // unchanged until the step's last Append.
  void BeginStep(const StepBatch& batch, const CpuActivations& activations);

  // activations.q is normed and rotated in place, and so is k, which then goes to the layer's pages
  // with v. Where the K cache is q8_0, q and k are also scaled by channel (k_channel_scales.h).
  void Append(int32_t layer, const CpuLayerWeights& weights, const CpuActivations& activations,
              const CpuCache& cache) const;

 private:
  // A page that the step's rows fill.
  struct Seal {
    const StepSequence* sequence;
    int32_t page;  // of its table
  };

  // Brings each of num_heads heads to the RMS norm that the model wants; no weights: none.
  void NormHeads(const std::vector<float>& norm, int32_t num_heads, float* heads) const;
  // The keys of a row divided, its queries multiplied by the layer's K channel scales.
  void ScaleChannels(const std::vector<float>& scales, float* q, float* k) const;
  void SealPages(int32_t layer, const CpuCache& cache) const;

  const KernelTable& kernels_;
  ThreadPool* const pool_;
  const ModelConfig& config_;
  const RopeTable rope_;
  // [layer], empty unless the K cache is q8_0 and the model has a K bias.
  std::vector<std::vector<float>> k_scales_;
  const StepBatch* batch_ = nullptr;
  std::vector<const PageId*> row_page_table_;  // [rows]
  std::vector<Seal> seals_;
};

}  // namespace tidal

#endif  // TIDAL_CPU_STEP_APPEND_H_
