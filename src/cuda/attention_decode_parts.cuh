// Results of few-row attention: the warps' of a block in one, and the parts' of a context added up.
//
// What      parts meet in the L2 cache, where the last block of a KV head adds them up in their
//           order: behind its part's results stand two round trips to that cache (fence and
//           counter), then one for all parts together. Where they are blocks of a cluster they meet
//           in their shared memory, and each block adds up a share of the channels.
// Bytes     4 * (head_dim + 2) * rows per part, written and read; in a cluster none of memory.
#ifndef TIDAL_CUDA_ATTENTION_DECODE_PARTS_CUH_
#define TIDAL_CUDA_ATTENTION_DECODE_PARTS_CUH_

#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_decode_softmax.cuh"
#include "cuda/attention_decode_tile.cuh"
#include "cuda/cluster.cuh"
#include "cuda/mma.cuh"

namespace tidal::decode {

inline constexpr int kMaxParts = 320;  // of a context
// The parts of a set are blocks of one cluster of so many, where the grid has twice as many; 1: of
// none, for measuring.
inline constexpr int kCluster = 8;

// Leaves each warp's rows, their maxima and sums in shared.merge.
template <typename T, int kHeadDim>
__device__ void MergeWarps(const Running<kHeadDim>& running, int32_t num_rows,
                           Shared<T, kHeadDim>* shared) {
  auto& merge = shared->merge;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  float sum[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = running.sum[r];
    sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 2);
  }
  __syncthreads();  // the tiles, which lie in the same place, are done with
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + 8 * r;
    if (row >= num_rows) continue;
    if (lane % 4 == 0) {
      merge.max[warp][row] = running.max[r];
      merge.sum[warp][row] = sum[r];
    }
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      if constexpr (kIsF8<T>) {
        // Even columns are the first of each two channels, odd ones the second.
        if (n % 2 != 0) continue;
        *reinterpret_cast<float4*>(&merge.out[warp][row][n * 8 + lane % 4 * 4]) = {
            running.out[n][2 * r], running.out[n + 1][2 * r], running.out[n][2 * r + 1],
            running.out[n + 1][2 * r + 1]};
      } else {
        *reinterpret_cast<float2*>(&merge.out[warp][row][n * 8 + lane % 4 * 2]) = {
            running.out[n][2 * r], running.out[n][2 * r + 1]};
      }
    }
  }
  __syncthreads();
}

// How much warp w's share of a row weighs, and the row's maximum and sum over the warps.
template <typename T, int kHeadDim>
__device__ __forceinline__ void RowOfWarps(const Shared<T, kHeadDim>& shared, int row,
                                           float (&weights)[kWarps], float* max, float* sum) {
  *max = -INFINITY;
  *sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) *max = fmaxf(*max, shared.merge.max[w][row]);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float warp_max = shared.merge.max[w][row];
    weights[w] = warp_max == -INFINITY ? 0.0f : exp2f(warp_max - *max);
    *sum += weights[w] * shared.merge.sum[w][row];
  }
}

// A partial result: [kRows][head_dim] weighted sums, then [kRows] pairs of a maximum and a sum.
__device__ __forceinline__ float* PartialOf(const AttentionCall& call, int64_t part, int head_dim) {
  return call.workspace.partial + part * kRows * (head_dim + 2);
}

__device__ __forceinline__ void AddScaled(float4* sum, float weight, const float4& x) {
  sum->x += weight * x.x;
  sum->y += weight * x.y;
  sum->z += weight * x.z;
  sum->w += weight * x.w;
}

// Where four channels of a fragment's row go.
__device__ __forceinline__ float4* OutOf(const AttentionCall& call, const DeviceSequence& sequence,
                                         int32_t first_head, int32_t group, int row, int d) {
  const int64_t q_row = sequence.row_begin + row / group;
  return reinterpret_cast<float4*>(
      call.out + (q_row * call.num_heads + first_head + row % group) * call.kv.head_dim + d);
}

// The weights of a row's parts in its result, in place of their maxima; by one warp. A row's parts
// lie `stride` pairs apart.
__device__ __forceinline__ void WeighParts(float2* stats, int stride, int num_parts) {
  const int lane = threadIdx.x % 32;
  float max = -INFINITY;
  for (int p = lane; p < num_parts; p += 32) max = fmaxf(max, stats[p * stride].x);
#pragma unroll
  for (int i = 16; i > 0; i /= 2) max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, i));
  float sum = 0;
  for (int p = lane; p < num_parts; p += 32) {
    float2& part = stats[p * stride];
    part.x = part.x == -INFINITY ? 0.0f : exp2f(part.x - max);
    sum += part.x * part.y;
  }
#pragma unroll
  for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(0xffffffff, sum, i);
  const float scale = 1 / sum;
  for (int p = lane; p < num_parts; p += 32) stats[p * stride].x *= scale;
}

// Adds the parts up in their order, by a whole block. The copies of all maxima, sums and vectors
// are under way together, so that this takes one time of the L2 cache and what a multiprocessor
// needs to take them in (66 KB of 33 parts of 4 rows of 128: 0.6 us); more than the block's memory
// holds comes in rounds.
template <typename T, int kHeadDim>
__device__ void AddParts(const AttentionCall& call, const DeviceSequence& sequence,
                         int64_t first_part, int num_parts, int32_t first_head, int32_t group,
                         int32_t num_rows, Shared<T, kHeadDim>* shared) {
  constexpr int kVectors = kHeadDim / 4;
  constexpr int kMine = (kRows * kVectors + kThreads - 1) / kThreads;
  constexpr int kBytes = sizeof(shared->parts);
  static_assert(kMaxParts * kRows * sizeof(float2) + kRows * kHeadDim * sizeof(float) <= kBytes);
  const int pairs = (num_rows + 1) / 2;  // of rows' statistics, 16 bytes each
  auto* stats = reinterpret_cast<float2*>(shared->parts);
  auto* vectors = reinterpret_cast<float4*>(shared->parts + num_parts * pairs * 16);
  const int part_vectors = num_rows * kVectors;
  const int round_parts = (kBytes - num_parts * pairs * 16) / (part_vectors * 16);
  for (int i = threadIdx.x; i < num_parts * pairs; i += kThreads) {
    const float* partial = PartialOf(call, first_part + i / pairs, kHeadDim);
    CopyAsync16(stats + 2 * i, partial + kRows * kHeadDim + i % pairs * 4, true);
  }
  CommitCopies();
  float4 out[kMine] = {};
  for (int begin = 0; begin < num_parts; begin += round_parts) {
    const int end = min(begin + round_parts, num_parts);
    for (int p = begin; p < end; ++p) {
      const float* partial = PartialOf(call, first_part + p, kHeadDim);
#pragma unroll
      for (int k = 0; k < kMine; ++k) {
        const int i = k * kThreads + threadIdx.x;
        if (i < part_vectors)
          CopyAsync16(vectors + (p - begin) * part_vectors + i, partial + 4 * i, true);
      }
    }
    CommitCopies();
    if (begin == 0) {
      WaitForCopies<1>();
      __syncthreads();
      for (int row = threadIdx.x / 32; row < num_rows; row += kWarps)
        WeighParts(stats + row, 2 * pairs, num_parts);
      __syncthreads();
    }
    // A thread reads but what it has copied itself.
    WaitForCopies<0>();
#pragma unroll
    for (int k = 0; k < kMine; ++k) {
      const int i = k * kThreads + threadIdx.x;
      if (i >= part_vectors) continue;
      const float2* weights = stats + i / kVectors;
#pragma unroll 8
      for (int p = begin; p < end; ++p)
        AddScaled(&out[k], weights[p * 2 * pairs].x, vectors[(p - begin) * part_vectors + i]);
    }
  }
#pragma unroll
  for (int k = 0; k < kMine; ++k) {
    const int i = k * kThreads + threadIdx.x;
    if (i >= part_vectors) continue;
    *OutOf(call, sequence, first_head, group, i / kVectors, i % kVectors * 4) = out[k];
  }
}

// Adds up parts that are the blocks of a cluster, part p of rank p, each block a share of the
// channels, in the order of the parts. What they have left in part_out and part_stats is read in
// one round trip between multiprocessors.
template <typename T, int kHeadDim>
__device__ void AddPartsOfCluster(const AttentionCall& call, const DeviceSequence& sequence,
                                  int part, int num_parts, int32_t first_head, int32_t group,
                                  int32_t num_rows, Shared<T, kHeadDim>* shared) {
  constexpr int kVectors = kHeadDim / 4;
  ClusterSync();
  const int count = num_rows * kVectors;
  const int share = (count + num_parts - 1) / num_parts;
  const int end = min(count, (part + 1) * share);
  for (int i = part * share + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    const int row = i / kVectors;
    const int d = i % kVectors * 4;
    float2 stats[kCluster];
    float4 vectors[kCluster];
#pragma unroll
    for (int p = 0; p < kCluster; ++p) {
      stats[p] = {-INFINITY, 0};
      vectors[p] = {};
      if (p >= num_parts) continue;
      const auto* merge = OfBlock(&shared->merge, p);
      stats[p] = merge->part_stats[row];
      vectors[p] = *reinterpret_cast<const float4*>(&merge->part_out[row][d]);
    }
    float max = -INFINITY;
#pragma unroll
    for (const float2& part_stats : stats) max = fmaxf(max, part_stats.x);
    float sum = 0;
    float4 out = {};
#pragma unroll
    for (int p = 0; p < kCluster; ++p) {
      const float weight = stats[p].x == -INFINITY ? 0.0f : exp2f(stats[p].x - max);
      sum += weight * stats[p].y;
      AddScaled(&out, weight, vectors[p]);
    }
    const float scale = 1 / sum;
    *OutOf(call, sequence, first_head, group, row, d) = {out.x * scale, out.y * scale,
                                                         out.z * scale, out.w * scale};
  }
  ClusterSync();  // nobody reads an ended block's memory
}

}  // namespace tidal::decode

#endif  // TIDAL_CUDA_ATTENTION_DECODE_PARTS_CUH_
