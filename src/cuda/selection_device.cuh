// Small things that the kernels of a choice share.
#ifndef TIDAL_CUDA_SELECTION_DEVICE_CUH_
#define TIDAL_CUDA_SELECTION_DEVICE_CUH_

#include "cuda/launch.cuh"
#include "cuda/selection_params.h"

namespace tidal {

inline constexpr int32_t kTokensPerPage = 64;
inline constexpr uint32_t kAllLanes = 0xffffffffu;
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

// 2^x to two units in the last place; 0 where that is smaller than a normal number.
__device__ __forceinline__ float FastExp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ int32_t NumPages(int32_t kv_len) {
  return (kv_len + kTokensPerPage - 1) / kTokensPerPage;
}
__device__ __forceinline__ int32_t NumUnits(int32_t kv_len) {
  return (NumPages(kv_len) + kUnitPages - 1) / kUnitPages;
}
// Row length of unit_stats: even, so that two are loaded at once.
__host__ __device__ __forceinline__ int32_t MaxUnits(int32_t max_tokens) {
  const int32_t units = (max_tokens / kTokensPerPage + kUnitPages - 1) / kUnitPages;
  return units + units % 2;
}

__device__ __forceinline__ bool ScoresTokens(Scorer scorer) {
  return scorer == Scorer::kExact || scorer == Scorer::kIndex4 || scorer == Scorer::kIndex2;
}
__device__ __forceinline__ bool ScoresPages(Scorer scorer) {
  return scorer == Scorer::kPagesMinMax || scorer == Scorer::kPagesMeanStd;
}
__device__ __forceinline__ bool Chooses(const ChoiceLaunch& c, int32_t sequence) {
  return (c.step.flags[sequence] & kChooses) != 0;
}
// After WaitForInputs where `fresh` is given: all else of what these ask was there before the step.
__device__ __forceinline__ bool IsFresh(const ChoiceLaunch& c, int32_t sequence) {
  return c.fresh == nullptr || c.fresh[sequence] != 0;
}
// Whether the sequence's tokens get scores in this step. All that it asks is loaded at once.
__device__ __forceinline__ bool GetsScores(const ChoiceLaunch& c, int32_t sequence) {
  const ChoiceParams& params = c.params[sequence];
  const bool chooses = Chooses(c, sequence);
  const bool scores_tokens = ScoresTokens(params.scorer);
  const bool measures = params.measures != 0;
  return chooses && scores_tokens && (measures || IsFresh(c, sequence));
}
__device__ __forceinline__ const float* QueryOf(const ChoiceLaunch& c, int32_t sequence) {
  return c.q +
         static_cast<int64_t>(c.step.sequences[sequence].row_begin) * c.num_heads * c.kv.head_dim;
}

// Where a head's scores of a page begin in ChoiceParams::scores.
__device__ __forceinline__ int64_t BeginOfPage(KeptScores kept, int32_t page, int64_t head,
                                               int32_t num_heads, int32_t max_tokens) {
  return kept == KeptScores::kScores ? head * max_tokens + int64_t{page} * kTokensPerPage
                                     : (int64_t{page} * num_heads + head) * kTokensPerPage;
}

// A sequence's parameters in shared memory, so that no later use of them waits. By all threads of a
// block; to be read after its next barrier.
__device__ __forceinline__ void CopyParams(const ChoiceLaunch& c, int32_t sequence,
                                           ChoiceParams* shared) {
  static_assert(sizeof(ChoiceParams) % 4 == 0);
  const auto* from = reinterpret_cast<const uint32_t*>(&c.params[sequence]);
  for (uint32_t i = threadIdx.x; i < sizeof(ChoiceParams) / 4; i += blockDim.x)
    reinterpret_cast<uint32_t*>(shared)[i] = from[i];
}

// begins[s] = the items of the sequences before s, begins[num_sequences] all of them. By the whole
// block; begins is shared memory.
template <typename CountOf>
__device__ void BeginsOfSequences(int32_t num_sequences, CountOf count_of, int32_t* begins) {
  if (threadIdx.x < 32) {
    int32_t before = 0;
    for (int32_t first = 0; first < num_sequences; first += 32) {
      const int32_t s = first + static_cast<int32_t>(threadIdx.x);
      int32_t sum = s < num_sequences ? count_of(s) : 0;
      for (int32_t d = 1; d < 32; d *= 2) {
        const int32_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(d));
        if (static_cast<int32_t>(threadIdx.x) >= d) sum += other;
      }
      if (s < num_sequences) begins[s + 1] = before + sum;
      before += __shfl_sync(kAllLanes, sum, 31);
    }
    if (threadIdx.x == 0) begins[0] = 0;
  }
  __syncthreads();
}
// The sequence that an item belongs to. REQUIRES: item < begins[num_sequences].
__device__ __forceinline__ int32_t SequenceOf(const int32_t* begins, int32_t item) {
  int32_t s = 0;
  while (begins[s + 1] <= item) ++s;
  return s;
}

// A contiguous share of `total` items for each block of a one-dimensional grid.
struct BlockShare {
  int32_t begin;
  int32_t end;
};
__device__ __forceinline__ BlockShare ShareOfBlock(int32_t total) {
  const int64_t block = blockIdx.x;
  return {static_cast<int32_t>(total * block / gridDim.x),
          static_cast<int32_t>(total * (block + 1) / gridDim.x)};
}

// Ascending with the value, 0 for NaN; -0 is the same as 0. Every number gives more than 0.
__device__ __forceinline__ uint32_t OrderedBits(float value) {
  if (!(value == value)) return 0;
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float ValueOfOrdered(uint32_t ordered) {
  return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

// The bin of a value in `bins`: of probabilities and their sums, from 2^-58 to 2^6, 32 to an
// octave; what is outside is in the first and the last.
inline constexpr int32_t kBinShift = 18;  // of a float's bits
inline constexpr int32_t kBinOffset = (127 - 58) * 32;
__device__ __forceinline__ int32_t ProbabilityBin(uint32_t ordered) {
  const auto bin = static_cast<int32_t>((ordered & 0x7fffffffu) >> kBinShift) - kBinOffset;
  return min(max(bin, 0), kTopKBins - 1);
}
// A probability is in this bin or a later one if it is not less; NaN, which nothing is, behind the
// last bin.
__device__ __forceinline__ float BeginOfBin(int32_t bin) {
  if (bin <= 0) return -__builtin_inff();
  if (bin >= kTopKBins) return __int_as_float(0x7fc00000);
  return __int_as_float((bin + kBinOffset) << kBinShift);
}

__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, d));
  return value;
}
template <typename T>
__device__ __forceinline__ T WarpSum(T value) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) value += __shfl_xor_sync(kAllLanes, value, d);
  return value;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_DEVICE_CUH_
