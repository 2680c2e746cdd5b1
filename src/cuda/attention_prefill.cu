// Causal attention of many rows over a paged context, on tensor cores: prefill. For sm_80 and
// newer; on sm_90a attention_prefill_wgmma.cu takes the head_dims that it has.
//
// What      a block takes 128 rows of one head, 16 to a warp, and walks the tokens that they see in
//           tiles of 64 (a page of the cache), two of which are in shared memory.
// Layout    rows of K and V padded by 16 bytes, so that the loads of matrices meet no bank twice.
// Compute   2 * head_dim multiply-adds for each row and token seen: 266 TFLOP/s on an H200, where
//           attention_prefill_wgmma.cu has 700.
// Numerics  queries and probabilities are rounded to the cache's type, scores and sums are float32.
//           f8e4m3 rows become bf16 on their way to shared memory, scales and all, which is exact.
// Oracle    attention_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/attention_prefill_wgmma.h"
#include "cuda/kv_f8.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlockRows = 16 * kWarps;
constexpr int kTile = 64;  // tokens, a page
constexpr int kStages = 2;
constexpr float kLog2E = 1.4426950408889634f;

template <typename T, int kHeadDim>
struct Shared {
  using Row = T[kHeadDim + 8];
  struct Tile {
    alignas(16) Row k[kTile];
    alignas(16) Row v[kTile];
  };
  union {
    Tile tiles[kStages];
    alignas(16) Row q[kBlockRows];
  };
};

template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadTile(typename Shared<T, kHeadDim>::Tile& tile,
                                         const uint8_t* rows, const DeviceKv& kv, int32_t valid) {
  constexpr int kPieces = kHeadDim * 2 / 16;
#pragma unroll
  for (int i = 0; i < (kPieces * kTile + kThreads - 1) / kThreads; ++i) {
    const int piece = i * kThreads + threadIdx.x;
    if (kPieces * kTile % kThreads != 0 && piece >= kPieces * kTile) break;
    const int row = piece / kPieces;
    const int column = piece % kPieces;
    const uint8_t* k = rows + row * kv.row_bytes + column * 16;
    CopyAsync16(&tile.k[row][column * 8], k, row < valid);
    CopyAsync16(&tile.v[row][column * 8], k + kv.v_offset, row < valid);
  }
}

// The same of an f8e4m3 cache, in two halves: a thread fetches its pieces of 16 channels, and puts
// them there when the products before them are done.
template <int kHeadDim>
struct F8Pieces {
  static constexpr int kRowPieces = kHeadDim / 16;
  static constexpr int kCount = (kRowPieces * kTile + kThreads - 1) / kThreads;  // of K, and of V
  static constexpr bool kIsEven = kRowPieces * kTile % kThreads == 0;
  uint4 k[kCount];
  uint4 v[kCount];
  uint32_t scales[kCount];

  static __device__ __forceinline__ int RowOf(int i) {
    return (i * kThreads + static_cast<int>(threadIdx.x)) / kRowPieces;
  }
  static __device__ __forceinline__ int ChannelOf(int i) {
    return (i * kThreads + static_cast<int>(threadIdx.x)) % kRowPieces * 16;
  }

  // Rows from `valid` on are zeros.
  __device__ __forceinline__ void Fetch(const uint8_t* part, const DeviceKv& kv, int32_t valid) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int row = RowOf(i);
      k[i] = v[i] = {0, 0, 0, 0};
      scales[i] = 0;
      if (row >= min(valid, kTile)) continue;
      const uint8_t* at = part + row * kv.row_bytes + ChannelOf(i);
      k[i] = __ldcg(reinterpret_cast<const uint4*>(at));
      v[i] = __ldcg(reinterpret_cast<const uint4*>(at + kv.v_offset));
      scales[i] = __ldcg(ScalesAt(kv, part, row));
    }
  }

  // 16 channels as bf16.
  static __device__ __forceinline__ void Widen(const uint4& piece, float scale, void* to) {
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
    uint32_t pairs[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint2 halves = HalvesOfFour(words[i]);
      const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&halves.x));
      const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&halves.y));
      pairs[2 * i] = PackPair<__nv_bfloat16>(low.x * scale, low.y * scale);
      pairs[2 * i + 1] = PackPair<__nv_bfloat16>(high.x * scale, high.y * scale);
    }
    auto* vectors = static_cast<uint4*>(to);
    vectors[0] = {pairs[0], pairs[1], pairs[2], pairs[3]};
    vectors[1] = {pairs[4], pairs[5], pairs[6], pairs[7]};
  }
  __device__ __forceinline__ void Put(typename Shared<__nv_bfloat16, kHeadDim>::Tile& tile) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!kIsEven && RowOf(i) >= kTile) break;
      Widen(k[i], KeyScale(scales[i]), &tile.k[RowOf(i)][ChannelOf(i)]);
      Widen(v[i], ValueScale(scales[i]), &tile.v[RowOf(i)][ChannelOf(i)]);
    }
  }
};

// Stored: what the cache holds. Grid: [blocks of rows][heads][sequences].
template <typename Stored, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1) AttendPrefillKernel(const AttentionCall call) {
  constexpr bool kIsF8 = std::is_same_v<Stored, E4m3>;
  using T = std::conditional_t<kIsF8, __nv_bfloat16, Stored>;
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_bytes);
  AllowNext();
  WaitForInputs();
  const int32_t seq = blockIdx.z;
  const DeviceSequence sequence = call.step.sequences[seq];
  const int32_t gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  if ((call.step.flags[seq] & kReadsAll) == 0) return;
  if (sequence.q_len * gqa_ratio <= kMaxDecodeAttentionRows) return;
  // The blocks with the most tokens to see come first.
  const auto block = static_cast<int32_t>(gridDim.x - 1 - blockIdx.x);
  const int32_t first_row = block * kBlockRows;
  if (first_row >= sequence.q_len) return;
  const int32_t num_rows = min(kBlockRows, sequence.q_len - first_row);
  const int32_t head = blockIdx.y;
  const int32_t kv_head = head / gqa_ratio;
  const int32_t* page_ids = call.step.page_ids + sequence.page_begin;
  // Row i sees the tokens before seen_by_first + i.
  const int32_t seen_by_first = sequence.kv_len - sequence.q_len + first_row + 1;
  const int32_t num_tokens = seen_by_first + num_rows - 1;
  const int32_t num_tiles = (num_tokens + kTile - 1) / kTile;

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  const int line = lane % 8;

  for (int i = threadIdx.x; i < kBlockRows * kHeadDim; i += kThreads) {
    const int row = i / kHeadDim;
    const int d = i % kHeadDim;
    float q = 0;
    if (row < num_rows) {
      const int64_t q_row = sequence.row_begin + first_row + row;
      q = call.q[(q_row * call.num_heads + head) * kHeadDim + d] * (call.attn_scale * kLog2E);
    }
    shared.q[row][d] = FromFloat<T>(q);
  }
  __syncthreads();
  uint32_t q[kHeadDim / 16][4];
#pragma unroll
  for (int d = 0; d < kHeadDim / 16; ++d) {
    LoadMatrices(q[d], &shared.q[warp * 16 + line + matrix % 2 * 8][d * 16 + matrix / 2 * 8]);
  }
  __syncthreads();

  std::conditional_t<kIsF8, F8Pieces<kHeadDim>, int> pieces;
  const auto start = [&](int32_t tile) {
    if (tile < num_tiles) {
      const uint8_t* rows =
          call.kv.base + page_ids[tile] * call.kv.page_bytes + kv_head * call.kv.kv_head_bytes;
      const int32_t valid = num_tokens - tile * kTile;
      if constexpr (kIsF8) {
        pieces.Fetch(rows, call.kv, valid);
      } else {
        LoadTile<T, kHeadDim>(shared.tiles[tile % kStages], rows, call.kv, valid);
      }
    }
    CommitCopies();
  };
  // Ends what start(tile) began, before the barrier that the tile's readers pass.
  const auto finish = [&](int32_t tile) {
    if constexpr (kIsF8) {
      if (tile < num_tiles) pieces.Put(shared.tiles[tile % kStages]);
    }
  };
  float out[kHeadDim / 8][4] = {};
  float row_max[2] = {-INFINITY, -INFINITY};
  float row_sum[2] = {};
  int32_t limit[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) limit[r] = seen_by_first + warp * 16 + lane / 4 + 8 * r;
  const int32_t warp_sees_all_before = seen_by_first + warp * 16;
  const int32_t warp_sees_none_from = seen_by_first + warp * 16 + 15;

  start(0);
  finish(0);
  for (int32_t tile = 0; tile < num_tiles; ++tile) {
    start(tile + 1);
    WaitForCopies<1>();
    __syncthreads();
    const auto& kv = shared.tiles[tile % kStages];
    const int32_t first_token = tile * kTile;
    if (first_token < warp_sees_none_from) {
      float s[kTile / 8][4] = {};
#pragma unroll
      for (int d = 0; d < kHeadDim / 16; ++d) {
#pragma unroll
        for (int t = 0; t < kTile / 16; ++t) {
          uint32_t k[4];
          LoadMatrices(k, &kv.k[t * 16 + line + matrix / 2 * 8][d * 16 + matrix % 2 * 8]);
          MatMul16x8x16<T>(s[2 * t], q[d], k[0], k[1]);
          MatMul16x8x16<T>(s[2 * t + 1], q[d], k[2], k[3]);
        }
      }
      if (first_token + kTile > warp_sees_all_before) {
#pragma unroll
        for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int32_t token = first_token + n * 8 + lane % 4 * 2 + e % 2;
            if (token >= limit[e / 2]) s[n][e] = -INFINITY;
          }
        }
      }
      float shrink[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float max = row_max[r];
#pragma unroll
        for (int n = 0; n < kTile / 8; ++n) max = fmaxf(max, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, 2));
        // Every row sees the first token, so that its maximum is finite from the first tile on.
        shrink[r] = exp2f(row_max[r] - max);
        row_max[r] = max;
        row_sum[r] *= shrink[r];
      }
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[n][e] = exp2f(s[n][e] - row_max[e / 2]);
          row_sum[e / 2] += s[n][e];
        }
      }
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[n][e] *= shrink[e / 2];
      }
#pragma unroll
      for (int t = 0; t < kTile / 16; ++t) {
        const uint32_t probs[4] = {PackPair<T>(s[2 * t][0], s[2 * t][1]),
                                   PackPair<T>(s[2 * t][2], s[2 * t][3]),
                                   PackPair<T>(s[2 * t + 1][0], s[2 * t + 1][1]),
                                   PackPair<T>(s[2 * t + 1][2], s[2 * t + 1][3])};
#pragma unroll
        for (int d = 0; d < kHeadDim / 16; ++d) {
          uint32_t v[4];
          LoadMatricesTransposed(v, &kv.v[t * 16 + line + matrix % 2 * 8][d * 16 + matrix / 2 * 8]);
          MatMul16x8x16<T>(out[2 * d], probs, v[0], v[1]);
          MatMul16x8x16<T>(out[2 * d + 1], probs, v[2], v[3]);
        }
      }
    }
    finish(tile + 1);
    __syncthreads();
  }
  WaitForCopies<0>();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    row_sum[r] += __shfl_xor_sync(0xffffffff, row_sum[r], 1);
    row_sum[r] += __shfl_xor_sync(0xffffffff, row_sum[r], 2);
    const int32_t row = warp * 16 + lane / 4 + 8 * r;
    if (row >= num_rows) continue;
    const float scale = 1 / row_sum[r];
    const int64_t q_row = sequence.row_begin + first_row + row;
    float* to = call.out + (q_row * call.num_heads + head) * kHeadDim;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const float2 pair = {out[n][2 * r] * scale, out[n][2 * r + 1] * scale};
      *reinterpret_cast<float2*>(to + n * 8 + lane % 4 * 2) = pair;
    }
  }
}

template <typename Stored, int kHeadDim>
cudaError_t LaunchPrefill(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  const auto kernel = AttendPrefillKernel<Stored, kHeadDim>;
  using T = std::conditional_t<std::is_same_v<Stored, E4m3>, __nv_bfloat16, Stored>;
  constexpr size_t kBytes = sizeof(Shared<T, kHeadDim>);
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes));
      error != cudaSuccess) {
    return error;
  }
  const dim3 grid(static_cast<unsigned>((max_q_len + kBlockRows - 1) / kBlockRows),
                  static_cast<unsigned>(call.num_heads),
                  static_cast<unsigned>(call.step.num_sequences));
  return Launch(kernel, grid, dim3(kThreads), kBytes, stream, call);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  return LaunchForHeadDim<64, 80, 96, 128, 256>(call.kv.head_dim, [&](auto head_dim) {
    return LaunchPrefill<T, decltype(head_dim)::value>(call, max_q_len, stream);
  });
}

}  // namespace

cudaError_t AttendPrefill(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  if (call.kv.type == CacheType::kF8e4m3) return LaunchByHeadDim<E4m3>(call, max_q_len, stream);
  if (HasPrefillWgmma(call.kv)) return AttendPrefillWgmma(call, max_q_len, stream);
  return call.kv.type == CacheType::kF16 ? LaunchByHeadDim<__half>(call, max_q_len, stream)
                                         : LaunchByHeadDim<__nv_bfloat16>(call, max_q_len, stream);
}

}  // namespace tidal
