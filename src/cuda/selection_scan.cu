// What      Scores of all keys for all heads, and each head's softmax statistics by page.
// Shapes    q float32 [rows][num_heads][head_dim]; index and keys by page; scores
//           [pages][num_heads][64] f16 or float32 (KeptScores), page_max [pages][num_heads],
//           unit_stats [num_heads][units].
// Layout    key_index.cuh. A warp has a page and up to 8 heads of a KV head: it multiplies the
//           page's codes (64 tokens x head_dim, made f16) with the heads' queries times the
//           channels' steps (head_dim x 8) on the tensor cores and adds query . minimum.
// Launch    two blocks of 8 warps per multiprocessor, each with an equal run of units of 8 pages,
//           whatever kv_len is. While a warp works on a page's index its next one is on its way to
//           shared memory: 2 * 8 * 4.6 KB a block with 128 channels.
// Bytes     KeyIndex bytes per sealed page and KV head, or 64 keys; written 2 or 4 bytes per token
//           and head.
// Numerics  codes exact in f16; query and query x step rounded to f16; float32 sums; query .
// minimum
//           with the query split in two halves, so that nothing of it is lost, and so keys as
//           stored, in halves of their own type. kF32: float32 throughout. Scores are kept times
//           log2(e), so that powers of two make probabilities. A sequence's scores do not depend on
//           the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cu.
#include "cuda/selection_score.cuh"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

// --- Softmax

// Where a group's results go.
struct GroupOutput {
  void* scores;
  float* page_max;
  float2* unit_stats;
  float2* stats;  // shared, [2][kUnitPages][kGroupHeads]: of a unit, and of the one before
  int32_t first_head;
  int32_t num_heads;  // of the group
  int32_t all_heads;
  int32_t max_tokens;
  KeptScores kept_scores;
};

__device__ __forceinline__ void StoreFloats(const float (&values)[8], float* out) {
  reinterpret_cast<float4*>(out)[0] = {values[0], values[1], values[2], values[3]};
  reinterpret_cast<float4*>(out)[1] = {values[4], values[5], values[6], values[7]};
}

// Of tokens first_token .. first_token + 7 of the page.
__device__ __forceinline__ void StoreTokens(const GroupOutput& out, int32_t head, int32_t page,
                                            int32_t first_token, const float (&scores)[8],
                                            const float (&probs)[8]) {
  const int64_t at =
      BeginOfPage(out.kept_scores, page, head, out.all_heads, out.max_tokens) + first_token;
  switch (out.kept_scores) {
    case KeptScores::kHalfProbs: {
      const __half2 halves[4] = {
          __floats2half2_rn(probs[0], probs[1]), __floats2half2_rn(probs[2], probs[3]),
          __floats2half2_rn(probs[4], probs[5]), __floats2half2_rn(probs[6], probs[7])};
      *reinterpret_cast<uint4*>(static_cast<__half*>(out.scores) + at) = {
          *reinterpret_cast<const uint32_t*>(&halves[0]),
          *reinterpret_cast<const uint32_t*>(&halves[1]),
          *reinterpret_cast<const uint32_t*>(&halves[2]),
          *reinterpret_cast<const uint32_t*>(&halves[3])};
      break;
    }
    case KeptScores::kFloatProbs:
      StoreFloats(probs, static_cast<float*>(out.scores) + at);
      break;
    case KeptScores::kScores: {
      float natural[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) natural[i] = scores[i] * kLn2;
      StoreFloats(natural, static_cast<float*>(out.scores) + at);
      break;
    }
  }
}

// e^(score - maximum) of a page's first num_tokens tokens, and where it all goes.
template <bool kIsExact>
__device__ __forceinline__ void FinishPage(const GroupOutput& out, int32_t page, int32_t num_tokens,
                                           PageScores* scores, float2* stats) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int first_token = lane / 4 * 8;
  if (num_tokens < kTokensPerPage) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (first_token + i >= num_tokens) scores->of[0][i] = scores->of[1][i] = kMinusInfinity;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (h == 1 && out.num_heads == 1) break;
    const int column = lane % 4 * 2 + h;
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
    const int32_t head = out.first_head + column;
    StoreTokens(out, head, page, first_token, s, probs);
    if (lane >= 4) continue;
    stats[warp * kGroupHeads + column] = {most, sum};
    out.page_max[int64_t{page} * out.all_heads + head] = most;
  }
}

// Maximum and sum over the pages of a unit, by one thread per head.
__device__ __forceinline__ void FinishUnit(const GroupOutput& out, const float2* stats,
                                           int32_t unit) {
  const auto column = static_cast<int32_t>(threadIdx.x);
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
  float2* stats;    // [2][kUnitPages][kGroupHeads]
  int32_t* begins;  // [num_sequences + 1]
};
// Of a warp, for one page.
__host__ __device__ int32_t StageBytes(int32_t head_dim) {
  return static_cast<int32_t>(IndexKvHeadBytes(head_dim, 4));
}
__device__ __forceinline__ ScanMemory SplitMemory(uint8_t* memory, int32_t head_dim) {
  uint8_t* stages = memory + QueryBytes(head_dim);
  auto* stats = reinterpret_cast<float2*>(stages + 2 * kUnitPages * StageBytes(head_dim));
  return {memory, stages, stats, reinterpret_cast<int32_t*>(stats + 2 * kUnitPages * kGroupHeads)};
}
int32_t ScanSharedBytes(int32_t head_dim, int32_t num_sequences) {
  return QueryBytes(head_dim) + 2 * kUnitPages * StageBytes(head_dim) +
         2 * kUnitPages * kGroupHeads * 8 + (num_sequences + 1) * 4;
}

// Consecutive units of one group of heads of a sequence.
struct UnitRun {
  int32_t sequence;
  int32_t kv_head;
  int32_t unit;
  int32_t num_units;
};

template <typename PageScorer>
__device__ __forceinline__ void ScanUnits(const ChoiceLaunch& c, const UnitRun& run,
                                          const GroupOutput& out, const ScanMemory& memory) {
  const DeviceSequence& where = c.step.sequences[run.sequence];
  const int32_t* page_ids = c.step.page_ids + where.page_begin;
  const int32_t kv_len = where.kv_len;
  const int32_t num_pages = NumPages(kv_len);
  const bool has_index = c.params[run.sequence].scorer != Scorer::kExact && c.index.base != nullptr;
  const auto warp = static_cast<int32_t>(threadIdx.x / 32);
  const int32_t stage_bytes = StageBytes(c.kv.head_dim);
  const auto job_of = [&](int32_t i, int32_t page, int32_t page_id) -> PageJob {
    return {&c,      memory.q,    memory.stages + (i % 2 * kUnitPages + warp) * stage_bytes,
            page_id, run.kv_head, has_index && page < kv_len / kTokensPerPage};
  };
  const auto id_of = [&](int32_t page) { return page < num_pages ? page_ids[page] : 0; };
  int32_t page = run.unit * kUnitPages + warp;
  int32_t page_id = id_of(page);
  int32_t next_id = id_of(page + kUnitPages);
  __syncthreads();  // what the last run left has been used
  PageScorer::Fetch(job_of(0, page, page_id));
  EndCopies();
  PageScorer::LoadQueries(QueryOf(c, run.sequence) + int64_t{out.first_head} * c.kv.head_dim,
                          out.num_heads, c.kv.head_dim, c.attn_scale * kLog2E, memory.q);
  __syncthreads();
  for (int32_t i = 0; i < run.num_units; ++i, page += kUnitPages) {
    float2* stats = out.stats + (i % 2) * kUnitPages * kGroupHeads;
    if (i + 1 < run.num_units) PageScorer::Fetch(job_of(i + 1, page + kUnitPages, next_id));
    EndCopies();
    const PageJob job = job_of(i, page, page_id);
    page_id = next_id;
    next_id = id_of(page + 2 * kUnitPages);
    if (page < num_pages) {
      PageScores scores;
      WaitForCopies();
      PageScorer::Score(job, &scores);
      FinishPage<PageScorer::kIsExact>(
          out, page, min(kv_len - page * kTokensPerPage, kTokensPerPage), &scores, stats);
    } else if (threadIdx.x % 32 < kGroupHeads) {
      stats[warp * kGroupHeads + threadIdx.x % 32] = {kMinusInfinity, 0};
    }
    __syncthreads();
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
  const auto units_of = [&](int32_t s) {
    return GetsScores(c, s) ? num_groups * NumUnits(c.step.sequences[s].kv_len) : 0;
  };
  BeginsOfSequences(c.step.num_sequences, units_of, memory.begins);
  WaitForInputs();
  AllowNext();
  const BlockShare share = ShareOfBlock(memory.begins[c.step.num_sequences]);
  for (int32_t item = share.begin; item < share.end;) {
    const int32_t s = SequenceOf(memory.begins, item);
    const ChoiceParams& params = c.params[s];
    const int32_t units = NumUnits(c.step.sequences[s].kv_len);
    const int32_t group = (item - memory.begins[s]) / units;
    const int32_t unit = (item - memory.begins[s]) % units;
    const int32_t kv_head = group / groups_per_kv_head;
    const int32_t first = group % groups_per_kv_head * kGroupHeads;
    const UnitRun run = {s, kv_head, unit, min(share.end - item, units - unit)};
    const GroupOutput out = {.scores = params.scores,
                             .page_max = params.page_max,
                             .unit_stats = params.unit_stats,
                             .stats = memory.stats,
                             .first_head = kv_head * c.gqa_ratio + first,
                             .num_heads = min(c.gqa_ratio - first, kGroupHeads),
                             .all_heads = c.num_heads,
                             .max_tokens = c.max_tokens,
                             .kept_scores = params.kept_scores};
    ScanUnits<PageScorer>(c, run, out, memory);
    item += run.num_units;
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
