// Attention of a ragged batch of query rows over the paged KV cache, on CPU threads: over all
// visible tokens, or over the sets that were chosen for a decoded row.
//
// What      out row = softmax(q . K * attn_scale) V over all visible tokens, causal within a
//           sequence's new rows, or over exactly the tokens of a set. Each K and V row is read once
//           for all query heads of its KV head that share the set.
// Shapes    q, out: float32 [rows][num_heads][head_dim]. Cache: KvLayout, any mix of types.
// Split     a sequence with few rows (decode) is cut along its tokens into chunks, one work item
//           per (KV head, chunk), merged in chunk order; with many rows (prefill) into tiles of
//           kTileRows rows. Where to cut depends on the sequence's own q_len and kv_len only.
// Bytes     KvLayout::ReadBytes(kv_len) per sequence and layer for decode; prefill reads that once
//           per tile; over sets ReadBytes(count) / num_kv_heads for each KV head and set it uses.
// Numerics  float32 products, sums and softmax. A sequence's result is bitwise the same on any
//           number of threads, alone or in any batch, wherever its pages lie; it depends on the ISA
//           and on how its rows are cut into steps, to within rounding. A set of all tokens in
//           ascending order gives the bits of a decoded row over everything. NaN and infinity in
//           visible cache rows propagate; memory that is not visible is not looked at.
// Oracle    float64 attention in attention_test.cc; bench: bench/attention_bench.cc.
#ifndef TIDAL_CPU_ATTENTION_H_
#define TIDAL_CPU_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"
#include "cpu/kv_layout.h"
#include "scheduler/step_batch.h"

namespace tidal {

// The rows of one sequence in a step.
struct AttendSeq {
  int32_t row_begin = 0;  // its first row in q and out
  int32_t q_len = 0;      // rows: the sequence's newest tokens
  int32_t kv_len = 0;     // tokens readable, the new ones included; row i sees the first
                          // kv_len - q_len + i + 1
  const int32_t* page_table = nullptr;  // [ceil(kv_len / kPageSize)] page ids
  // A decoded row over sets: one for all heads, one per KV head, or one per head. Empty: over
  // everything.
  std::span<const SlotSet> sets;
  const int32_t* headmap = nullptr;  // with a set per KV head: [num_kv_heads] the set of each
};

struct CpuAttentionOptions {
  const KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  KvLayout layout;
  int32_t num_heads = 0;
  float attn_scale = 0;
  int32_t max_rows = 0;  // of a step
};

class CpuAttention {
 public:
  // Kernels and pool must outlive the object. kUnsupported where head_dim is no multiple of 8 or
  // above kMaxHeadDim, kInvalidArgument where the KV heads do not divide num_heads or a count is
  // not positive, kOutOfMemory for the scratch.
  static Result<std::unique_ptr<CpuAttention>> Create(const CpuAttentionOptions& options);

  // Cuts a batch into work items; the runs that follow use them, until the next Plan. The page
  // tables must live as long. Allocates only where a batch needs more than every one before it
  // (longer contexts, more sequences): kOutOfMemory, and no plan, where that fails. REQUIRES: 1 <=
  // q_len <= kv_len, rows within max_rows, no row in two sequences; with sets: q_len 1 and at most
  // kMaxDecodeRows heads to a KV head.
  Status Plan(std::span<const AttendSeq> sequences);

  // One layer: page p of it lies at layer_base + p * page_bytes, 64-byte aligned. Writes the
  // planned rows of `out` and no others. One caller at a time.
  void Run(const std::byte* layer_base, const float* q, float* out);

  // Bytes of K and V that a run of the plan has to read: of sequences over everything once each, of
  // sets as they are walked.
  int64_t planned_bytes() const { return planned_bytes_; }

 private:
  // Rows of one KV head of one sequence that are computed together, and their cut along the tokens.
  struct Tile {
    int32_t sequence;
    int32_t kv_head;
    int32_t first_row;  // row r: query token r / gqa_ratio, head r % gqa_ratio of the group
    int32_t num_rows;
    const int32_t* slots;  // of the set; null: everything
    int32_t num_tokens;    // of the set, or that its last row sees
    int32_t chunk_tokens;
    int32_t num_chunks;
    int32_t chunks_left;  // of the current run; whoever takes it to 0 merges
    int64_t parts_begin;  // in parts_: [num_rows][num_chunks], where num_chunks > 1
  };
  struct Item {
    int32_t tile;
    int32_t chunk;
    int64_t cost;
  };
  // Where a thread keeps what it works on; all in scratch_.
  struct Scratch {
    float* packed;
    float* keys;
    float* values;
    float* scores;
    float* out;
    float* alpha;
    SoftmaxState state;
    int32_t* visible;
  };

  explicit CpuAttention(const CpuAttentionOptions& options);
  Status AllocateScratch();
  Status ReserveParts(int64_t num_parts);
  bool IsDecode(const AttendSeq& sequence) const;
  int64_t AddTiles(int32_t sequence, int64_t num_parts);
  int64_t AddSetTiles(int32_t sequence, int64_t num_parts);
  int64_t AddTile(Tile tile, int32_t chunk_tokens, int64_t num_parts);

  void RunItem(int64_t index, const std::byte* layer_base, const float* q, float* out,
               const Scratch& scratch);
  // The tile's KV head in the page that holds `pos`.
  const uint8_t* PartAt(const Tile& tile, int32_t pos, const std::byte* layer_base) const;
  const uint8_t* FirstPart(const Item& item, const std::byte* layer_base) const;
  // `after`: what is attended next, to be asked for in time; may be null.
  void AttendBlocks(const Tile& tile, int32_t begin, int32_t end, const std::byte* layer_base,
                    const uint8_t* after, const Scratch& scratch) const;
  // The same over the set's tokens begin .. end - 1.
  void AttendSet(const Tile& tile, int32_t begin, int32_t end, const Item* after,
                 const std::byte* layer_base, const Scratch& scratch) const;
  void AttendBlock(const Tile& tile, const CacheBlock& keys, const CacheBlock& values,
                   const Scratch& scratch) const;
  void KeepPart(const Tile& tile, int32_t chunk, const Scratch& scratch);
  void MergeTile(const Tile& tile, float* out) const;
  float* OutputRow(const Tile& tile, int32_t row, float* out) const;

  const AttentionKernels& kernels_;
  ThreadPool* const pool_;
  const KvLayout layout_;
  const int32_t num_heads_;
  const int32_t gqa_ratio_;
  const int32_t head_dim_;
  const int64_t padded_head_dim_;
  const float attn_scale_;
  const int32_t max_rows_;

  std::vector<AttendSeq> sequences_;
  std::vector<Tile> tiles_;
  std::vector<Item> items_;
  AlignedBuffer scratch_memory_;
  std::vector<Scratch> scratch_;  // [threads]
  int64_t planned_bytes_ = 0;
  AlignedBuffer part_memory_;
  int64_t max_parts_ = 0;
  float* parts_ = nullptr;         // [max_parts_][padded head_dim]
  SoftmaxState part_states_ = {};  // [max_parts_]
};

}  // namespace tidal

#endif  // TIDAL_CPU_ATTENTION_H_
