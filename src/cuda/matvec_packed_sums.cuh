// What a warp makes of a stage of packed weights: products of codes with split x on tensor cores,
// scales applied to sums of groups, and sums of a tile for the rows of x.
#ifndef TIDAL_CUDA_MATVEC_PACKED_SUMS_CUH_
#define TIDAL_CUDA_MATVEC_PACKED_SUMS_CUH_

#include <cstdint>

#include "cuda/matvec_packed_x.cuh"
#include "cuda/matvec_shape.h"
#include "cuda/packed_fragment.cuh"

namespace tidal {

// d = a b and d += a b on tensor cores, [16][8] = [16][16] [16][8]; d in float32.
__device__ __forceinline__ void MultiplyCodes(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}
__device__ __forceinline__ void AddProductOfCodes(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A lane's sums of a tile, for rows g and g + 8 (g = lane / 4) and its set of x (lane % 4), apart
// for the rounds of a stage: with fewer rows of x the same chunks are apart by lane, so that all
// are added up in one order.
template <DType kType, int kN>
struct TileSums {
  using Sets = XSets<kType, kN>;
  static constexpr int kCount = Sets::kRounds * Sets::kBlocks * 2;
  float value[Sets::kRounds][Sets::kBlocks][2];

  __device__ __forceinline__ float& At(int i) {
    return value[i / 2 / Sets::kBlocks][i / 2 % Sets::kBlocks][i % 2];
  }
};

// The sums of codes of a chunk's groups, of one block of sets.
template <int kGroups>
struct ChunkSums {
  float of_row[2][kGroups];
};

// Multiplies the chunk's codes with all sets of a block and keeps the results of the lane's own set
// where `keeps`.
template <DType kType>
__device__ __forceinline__ void MultiplyChunk(const CodeFragments<kType>& codes,
                                              const uint4 (&b)[2], bool keeps,
                                              ChunkSums<ChunkScales<kType>::kGroups>* sums) {
  constexpr int kGroups = ChunkScales<kType>::kGroups;
  uint32_t a[4][4];
  codes.template Get<0>(a[0]);
  codes.template Get<1>(a[1]);
  codes.template Get<2>(a[2]);
  codes.template Get<3>(a[3]);
  float d[kGroups][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if constexpr (kGroups == 2) {
      MultiplyCodes(d[half], a[2 * half], b[half].x, b[half].y);
      AddProductOfCodes(d[half], a[2 * half + 1], b[half].z, b[half].w);
    } else {
      MultiplyCodes(d[2 * half], a[2 * half], b[half].x, b[half].y);
      MultiplyCodes(d[2 * half + 1], a[2 * half + 1], b[half].z, b[half].w);
    }
  }
  if (!keeps) return;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    sums->of_row[0][i] = d[i][0] + d[i][1];
    sums->of_row[1][i] = d[i][2] + d[i][3];
  }
}

// One stage of `units` units whose x starts at `chunk` of what is staged.
template <DType kType, int kN>
__device__ __forceinline__ void AddStage(const uint8_t* stage, int units, int chunk,
                                         const StagedX& x, int lane, TileSums<kType, kN>* sums) {
  using Sets = XSets<kType, kN>;
  constexpr int kGroups = Sets::kGroups;
  constexpr int kUnitChunks = UnitCols(kType) / kChunkCols;
  const int num_chunks = IsKType(kType) ? kUnitChunks : units;
  const int set = min(lane % 4, Sets::kSets - 1);
  const int slot = set / Sets::kBlockRows;
  const uint4* operands =
      x.operands + chunk / Sets::kSlots * Sets::kBlocks * 2 * Sets::kHalfVectors;
  const int vector = min(lane, Sets::kHalfVectors - 1);
  const int swizzled = vector ^ Sets::Swizzle(vector / 8 / Sets::kBlockRows, 0);
#pragma unroll
  for (int round = 0; round < Sets::kRounds; ++round) {
    uint4 b[Sets::kBlocks][2];
#pragma unroll
    for (int i = 0; i < Sets::kBlocks * 2; ++i)
      b[i / 2][i % 2] = operands[(round * Sets::kBlocks * 2 + i) * Sets::kHalfVectors +
                                 (swizzled ^ Sets::Swizzle(round * Sets::kSlots, i % 2))];
    ChunkSums<kGroups> chunk_sums[Sets::kBlocks] = {};
#pragma unroll
    for (int s = 0; s < Sets::kSlots; ++s) {
      const int at = round * Sets::kSlots + s;
      if (at >= num_chunks) break;
      const CodeFragments<kType> codes(stage + at / kUnitChunks * UnitBytes(kType),
                                       at % kUnitChunks, lane);
#pragma unroll
      for (int block = 0; block < Sets::kBlocks; ++block)
        MultiplyChunk(codes, b[block], slot == s, &chunk_sums[block]);
    }
    const int own = round * Sets::kSlots + slot;
    if (own >= num_chunks) break;
    const ChunkScales<kType> scales(stage + own / kUnitChunks * UnitBytes(kType), own % kUnitChunks,
                                    lane / 4);
#pragma unroll
    for (int block = 0; block < Sets::kBlocks; ++block) {
      const int n = set % Sets::kBlockRows + block * Sets::kBlockRows;
      const int at = (chunk + own) * kN + n;
      float x_sums[kGroups];
#pragma unroll
      for (int i = 0; i < kGroups; ++i) x_sums[i] = x.sums[at * kGroups + i];
      const float unit = x.units[at];
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float& sum = sums->value[round][block][row];
        sum = fmaf(unit, scales.Value(row, chunk_sums[block].of_row[row], x_sums), sum);
      }
    }
  }
}

// The warps' sums of a task's tiles, [2 tiles][warps][16 rows][kN].
template <DType kType, int kN>
__device__ void PutPartial(float* partial, int tile, const TileSums<kType, kN>& sums) {
  using Sets = XSets<kType, kN>;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int block = 0; block < Sets::kBlocks; ++block) {
    const int n = lane % 4 + block * Sets::kBlockRows;
    float* at = partial + ((tile * kMatvecWarps + warp) * kTileRows + lane / 4) * kN + n;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float round_sums[Sets::kRounds];
#pragma unroll
      for (int round = 0; round < Sets::kRounds; ++round) {
        float& sum = round_sums[round] = sums.value[round][block][row];
#pragma unroll
        for (int distance = Sets::kBlockRows; distance < Sets::kSets; distance *= 2)
          sum += __shfl_xor_sync(~0u, sum, distance);
      }
#pragma unroll
      for (int step = 1; step < Sets::kRounds; step *= 2) {
#pragma unroll
        for (int round = 0; round < Sets::kRounds; round += 2 * step)
          round_sums[round] += round_sums[round + step];
      }
      if (lane % 4 < Sets::kBlockRows) at[row * 8 * kN] = round_sums[0];
    }
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_PACKED_SUMS_CUH_
