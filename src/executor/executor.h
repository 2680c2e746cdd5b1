// What a backend does for a transformer step: a handful of coarse operations, so that each backend
// fuses as it likes.
//
// An executor owns everything that lives on its device: packed weights, activations, the KV cache's
// memory, threads or streams. Operations of one step are issued in order by one thread and may be
// asynchronous: a CPU runs each at once, a device enqueues it. A failure inside one is kept and
// returned by EndStep. How CUDA and sparse plans fit: docs/architecture.md.
#ifndef TIDAL_EXECUTOR_EXECUTOR_H_
#define TIDAL_EXECUTOR_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "executor/options.h"
#include "scheduler/step_batch.h"

namespace tidal {

// What a row's attention reads.
enum class AttendTo : uint8_t {
  kEverything,  // all visible tokens
  kSets,        // the sets that Choose left for the sequence in this step
};

// What a sparse or full row did, after its step.
struct RowReport {
  // The least over the row's selection layers of the mean over their sets (and the heads of each)
  // of the probability, by that layer's scorer, that falls inside the set. 1 in a full row, NaN
  // where the scorer gives no probabilities.
  float selected_mass = 1;
  // [LayerRole]: tokens attended, summed over the layers of that role (in each the mean over its
  // sets), and how many layers those are.
  double tokens_attended[kNumLayerRoles] = {};
  int32_t layers[kNumLayerRoles] = {};
};

// Whether steps tell the time of attention by part. A device would have to keep the parts of a step
// apart for it.
enum class PartTiming : uint8_t {
  kWhereFree,  // as on the CPU
  kAlways,     // in slower steps where need be
};

// Time and bytes of the steps since the last TakeProfile. Milliseconds of wall time; bytes as the
// kernels walked them.
struct ExecutorProfile {
  // Attention by part, where it is timed (PartTiming): scoring keys, merging heads (softmax sums
  // included), top-k, attention over sets, attention over everything.
  double scan_ms = 0;
  double merge_ms = 0;
  double top_k_ms = 0;
  double gather_ms = 0;
  double full_ms = 0;
  double role_ms[kNumLayerRoles] = {};  // the same time by the layer's role
  double logits_ms = 0;
  int64_t weight_bytes = 0;
  int64_t scan_bytes = 0;    // keys, indexes and bounds read to score
  int64_t gather_bytes = 0;  // K and V of sets
  int64_t full_bytes = 0;    // K and V of everything

  double attention_ms() const { return scan_ms + merge_ms + top_k_ms + gather_ms + full_ms; }
  int64_t bytes() const { return weight_bytes + scan_bytes + gather_bytes + full_bytes; }
};

struct ExecutorMemory {
  int64_t weight_bytes = 0;      // packed copies
  int64_t kv_bytes = 0;          // reserved for all pages
  int64_t kv_page_bytes = 0;     // of one page, all layers
  int64_t index_bytes = 0;       // of the key index, for all pages
  int64_t index_page_bytes = 0;  // of one page, all layers that have one
  int64_t set_bytes = 0;         // of the arenas that hold sets, scores and kept state
};

// What the bytes of a page mean outside of the pool. Executors of one model that give the same text
// read each other's pages.
struct PageFormat {
  std::string kv;           // names layout, types and counts; empty: pages cannot be taken out
  int64_t kv_bytes = 0;     // of one page, all layers
  std::string index;        // the same of the key index; empty: there is none
  int64_t index_bytes = 0;  // of one page, all layers that have one
};

class Executor {
 public:
  virtual ~Executor() = default;

  // Starts a step. The batch is alive and unchanged until EndStep. REQUIRES: 1 <= rows <= the limit
  // given at creation, tokens within the vocabulary, page ids within the pool.
  virtual Status BeginStep(const StepBatch& batch) = 0;
  // Rows of the residual stream from the token embeddings.
  virtual void Embed() = 0;
  // Norm, Q, K and V with their biases, RoPE; appends K and V to the cache (and seals the key index
  // of full pages).
  virtual void AttentionInputs(int32_t layer) = 0;
  // Scores the visible keys for the rows of these sequences (indexes into batch.sequences) and
  // leaves their sets for this layer and those that reuse it. REQUIRES: each sequence has a plan
  // that was prepared for its state and selects in this layer.
  virtual void Choose(int32_t layer, std::span<const int32_t> sequences) = 0;
  // Attention of the rows of these sequences; each row is attended exactly once per layer.
  virtual void Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) = 0;
  // Output projection, added to the residual stream.
  virtual void AttentionOutput(int32_t layer) = 0;
  // Norm, gate and up, SiLU, down, added to the residual stream.
  virtual void FeedForward(int32_t layer) = 0;
  // Final norm and vocabulary logits of some of the batch's rows, to host memory [rows.size(),
  // vocab_size]. Synchronous: an error is that of the first operation of the step that failed.
  // REQUIRES: at most max_logit_rows() rows; in the order of batch.logit_rows.
  virtual Status Logits(std::span<const int32_t> rows, float* logits) = 0;
  // The best logits of some of the batch's rows, where nothing else of them is wanted: lists[i] is
  // what ListBest makes of the logits of rows[i], the softmax to float32's rounding. Otherwise as
  // Logits, which comes first where a step wants both; in the order of batch.candidate_rows.
  // `scratch` [rows.size(), vocab_size] holds nothing afterwards.
  virtual Status BestCandidates(std::span<const CandidateRow> rows, float* scratch,
                                CandidateList* lists) = 0;
  // Waits for the step's work. The error of the first operation that failed, if any.
  virtual Status EndStep() = 0;

  // Of each of the batch's sequences in order; valid from EndStep to the next BeginStep.
  virtual std::span<const RowReport> reports() const = 0;
  // The selected mass [layers] of the row of batch.sequences[sequence], NaN in layers that chose
  // nothing and where the scorer gives none; valid as reports() is.
  virtual std::span<const float> layer_masses(int32_t sequence) const = 0;

  // Makes room for what rows with this plan need beside the step's arenas, so that no step
  // allocates. Called between steps, before the first row of a sequence with selection state
  // `state`. kUnsupported says why such rows cannot run here, kOutOfMemory how much they need.
  virtual Status PreparePlan(int32_t state, const AttentionPlan& plan) = 0;

  // Pages to and from the host, so that a prompt can be saved. Called between steps; synchronous.
  // An executor that does without them leaves them as they are here: then no prompt is saved.
  virtual PageFormat page_format() const { return {}; }
  // Writes out the first num_tokens (1 to kPageSize) tokens of a page. Behind them are zeros:
  // nobody else's tokens that were in the page before get out. The index of a page that is not full
  // is zeros too. REQUIRES: kv.size() is kv_bytes, index.size() index_bytes. Errors: kUnsupported,
  // those of the device.
  virtual Status ReadPage(PageId page, int32_t num_tokens, std::span<std::byte> kv,
                          std::span<std::byte> index) {
    return Unsupported("this device cannot hand out its cache");
  }
  // The reverse. An empty `index` is computed from the keys where the cache has one and the page is
  // full.
  virtual Status WritePage(PageId page, int32_t num_tokens, std::span<const std::byte> kv,
                           std::span<const std::byte> index) {
    return Unsupported("this device cannot take in a cache");
  }

  virtual int32_t max_logit_rows() const = 0;
  virtual ExecutorMemory memory() const = 0;
  virtual ExecutorProfile TakeProfile() = 0;
  // For the steps from now on; kWhereFree at first.
  virtual void SetPartTiming(PartTiming) {}
};

}  // namespace tidal

#endif  // TIDAL_EXECUTOR_EXECUTOR_H_
