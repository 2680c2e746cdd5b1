// What      Scores of all keys for all heads, and each head's softmax statistics by page.
// Shapes    q float32 [rows][num_heads][head_dim]; index and keys by page; scores
//           [pages][num_heads][64] f16 or float32 (KeptScores), page_max [pages][num_heads],
//           unit_stats [num_heads][units].
// Layout    key_index.cuh. A warp has a page and up to 8 heads of a KV head: it multiplies the
//           page's codes (64 tokens x head_dim, made f16) with the heads' queries times the
//           channels' steps (head_dim x 8) on the tensor cores and adds query . minimum.
// Launch    two blocks of 8 warps per multiprocessor, each with an equal run of units of 8 pages,
//           whatever kv_len is. While a warp works on a page's index its next one is on its way to
//           shared memory, and the one after that as soon as there is room: 2 * 8 * 4.6 KB a block
//           with 128 channels. The first two start before the kernel's inputs are there, where
//           earlier steps have written them. Warps do not wait for each other, but for the one of
//           them that sums up a unit.
// Bytes     KeyIndex bytes per sealed page and KV head, or 64 keys; written 2 or 4 bytes per token
//           and head.
// Speed     over 102,400 tokens, with a 4-bit index, 86 % of an H200's read rate with 32 KV heads,
//           65 % with 8.
// Numerics  codes exact in f16; query and query x step rounded to f16; float32 sums; query .
//           minimum with the query split in two halves, so that nothing of it is lost, and so keys
//           as stored, in halves of their own type. kF32: float32 throughout. Scores are kept times
//           log2(e), so that powers of two make probabilities. A sequence's scores do not depend on
//           the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cu.
#include "cuda/selection_score.cuh"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();
// Units whose pages' statistics a block keeps: warps are less than kUnitPages units apart, because
// each is in turn the one that waits for all others.
constexpr int32_t kKeptUnits = 2 * kUnitPages;

// --- Softmax

// Where a group's results go.
struct GroupOutput {
  uint8_t* scores;     // of page 0, the lane's first head and token
  int32_t page_bytes;  // from a page's scores to the next one's,
  int32_t head_bytes;  // and from a head's
  float* page_max;     // of page 0, the lane's first head
  float2* unit_stats;
  float2* stats;  // shared, [kKeptUnits][kUnitPages][kGroupHeads]
  int32_t first_head;
  int32_t num_heads;  // of the group
  int32_t all_heads;
  int32_t max_tokens;
  KeptScores kept_scores;
};

// The two heads and eight tokens that a lane has of a page's scores (PageScores).
__device__ __forceinline__ int32_t FirstColumn() {
  return static_cast<int32_t>(threadIdx.x % 4) * 2;
}
__device__ __forceinline__ int32_t FirstToken() {
  return static_cast<int32_t>(threadIdx.x % 32) / 4 * 8;
}

__device__ __forceinline__ GroupOutput OutputOf(const ChoiceLaunch& c, const ChoiceParams& params,
                                                int32_t first_head, int32_t num_heads,
                                                float2* stats) {
  const KeptScores kept = params.kept_scores;
  const int32_t head = first_head + FirstColumn();
  const int32_t bytes = kept == KeptScores::kHalfProbs ? 2 : 4;  // of a score
  const auto begin = [&](int32_t page, int64_t of_head) {
    return BeginOfPage(kept, page, of_head, c.num_heads, c.max_tokens) * bytes;
  };
  return {.scores = static_cast<uint8_t*>(params.scores) + begin(0, head) + FirstToken() * bytes,
          .page_bytes = static_cast<int32_t>(begin(1, 0)),
          .head_bytes = static_cast<int32_t>(begin(0, 1)),
          .page_max = params.page_max + head,
          .unit_stats = params.unit_stats,
          .stats = stats,
          .first_head = first_head,
          .num_heads = num_heads,
          .all_heads = c.num_heads,
          .max_tokens = c.max_tokens,
          .kept_scores = kept};
}

__device__ __forceinline__ void StoreFloats(const float (&values)[8], float* out) {
  reinterpret_cast<float4*>(out)[0] = {values[0], values[1], values[2], values[3]};
  reinterpret_cast<float4*>(out)[1] = {values[4], values[5], values[6], values[7]};
}

// A lane's tokens of a head.
__device__ __forceinline__ void StoreTokens(KeptScores kept, uint8_t* to, const float (&scores)[8],
                                            const float (&probs)[8]) {
  if (kept == KeptScores::kHalfProbs) {
    const __half2 halves[4] = {
        __floats2half2_rn(probs[0], probs[1]), __floats2half2_rn(probs[2], probs[3]),
        __floats2half2_rn(probs[4], probs[5]), __floats2half2_rn(probs[6], probs[7])};
    *reinterpret_cast<uint4*>(to) = {*reinterpret_cast<const uint32_t*>(&halves[0]),
                                     *reinterpret_cast<const uint32_t*>(&halves[1]),
                                     *reinterpret_cast<const uint32_t*>(&halves[2]),
                                     *reinterpret_cast<const uint32_t*>(&halves[3])};
    return;
  }
  const bool keeps_probs = kept == KeptScores::kFloatProbs;
  float floats[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) floats[i] = keeps_probs ? probs[i] : scores[i] * kLn2;
  StoreFloats(floats, reinterpret_cast<float*>(to));
}

// e^(score - maximum) of a page's first num_tokens tokens, and where it all goes.
template <bool kIsExact>
__device__ __forceinline__ void FinishPage(const GroupOutput& out, int32_t page, int32_t num_tokens,
                                           PageScores* scores, float2* stats) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int32_t first_token = FirstToken();
  uint8_t* to = out.scores + int64_t{page} * out.page_bytes;
  if (num_tokens < kTokensPerPage) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (first_token + i >= num_tokens) scores->of[0][i] = scores->of[1][i] = kMinusInfinity;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (h == 1 && out.num_heads == 1) break;
    const int32_t column = FirstColumn() + h;
    float(&s)[8] = scores->of[h];
    float most = s[0];
#pragma unroll
    for (int i = 1; i < 8; ++i) most = fmaxf(most, s[i]);
#pragma unroll
    for (int d = 4; d < 32; d *= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, d));
    float probs[8];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      probs[i] = kIsExact ? exp2f(s[i] - most) : FastExp2(s[i] - most);
      sum += probs[i];
    }
#pragma unroll
    for (int d = 4; d < 32; d *= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
    if (column >= out.num_heads) continue;
    StoreTokens(out.kept_scores, to + h * out.head_bytes, s, probs);
    if (lane >= 4) continue;
    stats[warp * kGroupHeads + column] = {most, sum};
    out.page_max[int64_t{page} * out.all_heads + h] = most;
  }
}

// Maximum and sum over the pages of a unit, by one lane per head.
__device__ __forceinline__ void FinishUnit(const GroupOutput& out, const float2* stats,
                                           int32_t unit) {
  const auto column = static_cast<int32_t>(threadIdx.x % 32);
  if (column >= out.num_heads) return;
  float most = kMinusInfinity;
#pragma unroll
  for (int w = 0; w < kUnitPages; ++w) most = fmaxf(most, stats[w * kGroupHeads + column].x);
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kUnitPages; ++w) {
    const float2 page = stats[w * kGroupHeads + column];
    if (page.x > kMinusInfinity) sum = fmaf(page.y, FastExp2(page.x - most), sum);
  }
  out.unit_stats[int64_t{out.first_head + column} * MaxUnits(out.max_tokens) + unit] = {most, sum};
}

// --- The kernel

struct ScanMemory {
  void* q;
  uint8_t* stages;  // [2][kUnitPages] of StageBytes
  float2* stats;    // [kKeptUnits][kUnitPages][kGroupHeads]
  int32_t* begins;  // [num_sequences + 1]
};
// Of a warp, for one page.
__host__ __device__ int32_t StageBytes(int32_t head_dim) {
  return static_cast<int32_t>(IndexKvHeadBytes(head_dim, 4));
}
__device__ __forceinline__ ScanMemory SplitMemory(uint8_t* memory, int32_t head_dim) {
  uint8_t* stages = memory + QueryBytes(head_dim);
  auto* stats = reinterpret_cast<float2*>(stages + 2 * kUnitPages * StageBytes(head_dim));
  return {memory, stages, stats,
          reinterpret_cast<int32_t*>(stats + kKeptUnits * kUnitPages * kGroupHeads)};
}
int32_t ScanSharedBytes(int32_t head_dim, int32_t num_sequences) {
  return QueryBytes(head_dim) + 2 * kUnitPages * StageBytes(head_dim) +
         kKeptUnits * kUnitPages * kGroupHeads * 8 + (num_sequences + 1) * 4;
}

// Consecutive units of one group of heads of a sequence.
struct UnitRun {
  int32_t sequence;
  int32_t kv_head;
  int32_t first_head;  // of the group
  int32_t num_heads;
  int32_t unit;
  int32_t num_units;
};

// The pages that a warp has of a run: one of each unit.
struct WarpPages {
  const ChoiceLaunch* c;
  ScanMemory memory;
  const int32_t* ids;  // of the sequence
  int32_t kv_len;
  int32_t kv_head;
  int32_t num_pages;      // of the sequence
  int32_t num_indexed;    // of them, from the first on
  int32_t num_untouched;  // of those, in this step
  int32_t first;          // of the warp

  __device__ __forceinline__ WarpPages(const ChoiceLaunch& launch, const UnitRun& run,
                                       const ScanMemory& scan_memory)
      : c(&launch), memory(scan_memory), kv_head(run.kv_head) {
    const DeviceSequence& where = launch.step.sequences[run.sequence];
    const bool has_index =
        launch.params[run.sequence].scorer != Scorer::kExact && launch.index.base != nullptr;
    ids = launch.step.page_ids + where.page_begin;
    kv_len = where.kv_len;
    num_pages = NumPages(kv_len);
    num_indexed = has_index ? kv_len / kTokensPerPage : 0;
    num_untouched = has_index ? (kv_len - where.q_len) / kTokensPerPage : 0;
    first = run.unit * kUnitPages + static_cast<int32_t>(threadIdx.x / 32);
  }
  // Of the run's unit i.
  __device__ __forceinline__ int32_t Page(int32_t i) const { return first + i * kUnitPages; }
  __device__ __forceinline__ int32_t Id(int32_t i) const {
    return Page(i) < num_pages ? ids[Page(i)] : 0;
  }
  __device__ __forceinline__ PageJob Job(int32_t i, int32_t page_id) const {
    const auto warp = static_cast<int32_t>(threadIdx.x / 32);
    uint8_t* stage = memory.stages + (i % 2 * kUnitPages + warp) * StageBytes(c->kv.head_dim);
    return {c, memory.q, stage, page_id, kv_head, Page(i) < num_indexed};
  }
};

// Barriers of the block that warps pass without waiting, but for the one that calls WaitForAll.
// Both order shared memory. 0 is __syncthreads.
__device__ __forceinline__ void ArriveAt(int32_t barrier) {
  asm volatile("barrier.cta.arrive %0, %1;" : : "r"(barrier), "n"(kScanThreads) : "memory");
}
__device__ __forceinline__ void WaitForAll(int32_t barrier) {
  asm volatile("barrier.cta.sync %0, %1;" : : "r"(barrier), "n"(kScanThreads) : "memory");
}

// A run with what its warp needs of it that no kernel of the step writes.
struct PreparedRun {
  UnitRun run;
  GroupOutput out;
  WarpPages pages;
  const float* q;       // of the group
  int32_t page_ids[2];  // of the warp's first pages

  __device__ __forceinline__ PreparedRun(const ChoiceLaunch& c, const UnitRun& unit_run,
                                         const ScanMemory& memory)
      : run(unit_run),
        out(OutputOf(c, c.params[run.sequence], run.first_head, run.num_heads, memory.stats)),
        pages(c, run, memory),
        q(QueryOf(c, run.sequence) + int64_t{run.first_head} * c.kv.head_dim),
        page_ids{pages.Id(0), pages.Id(1)} {}
};

// Starts the first pages of a run that no kernel of this step writes, two at most; returns their
// number. Of the warp.
template <typename PageScorer>
__device__ __forceinline__ int32_t FetchEarly(const PreparedRun& prepared) {
  const WarpPages& pages = prepared.pages;
  const int32_t num_units = prepared.run.num_units;
  if (num_units == 0 || pages.Page(0) >= pages.num_untouched) return 0;
  PageScorer::Fetch(pages.Job(0, prepared.page_ids[0]));
  EndCopies();
  if (num_units == 1 || pages.Page(1) >= pages.num_untouched) return 1;
  PageScorer::Fetch(pages.Job(1, prepared.page_ids[1]));
  return 2;
}

// num_early: pages of the warp that FetchEarly has started.
template <typename PageScorer>
__device__ __forceinline__ void ScanUnits(const ChoiceLaunch& c, const PreparedRun& prepared,
                                          int32_t num_early) {
  const UnitRun& run = prepared.run;
  const GroupOutput& out = prepared.out;
  const WarpPages& pages = prepared.pages;
  const auto warp = static_cast<int32_t>(threadIdx.x / 32);
  int32_t page_id = prepared.page_ids[0];
  int32_t next_id = prepared.page_ids[1];
  __syncthreads();  // what the last run left has been used
  if (num_early == 0) {
    PageScorer::Fetch(pages.Job(0, page_id));
    EndCopies();
  }
  PageScorer::LoadQueries(prepared.q, run.num_heads, c.kv.head_dim, c.attn_scale * kLog2E,
                          pages.memory.q);
  __syncthreads();
  if (run.num_units > 1 && num_early < 2) PageScorer::Fetch(pages.Job(1, next_id));
  EndCopies();
  for (int32_t i = 0; i < run.num_units; ++i) {
    float2* stats = out.stats + i % kKeptUnits * kUnitPages * kGroupHeads;
    const int32_t page = pages.Page(i);
    const PageJob job = pages.Job(i, page_id);
    page_id = next_id;
    next_id = pages.Id(i + 2);
    PageScores scores;
    WaitForCopies();
    if (page < pages.num_pages) PageScorer::Score(job, &scores);
    __syncwarp();  // all lanes have read the stage
    if (i + 2 < run.num_units) PageScorer::Fetch(pages.Job(i + 2, next_id));
    EndCopies();
    if (page < pages.num_pages) {
      FinishPage<PageScorer::kIsExact>(
          out, page, min(pages.kv_len - page * kTokensPerPage, kTokensPerPage), &scores, stats);
    } else if (threadIdx.x % 32 < kGroupHeads) {
      stats[warp * kGroupHeads + threadIdx.x % 32] = {kMinusInfinity, 0};
    }
    __syncwarp();
    const int32_t barrier = 1 + i % kUnitPages;
    if (warp != i % kUnitPages) {
      ArriveAt(barrier);
      continue;
    }
    WaitForAll(barrier);
    FinishUnit(out, stats, run.unit + i);
  }
}

template <typename PageScorer>
__global__ void __launch_bounds__(kScanThreads, 2)
    ScanKernel(const __grid_constant__ ChoiceLaunch c) {
  extern __shared__ uint4 shared[];
  const ScanMemory memory = SplitMemory(reinterpret_cast<uint8_t*>(shared), c.kv.head_dim);
  const int32_t groups_per_kv_head = (c.gqa_ratio + kGroupHeads - 1) / kGroupHeads;
  const int32_t num_groups = c.kv.num_kv_heads * groups_per_kv_head;
  if (c.fresh != nullptr) WaitForInputs();
  // A group begins with an item that is no unit: what it takes to start with other queries.
  const auto items_of = [&](int32_t s) {
    const int32_t items = num_groups * (NumUnits(c.step.sequences[s].kv_len) + 1);
    return GetsScores(c, s) ? items : 0;
  };
  BeginsOfSequences(c.step.num_sequences, items_of, memory.begins);
  const BlockShare share = ShareOfBlock(memory.begins[c.step.num_sequences]);
  // The run from an item on to the end of its group; moves the item behind it.
  const auto next_run = [&](int32_t* item) -> UnitRun {
    const int32_t s = SequenceOf(memory.begins, *item);
    const int32_t items = NumUnits(c.step.sequences[s].kv_len) + 1;
    const int32_t group = (*item - memory.begins[s]) / items;
    const int32_t place = (*item - memory.begins[s]) % items;
    const int32_t end = min(place + share.end - *item, items);
    *item += end - place;
    const int32_t kv_head = group / groups_per_kv_head;
    const int32_t first = group % groups_per_kv_head * kGroupHeads;
    const int32_t unit = max(place - 1, 0);
    return {.sequence = s,
            .kv_head = kv_head,
            .first_head = kv_head * c.gqa_ratio + first,
            .num_heads = min(c.gqa_ratio - first, kGroupHeads),
            .unit = unit,
            .num_units = end - 1 - unit};
  };
  if (share.begin >= share.end) {
    WaitForInputs();
    return;
  }
  int32_t item = share.begin;
  PreparedRun next(c, next_run(&item), memory);
  int32_t num_early = FetchEarly<PageScorer>(next);
  WaitForInputs();
  AllowNext();
  while (true) {
    if (next.run.num_units > 0) ScanUnits<PageScorer>(c, next, num_early);
    if (item >= share.end) return;
    next = PreparedRun(c, next_run(&item), memory);
    num_early = 0;
  }
}

using ScanFunction = void (*)(ChoiceLaunch);

template <typename Keys>
ScanFunction FastKernel(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return ScanKernel<FastScorer<4, Keys>>;
    case 80:
      return ScanKernel<FastScorer<5, Keys>>;
    case 96:
      return ScanKernel<FastScorer<6, Keys>>;
    case 128:
      return ScanKernel<FastScorer<8, Keys>>;
    case 256:
      return ScanKernel<FastScorer<16, Keys>>;
    default:
      return ScanKernel<ExactScorer>;
  }
}

ScanFunction KernelFor(const DeviceKv& kv, Precision precision) {
  if (precision == Precision::kF32) return ScanKernel<ExactScorer>;
  if (kv.type == CacheType::kF16) return FastKernel<HalfKeys>(kv.head_dim);
  if (kv.type == CacheType::kBF16) return FastKernel<BFloatKeys>(kv.head_dim);
  if (kv.type == CacheType::kF8e4m3) return FastKernel<E4m3Keys>(kv.head_dim);
  return ScanKernel<ExactScorer>;
}

}  // namespace

cudaError_t LaunchScan(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                       cudaStream_t stream) {
  const int32_t shared_bytes = ScanSharedBytes(launch.kv.head_dim, launch.step.num_sequences);
  const ScanFunction kernel = KernelFor(launch.kv, geometry.precision);
  if (const cudaError_t error = PreferSharedMemory(kernel); error != cudaSuccess) return error;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
      error != cudaSuccess) {
    return error;
  }
  return Launch(kernel, dim3(static_cast<unsigned>(2 * geometry.num_sms)), dim3(kScanThreads),
                static_cast<size_t>(shared_bytes), stream, launch);
}

}  // namespace tidal
