// Where the key index of a page lies on a device.
//
// For each KV head of a page, one behind the other:
//   minima  [head_dim] f16
//   steps   [head_dim] f16
//   codes   [head_dim / 16 slices of channels][32 lanes][words of 4 bytes]: 4 words a lane with 4
//           bits, 2 with 2
// so that key ~ minimum + code * step. Codes lie as the tensor cores want them: a lane of a warp
// loads its words of a slice at once, and they are its operands of four products of 16 tokens x 16
// channels (mma.m16n8k16) without a shuffle. Rows of a product may stand in any order, and so may
// channels as long as the query's stand in the same, which gives:
//   lane     4 * (token / 8) + channel % 16 / 4
//   product  token % 8 / 2
//   register token % 2 + 2 * (channel % 4 / 2), its low or high half by channel % 2
// Bytes  4 * head_dim + 64 * head_dim * bits / 8 per page and KV head; 4608 with 128 channels and 4
//        bits.
#ifndef TIDAL_CUDA_KEY_INDEX_CUH_
#define TIDAL_CUDA_KEY_INDEX_CUH_

#include <cstdint>
#include <cuda_fp16.h>

namespace tidal {

inline constexpr int32_t kIndexPageTokens = 64;
inline constexpr int32_t kSliceChannels = 16;

// Words of 4 bytes that a lane has of a slice of channels.
__host__ __device__ constexpr int32_t IndexWordsPerLane(int32_t bits) { return bits; }
static_assert(kIndexPageTokens * kSliceChannels * 4 == 32 * IndexWordsPerLane(4) * 32);

__host__ __device__ constexpr int64_t IndexCodesOffset(int32_t head_dim) {
  return int64_t{4} * head_dim;
}
__host__ __device__ constexpr int64_t IndexKvHeadBytes(int32_t head_dim, int32_t bits) {
  return IndexCodesOffset(head_dim) + int64_t{kIndexPageTokens} * head_dim * bits / 8;
}

// Where a code stands: a word of the page's codes and its lowest bit there.
struct IndexPlace {
  int32_t word = 0;
  int32_t bit = 0;
};
__host__ __device__ constexpr IndexPlace PlaceOfCode(int32_t token, int32_t channel, int32_t bits) {
  const int32_t lane = 4 * (token / 8) + channel % 16 / 4;
  const int32_t product = token % 8 / 2;
  const int32_t place = token % 2 + 2 * (channel % 4 / 2);
  const int32_t per_word = bits == 4 ? 1 : 2;  // products
  const int32_t word = (channel / 16 * 32 + lane) * IndexWordsPerLane(bits) + product / per_word;
  return {word, (product % per_word * 4 + place) * bits + 16 * (channel % 2)};
}

// One KV head's part of a page's index.
struct IndexPart {
  __half* minima = nullptr;  // [head_dim]
  __half* steps = nullptr;   // [head_dim]
  uint32_t* codes = nullptr;
};
__host__ __device__ inline IndexPart IndexPartAt(uint8_t* base, int64_t page_bytes, int32_t page_id,
                                                 int32_t kv_head, int32_t head_dim, int32_t bits) {
  uint8_t* part = base + page_id * page_bytes + kv_head * IndexKvHeadBytes(head_dim, bits);
  return {.minima = reinterpret_cast<__half*>(part),
          .steps = reinterpret_cast<__half*>(part) + head_dim,
          .codes = reinterpret_cast<uint32_t*>(part + IndexCodesOffset(head_dim))};
}

}  // namespace tidal

#endif  // TIDAL_CUDA_KEY_INDEX_CUH_
