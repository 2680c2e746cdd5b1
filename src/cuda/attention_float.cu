// Attention in float32, a warp to each row and head: for comparisons, and for head_dims and cache
// types that the tensor-core kernels are not written for.
//
// What      tiles of 32 tokens: each lane scores one, then all lanes add up V, a channel or more
//           each.
// Numerics  float32 throughout, with a running softmax.
// Oracle    attention_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/kv_f8.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 256;
constexpr int kMaxChannels = kMaxHeadDim / 32;  // of a lane
constexpr int kPageTokens = 64;
constexpr unsigned kAll = 0xffffffff;

// Grid: [rows of a sequence][heads / kWarps][sequences].
template <typename T>
__global__ void __launch_bounds__(32 * kWarps) AttendFloatKernel(const AttentionCall call) {
  __shared__ float queries[kWarps][kMaxHeadDim];
  AllowNext();
  WaitForInputs();
  const int32_t seq = blockIdx.z;
  const DeviceSequence sequence = call.step.sequences[seq];
  const bool reads_sets = call.sets != nullptr;
  if ((call.step.flags[seq] & (reads_sets ? kReadsSets : kReadsAll)) == 0) return;
  const auto row = static_cast<int32_t>(blockIdx.x);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const auto head = static_cast<int32_t>(blockIdx.y) * kWarps + warp;
  if (row >= sequence.q_len || head >= call.num_heads) return;
  const int32_t gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  const int32_t kv_head = head / gqa_ratio;
  const int32_t head_dim = call.kv.head_dim;
  const int64_t q_row = (int64_t{sequence.row_begin} + row) * call.num_heads + head;
  float* q = queries[warp];
  for (int d = lane; d < head_dim; d += 32) q[d] = call.q[q_row * head_dim + d] * call.attn_scale;
  __syncwarp();

  const int32_t* list = call.step.page_ids + sequence.page_begin;
  int32_t count = sequence.kv_len - sequence.q_len + row + 1;
  if (reads_sets) {
    const DeviceSets sets = call.sets[seq];
    int32_t set = sets.num_sets == 1 ? 0 : sets.num_sets == call.num_heads ? head : kv_head;
    if (call.headmaps != nullptr) {
      const int32_t mapped = call.headmaps[sequence.state * call.kv.num_kv_heads + kv_head];
      if (mapped >= 0) set = mapped;
    }
    list = sets.slots + int64_t{set} * sets.capacity;
    count = sets.counts[set];
  }
  const uint8_t* base = call.kv.base + kv_head * call.kv.kv_head_bytes;
  // Of a token: its place in the page, and the page's in the cache.
  const auto offset_of = [&](int32_t token) {
    return (reads_sets ? list[token] : token) % kPageTokens;
  };
  const auto page_of = [&](int32_t token) {
    return (reads_sets ? list[token] / kPageTokens : list[token / kPageTokens]) *
           call.kv.page_bytes;
  };

  float max = -INFINITY;
  float sum = 0;
  float out[kMaxChannels] = {};
  for (int32_t first = 0; first < count; first += 32) {
    const int32_t token = first + lane;
    const int64_t page = page_of(min(token, count - 1));
    const int32_t offset = offset_of(min(token, count - 1));
    const int64_t place = page + offset * int64_t{call.kv.row_bytes};
    float k_scale = 1;
    float v_scale = 1;
    if constexpr (std::is_same_v<T, E4m3>) {
      const uint32_t scales = *ScalesAt(call.kv, base + page, offset);
      k_scale = KeyScale(scales);
      v_scale = ValueScale(scales);
    }
    float score = -INFINITY;
    if (token < count) {
      const T* k = reinterpret_cast<const T*>(base + place);
      score = 0;
      for (int d = 0; d < head_dim; ++d) score = fmaf(q[d], ToFloat(k[d]), score);
      score *= k_scale;
    }
    float tile_max = score;
    for (int i = 16; i > 0; i /= 2) tile_max = fmaxf(tile_max, __shfl_xor_sync(kAll, tile_max, i));
    const float new_max = fmaxf(max, tile_max);
    const float shrink = expf(max - new_max);
    const float prob = expf(score - new_max);
    max = new_max;
    float tile_sum = prob;
    for (int i = 16; i > 0; i /= 2) tile_sum += __shfl_xor_sync(kAll, tile_sum, i);
    sum = sum * shrink + tile_sum;
#pragma unroll
    for (int c = 0; c < kMaxChannels; ++c) out[c] *= shrink;
    for (int t = 0; t < min(32, count - first); ++t) {
      const float p = __shfl_sync(kAll, prob * v_scale, t);
      const int64_t v_place = __shfl_sync(kAll, place, t) + call.kv.v_offset;
      const T* v = reinterpret_cast<const T*>(base + v_place);
#pragma unroll
      for (int c = 0; c < kMaxChannels; ++c) {
        const int d = c * 32 + lane;
        if (d < head_dim) out[c] = fmaf(p, ToFloat(v[d]), out[c]);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kMaxChannels; ++c) {
    const int d = c * 32 + lane;
    if (d < head_dim) call.out[q_row * head_dim + d] = out[c] / sum;
  }
}

}  // namespace

cudaError_t AttendFloat(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  if (call.kv.head_dim > kMaxHeadDim) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(max_q_len),
                  static_cast<unsigned>((call.num_heads + kWarps - 1) / kWarps),
                  static_cast<unsigned>(call.step.num_sequences));
  const dim3 block(32 * kWarps);
  switch (call.kv.type) {
    case CacheType::kF32:
      return Launch(AttendFloatKernel<float>, grid, block, 0, stream, call);
    case CacheType::kF16:
      return Launch(AttendFloatKernel<__half>, grid, block, 0, stream, call);
    case CacheType::kBF16:
      return Launch(AttendFloatKernel<__nv_bfloat16>, grid, block, 0, stream, call);
    case CacheType::kF8e4m3:
      return Launch(AttendFloatKernel<E4m3>, grid, block, 0, stream, call);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tidal
