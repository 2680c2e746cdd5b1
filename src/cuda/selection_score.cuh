// A page's scores for up to 8 heads of a KV head, by one warp: on tensor cores, or in float32. What
// is multiplied with what, and why: selection_scan.cu.
#ifndef TIDAL_CUDA_SELECTION_SCORE_CUH_
#define TIDAL_CUDA_SELECTION_SCORE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/key_index.cuh"
#include "cuda/kv_f8.cuh"
#include "cuda/seal_page.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {

inline constexpr int32_t kScanThreads = 32 * kUnitPages;
inline constexpr int32_t kGroupHeads = 8;  // columns of a product

// Shared memory for a group's queries, as its scorer wants them.
__host__ __device__ constexpr int32_t QueryBytes(int32_t head_dim) { return 64 * head_dim; }

// A warp's scores of a page: lane 4 * g + t has tokens 8 * g + i of heads 2 * t and 2 * t + 1.
struct PageScores {
  float of[2][8];
};

// One page and KV head to be scored.
struct PageJob {
  const ChoiceLaunch* c;
  const void* q;   // shared, as the scorer's LoadQueries left it
  uint8_t* stage;  // shared, the warp's: where the page's index is, or goes
  int32_t page_id;
  int32_t kv_head;
  bool uses_index;
};

// --- Products

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

// As halves, exactly; scores are multiplied by the keys' scales.
struct E4m3Keys : HalfKeys {
  using Stored = E4m3;
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

// Codes in the low bits of halves, under a mask, become 1024 + code: a pattern of bits.
inline constexpr uint32_t kMagic = 0x64006400u;
// What such a pattern adds to a sum, 1024 times what codes are multiplied with, is taken off again;
// where codes stand four bits up they count 16 times, and sums are divided: 64 times.
inline constexpr float kMagicValue = 1024;
inline constexpr uint32_t kOnes = 0x3c003c00u;

// (word & mask) | kMagic, as the one instruction that it is.
__device__ __forceinline__ uint32_t Pattern(uint32_t word, uint32_t mask) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word), "r"(mask), "r"(kMagic));
  return result;
}

// How much more than once the codes of a product's rows 8 to 15 count.
template <int kBits>
inline constexpr float kHighRows = kBits == 4 ? 16.0f : 1.0f;

// A lane's operands of a slice of channels for product m, 1024 above the codes; for rows 8 to 15
// codes times kHighRows.
template <int kBits>
__device__ __forceinline__ void Unpack(const uint32_t (&words)[IndexWordsPerLane(kBits)], int m,
                                       uint32_t (&a)[4]) {
  if constexpr (kBits == 4) {
    const uint32_t high = words[m] >> 8;
    a[0] = Pattern(words[m], 0x000f000fu);
    a[1] = Pattern(words[m], 0x00f000f0u);
    a[2] = Pattern(high, 0x000f000fu);
    a[3] = Pattern(high, 0x00f000f0u);
  } else {
    const uint32_t word = words[m / 2] >> (m % 2 * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = Pattern(word >> (2 * i), 0x00030003u);
  }
}

template <int kBits>
__device__ __forceinline__ void LoadWords(const uint32_t* codes,
                                          uint32_t (&words)[IndexWordsPerLane(kBits)]) {
  if constexpr (kBits == 4) {
    const uint4 loaded = *reinterpret_cast<const uint4*>(codes);
    words[0] = loaded.x;
    words[1] = loaded.y;
    words[2] = loaded.z;
    words[3] = loaded.w;
  } else {
    const uint2 loaded = *reinterpret_cast<const uint2*>(codes);
    words[0] = loaded.x;
    words[1] = loaded.y;
  }
}

__device__ __forceinline__ uint32_t Product(uint32_t a, uint32_t b) {
  const __half2 product =
      __hmul2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

// What is read once makes room in the L2 cache first: scores are to stay there until they are
// merged.
__device__ __forceinline__ uint64_t ReadOncePolicy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void CopyAsync(uint8_t* shared, const uint8_t* global, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
                 "l"(policy)
               : "memory");
}
// A group is what a thread has started since the last one ended.
__device__ __forceinline__ void EndCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups but the latest, of the warp.
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  __syncwarp();
}

// A lane's part of a query's slice of channels, each number split in two halves.
template <typename Keys>
__device__ __forceinline__ uint4 Split(float4 x) {
  const float4 r = {Keys::Rounded(x.x), Keys::Rounded(x.y), Keys::Rounded(x.z), Keys::Rounded(x.w)};
  return {Keys::Pack(r.x, r.y), Keys::Pack(r.z, r.w), Keys::Pack(x.x - r.x, x.y - r.y),
          Keys::Pack(x.z - r.z, x.w - r.w)};
}

// --- Scorers

// On tensor cores; head_dim is 16 * kSlices.
template <int kSlices, typename Keys>
struct FastScorer {
  static constexpr bool kIsExact = false;
  static constexpr int kHeadDim = kSlices * kSliceChannels;

  // Two arrays [kSlices][32 lanes] of uint4: in f16 for the index, as the left operand of a product
  // that has the heads' upper halves as rows 0 to 7 and their lower ones as rows 8 to 15; then in
  // the keys' own type, as right operands.
  static __device__ __forceinline__ void LoadQueries(const float* q, int32_t num_heads, int32_t,
                                                     float scale, void* shared) {
    auto* split = static_cast<uint4*>(shared);
    for (int32_t i = threadIdx.x; i < kSlices * 32; i += kScanThreads) {
      const int32_t head = i % 32 / 4;
      float4 x = {0, 0, 0, 0};
      if (head < num_heads) {
        x = *reinterpret_cast<const float4*>(q + (head * kSlices + i / 32) * kSliceChannels +
                                             i % 4 * 4);
      }
      x = {x.x * scale, x.y * scale, x.z * scale, x.w * scale};
      const uint4 halves = Split<HalfKeys>(x);
      split[i] = {halves.x, halves.z, halves.y, halves.w};
      split[kSlices * 32 + i] = Split<Keys>(x);
    }
  }

  // Starts a page's index on its way to shared memory; nothing where the page has none.
  static __device__ __forceinline__ void Fetch(const PageJob& job) {
    if (!job.uses_index) return;
    if (job.c->index.bits == 4) {
      FetchIndex<4>(job);
    } else {
      FetchIndex<2>(job);
    }
  }
  template <int kBits>
  static __device__ __forceinline__ void FetchIndex(const PageJob& job) {
    constexpr auto kBytes = static_cast<int32_t>(IndexKvHeadBytes(kHeadDim, kBits));
    constexpr int32_t kStride = 32 * 16;
    const DeviceIndex& index = job.c->index;
    const int32_t first = static_cast<int32_t>(threadIdx.x % 32) * 16;
    const uint8_t* from =
        index.base + job.page_id * index.page_bytes + job.kv_head * kBytes + first;
    uint8_t* to = job.stage + first;
    const uint64_t policy = ReadOncePolicy();
#pragma unroll
    for (int32_t at = 0; at < kBytes; at += kStride) {
      if (at + kStride <= kBytes || at + first < kBytes) CopyAsync(to + at, from + at, policy);
    }
  }

  template <int kBits>
  static __device__ __forceinline__ void ScoreIndex(const PageJob& job, PageScores* scores) {
    constexpr int kWords = IndexWordsPerLane(kBits);
    const int lane = static_cast<int>(threadIdx.x % 32);
    const auto* codes =
        reinterpret_cast<const uint32_t*>(job.stage + IndexCodesOffset(kHeadDim)) + lane * kWords;
    const auto* minima = reinterpret_cast<const uint2*>(job.stage) + lane % 4;
    const auto* steps = minima + kHeadDim / 4;
    const auto* q = static_cast<const uint4*>(job.q) + lane;
    float sums[4][4] = {};
    // Of head lane / 4: query . minimum by the query's two halves (0 and 2; 1 and 3 are the same),
    // and the sum of what codes are multiplied with, by a part of the channels each.
    float base[4] = {};
    float total[4] = {};
    uint32_t pairs[4] = {};
#pragma unroll
    for (int s = 0; s < kSlices; ++s) {
      uint32_t words[kWords];
      LoadWords<kBits>(codes + s * 32 * kWords, words);
      const uint2 minimum = minima[s * 4];
      const uint2 step = steps[s * 4];
      const uint4 x = q[s * 32];
      const uint32_t b0 = Product(x.x, step.x);
      const uint32_t b1 = Product(x.z, step.y);
      const uint32_t query[4] = {x.x, x.y, x.z, x.w};
      HalfKeys::Multiply(base, query, minimum.x, minimum.y);
      // Of two slices at once: which channel is which does not matter where all count once.
      pairs[s % 2 * 2] = b0;
      pairs[s % 2 * 2 + 1] = b1;
      if (s % 2 == 0 && s == kSlices - 1) pairs[2] = pairs[3] = 0;
      if (s % 2 == 1 || s == kSlices - 1) HalfKeys::Multiply(total, pairs, kOnes, kOnes);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        uint32_t a[4];
        Unpack<kBits>(words, m, a);
        HalfKeys::Multiply(sums[m], a, b0, b1);
      }
    }
    // What is to be added to sums, from the head's lanes to those that have its sums.
    const float of_head[2] = {base[0] + base[2], -kMagicValue * (total[0] + total[2])};
    const float low = of_head[0] + of_head[1];
    const float high = fmaf(of_head[1], 1 / kHighRows<kBits>, of_head[0]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int source = lane % 4 * 8 + h * 4;
      const float add = __shfl_sync(kAllLanes, low, source);
      const float add_high = __shfl_sync(kAllLanes, high, source);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        sums[m][h] += add;
        sums[m][2 + h] = fmaf(sums[m][2 + h], 1 / kHighRows<kBits>, add_high);
      }
    }
    Unfold(sums, scores);
  }

  static __device__ __forceinline__ void ScoreKeys(const PageJob& job, PageScores* scores) {
    constexpr int kPair = kSlices % 2 == 0 ? 2 : 1;
    const int lane = static_cast<int>(threadIdx.x % 32);
    const DeviceKv& kv = job.c->kv;
    constexpr bool kHasScales = std::is_same_v<typename Keys::Stored, E4m3>;
    constexpr int kLaneBytes = 4 * sizeof(typename Keys::Stored);  // four channels
    const uint8_t* part = KeyRows(kv, job.page_id, job.kv_head);
    const uint8_t* rows = part + int64_t{lane / 4 * 8} * kv.row_bytes + lane % 4 * kLaneBytes;
    const auto* q = static_cast<const uint4*>(job.q) + kSlices * 32 + lane;
    float sums[4][4] = {};
#pragma unroll
    for (int first = 0; first < kSlices; first += kPair) {
      uint2 keys[kPair][8];
#pragma unroll
      for (int s = 0; s < kPair; ++s) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const uint8_t* at = rows + i * kv.row_bytes + (first + s) * 4 * kLaneBytes;
          if constexpr (kHasScales) {
            keys[s][i] = HalvesOfFour(__ldcs(reinterpret_cast<const uint32_t*>(at)));
          } else {
            keys[s][i] = __ldcs(reinterpret_cast<const uint2*>(at));
          }
        }
      }
#pragma unroll
      for (int s = 0; s < kPair; ++s) {
        const uint4 x = q[(first + s) * 32];
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          const uint32_t a[4] = {keys[s][2 * m].x, keys[s][2 * m + 1].x, keys[s][2 * m].y,
                                 keys[s][2 * m + 1].y};
          Keys::Multiply(sums[m], a, x.x, x.y);
          Keys::Multiply(sums[m], a, x.z, x.w);
        }
      }
    }
    Unfold(sums, scores);
    if constexpr (kHasScales) {
      const uint32_t* scales = ScalesAt(kv, part, lane / 4 * 8);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float scale = KeyScale(__ldcs(scales + i));
        scores->of[0][i] *= scale;
        scores->of[1][i] *= scale;
      }
    }
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

  static __device__ __forceinline__ void Fetch(const PageJob&) {}

  // [head_dim][kGroupHeads].
  static __device__ __forceinline__ void LoadQueries(const float* q, int32_t num_heads,
                                                     int32_t head_dim, float scale, void* shared) {
    for (int32_t i = threadIdx.x; i < kGroupHeads * head_dim; i += kScanThreads) {
      const int32_t head = i / head_dim;
      static_cast<float*>(shared)[i % head_dim * kGroupHeads + head] =
          head < num_heads ? q[i] * scale : 0.0f;
    }
  }

  static __device__ __forceinline__ float KeyOf(const PageJob& job, const PageKeys& keys,
                                                const IndexPart& part, int32_t token,
                                                int32_t channel) {
    if (!job.uses_index) return keys.At(token, channel);
    const int32_t bits = job.c->index.bits;
    const IndexPlace place = PlaceOfCode(token, channel, bits);
    const auto code = static_cast<float>(part.codes[place.word] >> place.bit & ((1u << bits) - 1));
    return fmaf(code, __half2float(part.steps[channel]), __half2float(part.minima[channel]));
  }

  static __device__ __forceinline__ void Score(const PageJob& job, PageScores* scores) {
    const DeviceKv& kv = job.c->kv;
    const DeviceIndex& index = job.c->index;
    const int lane = static_cast<int>(threadIdx.x % 32);
    const PageKeys keys(kv, job.page_id, job.kv_head);
    const IndexPart part = job.uses_index ? IndexPartAt(index.base, index.page_bytes, job.page_id,
                                                        job.kv_head, kv.head_dim, index.bits)
                                          : IndexPart();
    const auto* q = static_cast<const float2*>(job.q) + lane % 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) scores->of[0][i] = scores->of[1][i] = 0;
    for (int32_t d = 0; d < kv.head_dim; ++d) {
      const float2 x = q[d * (kGroupHeads / 2)];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float key = KeyOf(job, keys, part, lane / 4 * 8 + i, d);
        scores->of[0][i] = fmaf(key, x.x, scores->of[0][i]);
        scores->of[1][i] = fmaf(key, x.y, scores->of[1][i]);
      }
    }
  }
};

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_SCORE_CUH_
