// Sealing one page's index of one KV head, by one block of threads: for kernels that have just
// filled a page.
//
// Numerics  float32: minimum = f16 of the least key as stored, step = f16 of (largest - minimum) /
//           (2^bits - 1), code = round((key - minimum) / step) to even, clamped, 0 where the step
//           is not above 0. The same on every device and as on a CPU.
#ifndef TIDAL_CUDA_SEAL_PAGE_CUH_
#define TIDAL_CUDA_SEAL_PAGE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/device_types.h"
#include "cuda/key_index.cuh"
#include "cuda/kv_f8.cuh"

namespace tidal {

inline constexpr int32_t kMaxSealHeadDim = 256;

// Keys of one page and KV head.
__device__ __forceinline__ const uint8_t* KeyRows(const DeviceKv& kv, int32_t page_id,
                                                  int32_t kv_head) {
  return kv.base + page_id * kv.page_bytes + kv_head * kv.kv_head_bytes;
}

// The same, to be read a number at a time.
struct PageKeys {
  const uint8_t* rows;
  int64_t stride;          // of rows
  const uint32_t* scales;  // of f8e4m3, else not read
  CacheType type;

  __device__ __forceinline__ PageKeys(const DeviceKv& kv, int32_t page_id, int32_t kv_head)
      : rows(KeyRows(kv, page_id, kv_head)),
        stride(kv.row_bytes),
        scales(ScalesAt(kv, rows, 0)),
        type(kv.type) {}

  template <typename T>
  __device__ __forceinline__ T As(int32_t token, int32_t channel) const {
    return reinterpret_cast<const T*>(rows + token * stride)[channel];
  }
  // As stored, in float32.
  __device__ __forceinline__ float At(int32_t token, int32_t channel) const {
    if (type == CacheType::kF32) return As<float>(token, channel);
    if (type == CacheType::kF16) return static_cast<float>(As<__half>(token, channel));
    if (type == CacheType::kBF16) return static_cast<float>(As<__nv_bfloat16>(token, channel));
    return ToFloat(As<E4m3>(token, channel)) * KeyScale(scales[token]);
  }
};

// Keys of a page and KV head in shared memory: reading them a channel at a time from the device's
// memory waits for it again and again. Rows are apart by 16 bytes more than they have, for the
// banks.
inline constexpr int32_t kStagedRowBytes = 256;
inline constexpr int32_t kStagedRowStride = kStagedRowBytes + 16;

// Copies the page's keys to `staged`; ends with a barrier. REQUIRES: rows of kStagedRowBytes at
// most.
__device__ inline void StageKeys(const uint8_t* keys, int32_t row_bytes, uint8_t* staged) {
  const int32_t row_vectors = row_bytes / 16;
#pragma unroll 4
  for (auto i = static_cast<int32_t>(threadIdx.x); i < kIndexPageTokens * row_vectors;
       i += static_cast<int32_t>(blockDim.x)) {
    *reinterpret_cast<uint4*>(staged + i / row_vectors * kStagedRowStride + i % row_vectors * 16) =
        reinterpret_cast<const uint4*>(keys)[i];
  }
  __syncthreads();
}

// Called by all threads of a block, of any size. What the block wrote of the page must be visible
// to it (__syncthreads); ends without a barrier, and must not be called again before one.
// REQUIRES: head_dim a multiple of 16, at most kMaxSealHeadDim.
__device__ inline void SealPageOfHead(const DeviceKv& kv, uint8_t* index_base, int64_t page_bytes,
                                      int32_t bits, int32_t page_id, int32_t kv_head) {
  __shared__ float minima[kMaxSealHeadDim];
  __shared__ float steps[kMaxSealHeadDim];
  const int32_t head_dim = kv.head_dim;
  const auto top = static_cast<float>((1 << bits) - 1);
  __shared__ __align__(16) uint8_t staged[kIndexPageTokens * kStagedRowStride];
  PageKeys keys(kv, page_id, kv_head);
  if (kv.row_bytes <= kStagedRowBytes) {
    StageKeys(keys.rows, static_cast<int32_t>(kv.row_bytes), staged);
    keys.rows = staged;
    keys.stride = kStagedRowStride;
  }
  const IndexPart part = IndexPartAt(index_base, page_bytes, page_id, kv_head, head_dim, bits);
  for (int32_t d = threadIdx.x; d < head_dim; d += blockDim.x) {
    float low = keys.At(0, d);
    float high = low;
#pragma unroll 8
    for (int32_t t = 1; t < kIndexPageTokens; ++t) {
      const float key = keys.At(t, d);
      low = fminf(low, key);
      high = fmaxf(high, key);
    }
    part.minima[d] = __float2half_rn(low);
    low = __half2float(part.minima[d]);
    part.steps[d] = __float2half_rn(__fdiv_rn(high - low, top));
    minima[d] = low;
    steps[d] = __half2float(part.steps[d]);
  }
  __syncthreads();
  const int32_t words_per_lane = IndexWordsPerLane(bits);
  const int32_t products_per_word = bits == 4 ? 1 : 2;
  for (int32_t w = threadIdx.x; w < head_dim * 2 * words_per_lane; w += blockDim.x) {
    const int32_t lane = w / words_per_lane % 32;
    const int32_t first_channel = w / (32 * words_per_lane) * 16 + lane % 4 * 4;
    const int32_t first_token = lane / 4 * 8 + w % words_per_lane * products_per_word * 2;
    uint32_t word = 0;
    for (int32_t i = 0; i < 8 * products_per_word; ++i) {
      const int32_t token = first_token + i / 4;
      const int32_t channel = first_channel + i % 4;
      const float key = keys.At(token, channel);
      const float step = steps[channel];
      const float code = step > 0 ? rintf(__fdiv_rn(key - minima[channel], step)) : 0.0f;
      const auto clamped = static_cast<uint32_t>(fminf(fmaxf(code, 0.0f), top));
      word |= clamped << PlaceOfCode(token, channel, bits).bit;
    }
    part.codes[w] = word;
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SEAL_PAGE_CUH_
