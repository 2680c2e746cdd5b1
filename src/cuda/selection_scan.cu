// What      Scores of all keys for all heads, and each head's softmax statistics by page.
// Shapes    q float32 [rows][num_heads][head_dim]; index and keys by page; scores
//           [num_heads][max_tokens] f16 or float32, page_max [pages][num_heads], unit_stats
//           [num_heads][units].
// Layout    key_index.cuh. A warp has a page and up to 8 heads of a KV head: it multiplies the
//           page's codes (64 tokens x head_dim, made f16) with the heads' queries times the
//           channels' steps (head_dim x 8) on the tensor cores and adds query . minimum.
// Launch    two blocks of 8 warps per multiprocessor, each with an equal run of units of 8 pages,
//           whatever kv_len is.
// Bytes     KeyIndex bytes per sealed page and KV head, or 64 keys; written 2 or 4 bytes per token
//           and head.
// Numerics  codes exact in f16; query x step rounded to f16; float32 sums; query . minimum in
//           float32. Keys as stored are multiplied with the query split in two halves of their own
//           type, so that nothing of it is lost. kF32: float32 throughout. A sequence's scores do
//           not depend on the batch, bit by bit.
// Oracle    selection_test.cc; bench/cuda_selection_bench.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/key_index.cuh"
#include "cuda/seal_page.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kScanThreads = 32 * kUnitPages;
constexpr int32_t kGroupHeads = 8;  // columns of a product
constexpr float kMinusInfinity = -__builtin_inff();

// Rows of shared queries begin half of the banks apart: 8 lanes then load 16 bytes without
// conflict.
__host__ __device__ constexpr int32_t QueryStride(int32_t head_dim) {
  return (head_dim + 31) / 32 * 32 + 16;
}

// A warp's scores of a page: lane 4 * g + t has tokens 8 * g + i of heads 2 * t and 2 * t + 1.
struct PageScores {
  float of[2][8];
};

// One page and KV head to be scored.
struct PageJob {
  const ChoiceLaunch* c;
  const float* q;  // shared, [kGroupHeads][QueryStride(head_dim)], scaled, zeros past the heads
  int32_t page_id;
  int32_t kv_head;
  bool uses_index;
};

// --- Products
// -------------------------------------------------------------------------------------

struct HalfKeys {
  using Stored = __half;
  static __device__ __forceinline__ uint32_t Pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float Rounded(float value) {
    return __half2float(__float2half_rn(value));
  }
  static __device__ __forceinline__ void Multiply(float (&sums)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};
struct BFloatKeys {
  using Stored = __nv_bfloat16;
  static __device__ __forceinline__ uint32_t Pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float Rounded(float value) {
    return __bfloat162float(__float2bfloat16_rn(value));
  }
  static __device__ __forceinline__ void Multiply(float (&sums)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// The four products' sums: product m's registers are tokens 2 * m (0, 1) and 2 * m + 1 (2, 3), each
// of heads 2 * t and 2 * t + 1.
__device__ __forceinline__ void Unfold(const float (&sums)[4][4], PageScores* scores) {
#pragma unroll
  for (int m = 0; m < 4; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores->of[i % 2][2 * m + i / 2] = sums[m][i];
  }
}

// 1024 + code, in halves, is a pattern of bits; less 1024 it is the code.
__device__ __forceinline__ uint32_t Codes(uint32_t word, uint32_t mask) {
  const uint32_t magic = (word & mask) | 0x64006400u;
  const __half2 code =
      __hsub2(*reinterpret_cast<const __half2*>(&magic), __float2half2_rn(1024.0f));
  return *reinterpret_cast<const uint32_t*>(&code);
}
// The same for codes four bits up, which the pattern has as 1024 + 16 * code.
__device__ __forceinline__ uint32_t HighCodes(uint32_t word) {
  const uint32_t magic = (word & 0x00f000f0u) | 0x64006400u;
  const __half2 code = __hfma2(*reinterpret_cast<const __half2*>(&magic), __float2half2_rn(0.0625f),
                               __float2half2_rn(-64.0f));
  return *reinterpret_cast<const uint32_t*>(&code);
}

// A lane's operands of a slice of channels for product m.
template <int kBits>
__device__ __forceinline__ void Unpack(const uint32_t (&words)[IndexWordsPerLane(kBits)], int m,
                                       uint32_t (&a)[4]) {
  if constexpr (kBits == 4) {
    const uint32_t high = words[m] >> 8;
    a[0] = Codes(words[m], 0x000f000fu);
    a[1] = HighCodes(words[m]);
    a[2] = Codes(high, 0x000f000fu);
    a[3] = HighCodes(high);
  } else {
    const uint32_t word = words[m / 2] >> (m % 2 * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = Codes(word >> (2 * i), 0x00030003u);
  }
}

template <int kBits>
__device__ __forceinline__ void LoadWords(const uint32_t* codes,
                                          uint32_t (&words)[IndexWordsPerLane(kBits)]) {
  if constexpr (kBits == 4) {
    const uint4 loaded = __ldcs(reinterpret_cast<const uint4*>(codes));
    words[0] = loaded.x;
    words[1] = loaded.y;
    words[2] = loaded.z;
    words[3] = loaded.w;
  } else {
    const uint2 loaded = __ldcs(reinterpret_cast<const uint2*>(codes));
    words[0] = loaded.x;
    words[1] = loaded.y;
  }
}

__device__ __forceinline__ float2 Widened(uint32_t halves) {
  return __half22float2(*reinterpret_cast<const __half2*>(&halves));
}

// --- Scorers
// --------------------------------------------------------------------------------------

// On tensor cores; head_dim is 16 * kSlices.
template <int kSlices, typename Keys>
struct FastScorer {
  static constexpr bool kIsExact = false;

  // Loads of so many slices are under way at once.
  static constexpr int kDepth = kSlices <= 8 ? kSlices : 8;

  template <int kBits>
  static __device__ __forceinline__ void ScoreIndex(const PageJob& job, PageScores* scores) {
    constexpr int kHeadDim = kSlices * kSliceChannels;
    constexpr int kWords = IndexWordsPerLane(kBits);
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int t = lane % 4;
    const DeviceIndex& index = job.c->index;
    const uint8_t* part = index.base + job.page_id * index.page_bytes +
                          job.kv_head * IndexKvHeadBytes(kHeadDim, kBits);
    const auto* codes =
        reinterpret_cast<const uint32_t*>(part + IndexCodesOffset(kHeadDim)) + lane * kWords;
    const auto* minima = reinterpret_cast<const uint2*>(part) + t;
    const auto* steps = minima + kHeadDim / 4;
    const float* q = job.q + lane / 4 * QueryStride(kHeadDim) + 4 * t;
    float sums[4][4] = {};
    float base = 0;
#pragma unroll
    for (int first = 0; first < kSlices; first += kDepth) {
      uint32_t words[kDepth][kWords];
      uint2 minimum[kDepth];
      uint2 step[kDepth];
#pragma unroll
      for (int s = 0; s < kDepth; ++s) {
        LoadWords<kBits>(codes + (first + s) * 32 * kWords, words[s]);
        minimum[s] = __ldcs(minima + (first + s) * 4);
        step[s] = __ldcs(steps + (first + s) * 4);
      }
#pragma unroll
      for (int s = 0; s < kDepth; ++s) {
        const float4 x = *reinterpret_cast<const float4*>(q + (first + s) * kSliceChannels);
        const float2 min0 = Widened(minimum[s].x);
        const float2 min1 = Widened(minimum[s].y);
        base = fmaf(x.x, min0.x, fmaf(x.y, min0.y, fmaf(x.z, min1.x, fmaf(x.w, min1.y, base))));
        const float2 step0 = Widened(step[s].x);
        const float2 step1 = Widened(step[s].y);
        const uint32_t b0 = HalfKeys::Pack(x.x * step0.x, x.y * step0.y);
        const uint32_t b1 = HalfKeys::Pack(x.z * step1.x, x.w * step1.y);
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          uint32_t a[4];
          Unpack<kBits>(words[s], m, a);
          HalfKeys::Multiply(sums[m], a, b0, b1);
        }
      }
    }
    // Lanes 4 * g .. 4 * g + 3 have parts of head g's constant; lane 4 * g + t wants those of heads
    // 2 * t and 2 * t + 1.
    base += __shfl_xor_sync(kAllLanes, base, 1);
    base += __shfl_xor_sync(kAllLanes, base, 2);
    const float base0 = __shfl_sync(kAllLanes, base, 8 * t);
    const float base1 = __shfl_sync(kAllLanes, base, 8 * t + 4);
    Unfold(sums, scores);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      scores->of[0][i] += base0;
      scores->of[1][i] += base1;
    }
  }

  static __device__ __forceinline__ void ScoreKeys(const PageJob& job, PageScores* scores) {
    constexpr int kPair = kSlices % 2 == 0 ? 2 : 1;
    const int lane = static_cast<int>(threadIdx.x % 32);
    const DeviceKv& kv = job.c->kv;
    const uint8_t* rows =
        KeyRows(kv, job.page_id, job.kv_head) + int64_t{lane / 4 * 8} * kv.row_bytes + lane % 4 * 8;
    const float* q = job.q + lane / 4 * QueryStride(kSlices * kSliceChannels) + 4 * (lane % 4);
    float sums[4][4] = {};
#pragma unroll
    for (int first = 0; first < kSlices; first += kPair) {
      uint2 keys[kPair][8];
#pragma unroll
      for (int s = 0; s < kPair; ++s) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          keys[s][i] = __ldcs(reinterpret_cast<const uint2*>(rows + i * kv.row_bytes +
                                                             (first + s) * kSliceChannels * 2));
        }
      }
#pragma unroll
      for (int s = 0; s < kPair; ++s) {
        const float4 x = *reinterpret_cast<const float4*>(q + (first + s) * kSliceChannels);
        const float4 r = {Keys::Rounded(x.x), Keys::Rounded(x.y), Keys::Rounded(x.z),
                          Keys::Rounded(x.w)};
        const uint32_t b0 = Keys::Pack(r.x, r.y);
        const uint32_t b1 = Keys::Pack(r.z, r.w);
        const uint32_t rest0 = Keys::Pack(x.x - r.x, x.y - r.y);
        const uint32_t rest1 = Keys::Pack(x.z - r.z, x.w - r.w);
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          const uint32_t a[4] = {keys[s][2 * m].x, keys[s][2 * m + 1].x, keys[s][2 * m].y,
                                 keys[s][2 * m + 1].y};
          Keys::Multiply(sums[m], a, b0, b1);
          Keys::Multiply(sums[m], a, rest0, rest1);
        }
      }
    }
    Unfold(sums, scores);
  }

  static __device__ __forceinline__ void Score(const PageJob& job, PageScores* scores) {
    if (!job.uses_index) {
      ScoreKeys(job, scores);
    } else if (job.c->index.bits == 4) {
      ScoreIndex<4>(job, scores);
    } else {
      ScoreIndex<2>(job, scores);
    }
  }
};

// In float32, any type and head_dim: for comparisons.
struct ExactScorer {
  static constexpr bool kIsExact = true;

  static __device__ __forceinline__ float KeyOf(const PageJob& job, const uint8_t* keys,
                                                const IndexPart& part, int32_t token,
                                                int32_t channel) {
    const DeviceKv& kv = job.c->kv;
    if (!job.uses_index) return StoredKey(keys + int64_t{token} * kv.row_bytes, channel, kv.type);
    const int32_t bits = job.c->index.bits;
    const IndexPlace place = PlaceOfCode(token, channel, bits);
    const auto code = static_cast<float>(part.codes[place.word] >> place.bit & ((1u << bits) - 1));
    return fmaf(code, __half2float(part.steps[channel]), __half2float(part.minima[channel]));
  }

  static __device__ __forceinline__ void Score(const PageJob& job, PageScores* scores) {
    const DeviceKv& kv = job.c->kv;
    const DeviceIndex& index = job.c->index;
    const int lane = static_cast<int>(threadIdx.x % 32);
    const uint8_t* keys = KeyRows(kv, job.page_id, job.kv_head);
    const IndexPart part = job.uses_index ? IndexPartAt(index.base, index.page_bytes, job.page_id,
                                                        job.kv_head, kv.head_dim, index.bits)
                                          : IndexPart();
    const float* q0 = job.q + lane % 4 * 2 * QueryStride(kv.head_dim);
    const float* q1 = q0 + QueryStride(kv.head_dim);
#pragma unroll
    for (int i = 0; i < 8; ++i) scores->of[0][i] = scores->of[1][i] = 0;
    for (int32_t d = 0; d < kv.head_dim; ++d) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float key = KeyOf(job, keys, part, lane / 4 * 8 + i, d);
        scores->of[0][i] = fmaf(key, q0[d], scores->of[0][i]);
        scores->of[1][i] = fmaf(key, q1[d], scores->of[1][i]);
      }
    }
  }
};

// --- Softmax
// --------------------------------------------------------------------------------------

// Where a group's results go.
struct GroupOutput {
  const ChoiceParams* params;
  int32_t first_head;
  int32_t num_heads;  // of the group
  int32_t all_heads;
  int32_t max_tokens;
  float2* stats;  // shared, [kUnitPages][kGroupHeads] of the unit
};

template <typename T>
__device__ __forceinline__ uint4 AsWords(const T& value) {
  return *reinterpret_cast<const uint4*>(&value);
}

__device__ __forceinline__ void StoreFloats(const float (&values)[8], float* out) {
  reinterpret_cast<float4*>(out)[0] = {values[0], values[1], values[2], values[3]};
  reinterpret_cast<float4*>(out)[1] = {values[4], values[5], values[6], values[7]};
}

__device__ __forceinline__ void StoreTokens(const GroupOutput& out, int32_t head, int64_t token,
                                            const float (&scores)[8], const float (&probs)[8]) {
  const int64_t at = int64_t{head} * out.max_tokens + token;
  switch (out.params->kept_scores) {
    case KeptScores::kHalfProbs: {
      const __half2 halves[4] = {
          __floats2half2_rn(probs[0], probs[1]), __floats2half2_rn(probs[2], probs[3]),
          __floats2half2_rn(probs[4], probs[5]), __floats2half2_rn(probs[6], probs[7])};
      *reinterpret_cast<uint4*>(static_cast<__half*>(out.params->scores) + at) = {
          *reinterpret_cast<const uint32_t*>(&halves[0]),
          *reinterpret_cast<const uint32_t*>(&halves[1]),
          *reinterpret_cast<const uint32_t*>(&halves[2]),
          *reinterpret_cast<const uint32_t*>(&halves[3])};
      break;
    }
    case KeptScores::kFloatProbs:
      StoreFloats(probs, static_cast<float*>(out.params->scores) + at);
      break;
    case KeptScores::kScores:
      StoreFloats(scores, static_cast<float*>(out.params->scores) + at);
      break;
  }
}

// e^(score - maximum) of a page's first num_tokens tokens, and where it all goes.
template <bool kIsExact>
__device__ __forceinline__ void FinishPage(const GroupOutput& out, int32_t page, int32_t num_tokens,
                                           PageScores* scores) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int first_token = lane / 4 * 8;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int column = lane % 4 * 2 + h;
    float(&s)[8] = scores->of[h];
    float most = kMinusInfinity;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (first_token + i >= num_tokens) s[i] = kMinusInfinity;
      most = fmaxf(most, s[i]);
    }
#pragma unroll
    for (int d = 4; d < 32; d *= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, d));
    float probs[8];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      probs[i] = kIsExact ? expf(s[i] - most) : __expf(s[i] - most);
      sum += probs[i];
    }
#pragma unroll
    for (int d = 4; d < 32; d *= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
    if (lane < 4) out.stats[warp * kGroupHeads + column] = {most, sum};
    if (column >= out.num_heads) continue;
    const int32_t head = out.first_head + column;
    StoreTokens(out, head, int64_t{page} * kTokensPerPage + first_token, s, probs);
    if (lane < 4) out.params->page_max[int64_t{page} * out.all_heads + head] = most;
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
    if (page.x > kMinusInfinity) sum = fmaf(page.y, __expf(page.x - most), sum);
  }
  out.params->unit_stats[int64_t{out.first_head + column} * MaxUnits(out.max_tokens) + unit] = {
      most, sum};
}

// --- The kernel
// -----------------------------------------------------------------------------------

struct ScanMemory {
  float* q;
  float2* stats;    // [2][kUnitPages][kGroupHeads]
  int32_t* begins;  // [num_sequences + 1]
};
__device__ __forceinline__ ScanMemory SplitMemory(float* memory, int32_t head_dim) {
  auto* stats = reinterpret_cast<float2*>(memory + kGroupHeads * QueryStride(head_dim));
  return {memory, stats, reinterpret_cast<int32_t*>(stats + 2 * kUnitPages * kGroupHeads)};
}
int32_t ScanSharedBytes(int32_t head_dim, int32_t num_sequences) {
  return kGroupHeads * QueryStride(head_dim) * 4 + 2 * kUnitPages * kGroupHeads * 8 +
         (num_sequences + 1) * 4;
}

__device__ __forceinline__ void LoadQueries(const ChoiceLaunch& c, int32_t sequence,
                                            const GroupOutput& out, float* shared) {
  const int32_t head_dim = c.kv.head_dim;
  const float* q = QueryOf(c, sequence) + int64_t{out.first_head} * head_dim;
  for (int32_t i = threadIdx.x; i < kGroupHeads * head_dim; i += kScanThreads) {
    const int32_t head = i / head_dim;
    shared[head * QueryStride(head_dim) + i % head_dim] =
        head < out.num_heads ? q[i] * c.attn_scale : 0.0f;
  }
}

// Units unit .. unit + num_units - 1 of one group of heads.
template <typename PageScorer>
__device__ __forceinline__ void ScanUnits(const ChoiceLaunch& c, int32_t sequence, int32_t kv_head,
                                          GroupOutput out, int32_t unit, int32_t num_units,
                                          const ScanMemory& memory) {
  const DeviceSequence& where = c.step.sequences[sequence];
  const int32_t* page_ids = c.step.page_ids + where.page_begin;
  const int32_t kv_len = where.kv_len;
  const int32_t num_pages = NumPages(kv_len);
  const bool has_index = out.params->scorer != Scorer::kExact && c.index.base != nullptr;
  const auto warp = static_cast<int32_t>(threadIdx.x / 32);
  __syncthreads();
  LoadQueries(c, sequence, out, memory.q);
  __syncthreads();
  int32_t page = unit * kUnitPages + warp;
  int32_t next_id = page < num_pages ? page_ids[page] : 0;
  for (int32_t i = 0; i < num_units; ++i, page += kUnitPages) {
    float2* stats = memory.stats + (i % 2) * kUnitPages * kGroupHeads;
    out.stats = stats;
    const int32_t page_id = next_id;
    if (page + kUnitPages < num_pages) next_id = page_ids[page + kUnitPages];
    if (page < num_pages) {
      const int32_t num_tokens = min(kv_len - page * kTokensPerPage, kTokensPerPage);
      PageScores scores;
      PageScorer::Score({&c, memory.q, page_id, kv_head, has_index && num_tokens == kTokensPerPage},
                        &scores);
      FinishPage<PageScorer::kIsExact>(out, page, num_tokens, &scores);
    } else if (threadIdx.x % 32 < kGroupHeads) {
      stats[warp * kGroupHeads + threadIdx.x % 32] = {kMinusInfinity, 0};
    }
    __syncthreads();
    FinishUnit(out, stats, unit + i);
  }
}

template <typename PageScorer>
__global__ void __launch_bounds__(kScanThreads, 2) ScanKernel(ChoiceLaunch c) {
  extern __shared__ float4 shared[];
  const ScanMemory memory = SplitMemory(reinterpret_cast<float*>(shared), c.kv.head_dim);
  const int32_t groups_per_kv_head = (c.gqa_ratio + kGroupHeads - 1) / kGroupHeads;
  const int32_t num_groups = c.kv.num_kv_heads * groups_per_kv_head;
  WaitForInputs();
  AllowNext();
  const auto units_of = [&](int32_t s) {
    return GetsScores(c, s) ? num_groups * NumUnits(c.step.sequences[s].kv_len) : 0;
  };
  BeginsOfSequences(c.step.num_sequences, units_of, memory.begins);
  const BlockShare share = ShareOfBlock(memory.begins[c.step.num_sequences]);
  for (int32_t item = share.begin; item < share.end;) {
    const int32_t s = SequenceOf(memory.begins, item);
    const int32_t units = NumUnits(c.step.sequences[s].kv_len);
    const int32_t group = (item - memory.begins[s]) / units;
    const int32_t unit = (item - memory.begins[s]) % units;
    const int32_t num_units = min(share.end - item, units - unit);
    const int32_t kv_head = group / groups_per_kv_head;
    const int32_t first = group % groups_per_kv_head * kGroupHeads;
    const GroupOutput out = {&c.params[s],
                             kv_head * c.gqa_ratio + first,
                             min(c.gqa_ratio - first, kGroupHeads),
                             c.num_heads,
                             c.max_tokens,
                             nullptr};
    ScanUnits<PageScorer>(c, s, kv_head, out, unit, num_units, memory);
    item += num_units;
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
  return Launch(KernelFor(launch.kv, geometry.precision),
                dim3(static_cast<unsigned>(2 * geometry.num_sms)), dim3(kScanThreads),
                static_cast<size_t>(shared_bytes), stream, launch);
}

}  // namespace tidal
