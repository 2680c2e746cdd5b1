// A step's rows between the products and attention: RoPE's angles once a step; head norms, RoPE and
// the append of K and V to the cache in every layer.
//
// Launch    angles: a thread for each pair of a row. Append: a block for each KV head of a row, its
//           warps taking K, V and the queries of the KV head in turn; the block of a row that fills
//           a page seals it, since nobody else writes there.
// Bytes     q read and written once, K and V read as float32 and written as the cache has them: 44
//           KB a row of Llama-3-8B, so that a decode step waits for latencies here, not for memory.
// Numerics  angles in float64 until the end; norms and rotations in float32; rounded once, to the
//           cache's type.
// Oracle    the plan tests (tests/) and key_index_test.cc, kv_f8_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/kv_f8.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/rows.h"
#include "cuda/seal_page.cuh"

namespace tidal {
namespace {

constexpr int kThreads = 256;  // also what a page is sealed by
constexpr int kWarps = kThreads / 32;
constexpr int kMaxHeadDim = 256;
constexpr int kPageTokens = 64;

__global__ void __launch_bounds__(kThreads)
    RopeAnglesKernel(const int32_t* positions, int32_t num_rows, const double* frequencies,
                     int32_t num_pairs, double attn_factor, float2* cos_sin) {
  AllowNext();
  WaitForInputs();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= int64_t{num_rows} * num_pairs) return;
  double sine;
  double cosine;
  sincos(positions[i / num_pairs] * frequencies[i % num_pairs], &sine, &cosine);
  cos_sin[i] = {static_cast<float>(attn_factor * cosine), static_cast<float>(attn_factor * sine)};
}

// Norms (if it has weights) and rotates a head of shared memory; all lanes of one warp.
__device__ void NormAndRotate(const AppendCall& call, const float* norm, const float2* cos_sin,
                              float* head) {
  const int lane = threadIdx.x % 32;
  const int32_t head_dim = call.kv.head_dim;
  if (norm != nullptr) {
    float sum = 0;
    for (int d = lane; d < head_dim; d += 32) sum = fmaf(head[d], head[d], sum);
    for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(0xffffffff, sum, i);
    const float scale = rsqrtf(sum / static_cast<float>(head_dim) + call.norm_eps);
    for (int d = lane; d < head_dim; d += 32) head[d] *= scale * norm[d];
    __syncwarp();
  }
  for (int pair = lane; pair < call.rope_dim / 2; pair += 32) {
    const int a = call.interleaved ? 2 * pair : pair;
    const int b = call.interleaved ? 2 * pair + 1 : pair + call.rope_dim / 2;
    const float2 angle = cos_sin[pair];
    const float x = head[a];
    const float y = head[b];
    head[a] = x * angle.x - y * angle.y;
    head[b] = x * angle.y + y * angle.x;
  }
  __syncwarp();
}

// Stores K or V of a slot and KV head at `row`; all lanes of a warp.
template <typename T, bool kIsValue>
__device__ __forceinline__ void StoreRow(const DeviceKv& kv, int32_t slot, int32_t kv_head,
                                         const float* from, uint8_t* row) {
  if constexpr (std::is_same_v<T, E4m3>) {
    uint8_t* part = kv.base + (slot / kPageTokens) * kv.page_bytes + kv_head * kv.kv_head_bytes;
    uint8_t* scales = part + kv.scales_offset + slot % kPageTokens * int64_t{kTokenScaleBytes};
    StoreF8Row(from, kv.head_dim, row, reinterpret_cast<uint16_t*>(scales) + (kIsValue ? 1 : 0));
  } else {
    for (auto d = static_cast<int32_t>(threadIdx.x % 32); d < kv.head_dim; d += 32)
      reinterpret_cast<T*>(row)[d] = FromFloat<T>(from[d]);
  }
}

// Grid: [KV heads][rows]. A warp takes a head at a time: K first, then V, then the queries of the
// KV head.
template <typename T>
__global__ void __launch_bounds__(kThreads) RotateAndAppendKernel(const AppendCall call) {
  __shared__ float heads[kWarps][kMaxHeadDim];
  AllowNext();
  WaitForInputs();
  const int32_t row = blockIdx.y;
  const int32_t kv_head = blockIdx.x;
  const int32_t head_dim = call.kv.head_dim;
  const int32_t num_kv_heads = call.kv.num_kv_heads;
  const int32_t gqa_ratio = call.num_heads / num_kv_heads;
  const int32_t slot = call.slots[row];
  const float2* cos_sin = call.cos_sin + int64_t{row} * (call.rope_dim / 2);
  uint8_t* place = call.kv.base + (slot / kPageTokens) * call.kv.page_bytes +
                   kv_head * call.kv.kv_head_bytes +
                   (slot % kPageTokens) * int64_t{call.kv.row_bytes};
  const int64_t kv_row = (int64_t{row} * num_kv_heads + kv_head) * head_dim;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* head = heads[warp];
  for (int item = warp; item < gqa_ratio + 2; item += kWarps) {
    if (item == 1) {
      StoreRow<T, true>(call.kv, slot, kv_head, call.v + kv_row, place + call.kv.v_offset);
      continue;
    }
    const bool is_key = item == 0;
    float* q =
        call.q + (int64_t{row} * call.num_heads + kv_head * gqa_ratio + (item - 2)) * head_dim;
    const float* from = is_key ? call.k + kv_row : q;
    for (int d = lane; d < head_dim; d += 32) head[d] = from[d];
    __syncwarp();
    NormAndRotate(call, is_key ? call.k_norm : call.q_norm, cos_sin, head);
    if (is_key) {
      StoreRow<T, false>(call.kv, slot, kv_head, head, place);
    } else {
      for (int d = lane; d < head_dim; d += 32) q[d] = head[d];
    }
    __syncwarp();
  }
  if (call.index.base == nullptr || call.seals[row] == 0) return;
  __syncthreads();  // the key is written
  SealPageOfHead(call.kv, call.index.base, call.index.page_bytes, call.index.bits,
                 slot / kPageTokens, kv_head);
}

}  // namespace

cudaError_t RopeAngles(const int32_t* positions, int32_t num_rows, const double* frequencies,
                       int32_t num_pairs, double attn_factor, float2* cos_sin,
                       cudaStream_t stream) {
  const int64_t count = int64_t{num_rows} * num_pairs;
  const dim3 grid(static_cast<unsigned>((count + kThreads - 1) / kThreads));
  return Launch(RopeAnglesKernel, grid, dim3(kThreads), 0, stream, positions, num_rows, frequencies,
                num_pairs, attn_factor, cos_sin);
}

namespace {

// With as much shared memory as the kernels around it have: a multiprocessor that has to divide its
// memory anew first runs empty.
template <typename T>
cudaError_t LaunchAppend(const AppendCall& call, dim3 grid, cudaStream_t stream) {
  if (const cudaError_t error = cudaFuncSetAttribute(RotateAndAppendKernel<T>,
                                                     cudaFuncAttributePreferredSharedMemoryCarveout,
                                                     cudaSharedmemCarveoutMaxShared);
      error != cudaSuccess) {
    return error;
  }
  return Launch(RotateAndAppendKernel<T>, grid, dim3(kThreads), 0, stream, call);
}

}  // namespace

cudaError_t RotateAndAppend(const AppendCall& call, cudaStream_t stream) {
  if (call.kv.head_dim > kMaxHeadDim) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(call.kv.num_kv_heads),
                  static_cast<unsigned>(call.num_rows));
  switch (call.kv.type) {
    case CacheType::kF32:
      return LaunchAppend<float>(call, grid, stream);
    case CacheType::kF16:
      return LaunchAppend<__half>(call, grid, stream);
    case CacheType::kBF16:
      return LaunchAppend<__nv_bfloat16>(call, grid, stream);
    case CacheType::kF8e4m3:
      return LaunchAppend<E4m3>(call, grid, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tidal
