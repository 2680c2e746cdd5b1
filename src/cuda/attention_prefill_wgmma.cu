// Causal attention of many rows over a paged context with Hopper's asynchronous tensor-core
// products: prefill on sm_90a, for a head_dim of 64, 80, 96 or 128. attention_prefill.cu has the
// other head_dims and devices.
//
// What      a block takes 128 rows of one KV head - a token's heads of that KV head lie next to
// each
//           other, so that rows of a head are shared as those of tokens are - 64 to each of two
//           warpgroups, and walks the tokens that they see in tiles of 128, two pages. A thread of
//           a third warpgroup copies K and V, two tiles of each in shared memory.
// Overlap   a warpgroup starts the scores of a tile, then the sum over V of the tile before, and
//           turns scores into probabilities while the tensor cores are at that sum and, since the
//           warpgroups start their products in turns, at those of the other warpgroup.
// Layout    the copies' and products' 128-byte swizzle; wgmma.cuh.
// Launch    384 threads, one block to a multiprocessor (161 KB of shared memory with head_dim 128);
//           blocks with the most tokens to see come first.
// Compute   4 * head_dim multiplications for each row and token seen, of which a multiprocessor
// does
//           2048 a cycle. A tile of 128 rows is 2048 cycles of products with head_dim 128, in which
//           K and V are 64 KB to read (from L2, where the blocks of a KV head meet them) and
//           16384 exponentials 1024 cycles.
// Numerics  queries and probabilities are rounded to the cache's type, scores and sums are float32.
// Oracle    attention_test.cc; speed: bench/cuda_attention_bench.cc.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/attention_prefill_wgmma.h"
#include "cuda/launch.cuh"
#include "cuda/wgmma.cuh"

namespace tidal {
namespace {

constexpr int kPageTokens = 64;
constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kGroupRows = 64;
constexpr int kGroups = 2;  // that multiply
constexpr int kThreads = kGroupThreads * (kGroups + 1);
constexpr int kBlockRows = kGroupRows * kGroups;
constexpr int kTilePages = 2;
constexpr int kTile = kTilePages * kPageTokens;
constexpr int kStages = 2;

// Whether this pass of the compiler has the products; the host's sees them too. In a pass that has
// not, the kernel is empty, and its launch bound says so to the host and makes its launch fail.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TIDAL_HAS_PRODUCTS 1
constexpr int kLaunchBound = kThreads;
#else
#define TIDAL_HAS_PRODUCTS 0
constexpr int kLaunchBound = 32;
#endif

template <int kHeadDim>
struct Shared {
  static constexpr int kBlocks = (kHeadDim + kSwizzleElements - 1) / kSwizzleElements;
  using Rows = uint8_t[kBlocks][kTile * kSwizzleBytes];

  alignas(kSwizzleAlignment) uint8_t q[kBlocks][kBlockRows * kSwizzleBytes];
  alignas(kSwizzleAlignment) Rows k[kStages];
  alignas(kSwizzleAlignment) Rows v[kStages];
  uint64_t k_full[kStages];
  uint64_t k_empty[kStages];
  uint64_t v_full[kStages];
  uint64_t v_empty[kStages];
};
static_assert(kBlockRows == kTile);

// How many rows of the device's memory a page, a KV head and V are apart, a row being one token's K
// or V of a head.
struct RowStrides {
  int32_t page = 0;
  int32_t kv_head = 0;
  int32_t v = 0;
};

#if TIDAL_HAS_PRODUCTS

// The block starts with 168 registers to a thread; these add up to no more.
constexpr int kCopyRegisters = 24;
constexpr int kMultiplyRegisters = 240;
constexpr uint32_t kBlockBytes = kTile * kSwizzleBytes;  // of q (as many rows), K and V
constexpr float kLog2E = 1.4426950408889634f;

// Numbers of the barriers by threads.
constexpr int kTurnBarrier = 1;  // and the next: a warpgroup's turn to start products
constexpr int kAllRowsBarrier = kTurnBarrier + kGroups;
constexpr int kGroupBarrier = kAllRowsBarrier + 1;  // and the next

// What a block has to do.
struct Work {
  const int32_t* page_ids = nullptr;
  int32_t kv_head = 0;
  int32_t gqa_ratio = 0;
  int64_t first_head = 0;  // of the sequence's first row, among the heads of all rows
  int32_t first_row = 0;   // of q_len * gqa_ratio, the heads of a token one after the other
  int32_t num_rows = 0;
  int32_t seen_by_first = 0;  // tokens that the sequence's first row sees
  int32_t num_tokens = 0;     // that the block's last row sees
  int32_t num_tiles = 0;

  __device__ int32_t SeenBy(int32_t row) const {
    return seen_by_first + (first_row + row) / gqa_ratio;
  }
  // Index of a row's head_dim values in q and out.
  __device__ int64_t HeadOf(int32_t row, int32_t num_heads) const {
    const int32_t token = (first_row + row) / gqa_ratio;
    const int32_t head = (first_row + row) % gqa_ratio;
    return first_head + int64_t{token} * num_heads + kv_head * gqa_ratio + head;
  }
};

// The copying thread.
template <int kHeadDim>
__device__ __forceinline__ void CopyTiles(Shared<kHeadDim>& shared, const Work& work,
                                          const CUtensorMap& rows, const RowStrides& strides) {
  constexpr int kPageBytes = kPageTokens * kSwizzleBytes;  // of a block of columns
  const int32_t num_pages = (work.num_tokens + kPageTokens - 1) / kPageTokens;
  const auto copy = [&](typename Shared<kHeadDim>::Rows& to, uint64_t* full,
                        const int32_t(&page_rows)[kTilePages], int32_t pages, int32_t offset) {
    ArriveExpecting(full, static_cast<uint32_t>(pages * Shared<kHeadDim>::kBlocks * kPageBytes));
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      if (page >= pages) break;
#pragma unroll
      for (int block = 0; block < Shared<kHeadDim>::kBlocks; ++block) {
        CopyBox(&to[block][page * kPageBytes], rows, block * kSwizzleElements,
                page_rows[page] + offset, full);
      }
    }
  };
  const auto rows_of = [&](int32_t tile, int32_t(&page_rows)[kTilePages]) {
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      const int32_t index = min(tile * kTilePages + page, num_pages - 1);
      page_rows[page] = work.page_ids[index] * strides.page + work.kv_head * strides.kv_head;
    }
  };
  const auto pages_of = [&](int32_t tile) {
    return min(kTilePages, num_pages - tile * kTilePages);
  };
  // In the order of their use: K of a tile, V of the one before.
  int32_t k_rows[kTilePages];
  int32_t v_rows[kTilePages];
  rows_of(0, k_rows);
  for (int32_t tile = 0; tile <= work.num_tiles; ++tile) {
    int32_t next_rows[kTilePages];  // on their way while the stage is not empty
    rows_of(tile + 1, next_rows);
    if (tile < work.num_tiles) {
      const int32_t stage = tile % kStages;
      WaitForPhase(&shared.k_empty[stage], tile / kStages % 2 ^ 1);
      copy(shared.k[stage], &shared.k_full[stage], k_rows, pages_of(tile), 0);
    }
    if (tile > 0) {
      const int32_t stage = (tile - 1) % kStages;
      WaitForPhase(&shared.v_empty[stage], (tile - 1) / kStages % 2 ^ 1);
      copy(shared.v[stage], &shared.v_full[stage], v_rows, pages_of(tile - 1), strides.v);
    }
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) {
      v_rows[page] = k_rows[page];
      k_rows[page] = next_rows[page];
    }
  }
}

// A warpgroup's 64 rows of q, scaled and rounded, zeros after the last.
template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadQueries(Shared<kHeadDim>& shared, const Work& work,
                                            const AttentionCall& call, int group) {
  constexpr int kPieces = kHeadDim / 8;
  const float scale = call.attn_scale * kLog2E;
#pragma unroll 2
  for (int i = threadIdx.x % kGroupThreads; i < kGroupRows * kPieces; i += kGroupThreads) {
    const int row = group * kGroupRows + i / kPieces;
    const int piece = i % kPieces;
    uint4 packed = {};
    if (row < work.num_rows) {
      const float* q = call.q + work.HeadOf(row, call.num_heads) * kHeadDim + piece * 8;
      const float4 a = *reinterpret_cast<const float4*>(q);
      const float4 b = *reinterpret_cast<const float4*>(q + 4);
      packed = {PackPair<T>(a.x * scale, a.y * scale), PackPair<T>(a.z * scale, a.w * scale),
                PackPair<T>(b.x * scale, b.y * scale), PackPair<T>(b.z * scale, b.w * scale)};
    }
    *reinterpret_cast<uint4*>(&shared.q[piece / 8][SwizzledOffset(row, piece % 8)]) = packed;
  }
  FenceSharedForAsync();
  WaitForThreads(kGroupBarrier + group, kGroupThreads);
}

// Starts s = q k of a tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void StartScores(float (&s)[kTile / 2], uint64_t q, uint64_t k) {
  constexpr uint64_t kSixteen = 32 / 16;  // elements along a row, in a descriptor's units
  constexpr uint64_t kBlock = kBlockBytes / 16;
  FenceProducts();
#pragma unroll
  for (int d = 0; d < kHeadDim / 16; ++d) {
    const uint64_t offset = d / 4 * kBlock + d % 4 * kSixteen;
    MultiplyShared<T>(s, q + offset, k + offset, d > 0);
  }
  CommitProducts();
}

// Starts out += probs v of a tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void StartSum(float (&out)[kHeadDim / 2],
                                         const uint32_t (&probs)[kTile / 16][4], uint64_t v) {
  constexpr uint64_t kSixteen = 16 * kSwizzleBytes / 16;  // rows, in a descriptor's units
  FenceProducts();
#pragma unroll
  for (int t = 0; t < kTile / 16; ++t) {
    MultiplyAddTransposed<T, kHeadDim>(out, probs[t], v + t * kSixteen);
  }
  CommitProducts();
}

// A thread's two rows of a warpgroup's: 8 r + lane / 4 of its warp's 16. Element 4 n + 2 r + e of
// an accumulator is column 8 n + lane % 4 * 2 + e of row r.
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  // of the thread's own columns
};

// Hides what a row does not see: the columns from hidden_from[r] on, counted from the thread's
// first.
__device__ __forceinline__ void Mask(float (&s)[kTile / 2], const int32_t (&hidden_from)[2]) {
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (n * 8 + e % 2 >= hidden_from[e / 2]) s[4 * n + e] = -INFINITY;
    }
  }
}

// Turns scores into probabilities of the rows' new maximum; shrink: what older ones are to be
// multiplied by. Every row sees the first token, so that maxima are finite.
__device__ __forceinline__ void ScoresToProbs(float (&s)[kTile / 2], RowState& state,
                                              float (&shrink)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float max[2] = {s[2 * r], s[2 * r + 1]};
#pragma unroll
    for (int n = 1; n < kTile / 8; ++n) {
      max[0] = fmaxf(max[0], s[4 * n + 2 * r]);
      max[1] = fmaxf(max[1], s[4 * n + 2 * r + 1]);
    }
    float row_max = fmaxf(state.max[r], fmaxf(max[0], max[1]));
    row_max = fmaxf(row_max, __shfl_xor_sync(0xffffffff, row_max, 1));
    row_max = fmaxf(row_max, __shfl_xor_sync(0xffffffff, row_max, 2));
    shrink[r] = Exp2(state.max[r] - row_max);
    state.max[r] = row_max;
  }
  float sums[2][2] = {{state.sum[0] * shrink[0], 0}, {state.sum[1] * shrink[1], 0}};
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[4 * n + e] = Exp2(s[4 * n + e] - state.max[e / 2]);
      sums[e / 2][e % 2] += s[4 * n + e];
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) state.sum[r] = sums[r][0] + sums[r][1];
}

template <typename T>
__device__ __forceinline__ void PackProbs(const float (&s)[kTile / 2],
                                          uint32_t (&probs)[kTile / 16][4]) {
#pragma unroll
  for (int t = 0; t < kTile / 16; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) probs[t][i] = PackPair<T>(s[8 * t + 2 * i], s[8 * t + 2 * i + 1]);
  }
}

// Zeros for V of the tokens from `valid` on, whatever the cache or the stage holds there: 0 times
// what is no number would be no number.
template <int kHeadDim>
__device__ __forceinline__ void ClearTail(typename Shared<kHeadDim>::Rows& v, int32_t valid) {
  constexpr int kRowPieces = kSwizzleBytes / 16;
  for (int block = 0; block < Shared<kHeadDim>::kBlocks; ++block) {
    for (int i = valid * kRowPieces + threadIdx.x % (kGroupThreads * kGroups);
         i < kTile * kRowPieces; i += kGroupThreads * kGroups) {
      *reinterpret_cast<uint4*>(&v[block][i * 16]) = uint4{};
    }
  }
  FenceSharedForAsync();
  WaitForThreads(kAllRowsBarrier, kGroupThreads * kGroups);
}

// A multiplying warpgroup.
template <typename T, int kHeadDim>
__device__ __forceinline__ void AttendRows(Shared<kHeadDim>& shared, const Work& work,
                                           const AttentionCall& call, int group) {
  const int lane = threadIdx.x % 32;
  const int own_row = group * kGroupRows + threadIdx.x % kGroupThreads / 32 * 16 + lane / 4;
  LoadQueries<T, kHeadDim>(shared, work, call, group);
  const uint64_t q = SwizzledMatrix(
      SharedAddress(shared.q) + static_cast<uint32_t>(group * kGroupRows * kSwizzleBytes),
      kBlockBytes);
  const auto k = [&](int32_t stage) {
    return SwizzledMatrix(SharedAddress(shared.k[stage]), kBlockBytes);
  };
  const auto v = [&](int32_t stage) {
    return SwizzledMatrix(SharedAddress(shared.v[stage]), kBlockBytes);
  };
  // Columns, counted from the thread's first of tile 0, from which its rows see nothing.
  const int32_t hidden[2] = {work.SeenBy(own_row) - lane % 4 * 2,
                             work.SeenBy(own_row + 8) - lane % 4 * 2};
  const auto mask = [&](float(&s)[kTile / 2], int32_t tile) {
    Mask(s, {hidden[0] - tile * kTile, hidden[1] - tile * kTile});
  };
  const int32_t first_masked = work.SeenBy(group * kGroupRows) / kTile;
  const int32_t last = work.num_tiles - 1;

  float s[kTile / 2];
  float out[kHeadDim / 2] = {};
  uint32_t probs[kTile / 16][4];
  float shrink[2];
  RowState state;

  // The wait for the next tile's keys (or, once more, the last's) comes right after the
  // probabilities `s`: its loop ends a run of instructions, and so keeps the compiler from moving
  // their computation behind the wait for products that it is to overlap.
  const auto wait_for_keys = [&](int32_t tile, float(&s)[kTile / 2]) {
    Hold(s);
    WaitForPhase(&shared.k_full[tile % kStages], tile / kStages % 2);
  };

  WaitForPhase(&shared.k_full[0], 0);
  StartScores<T, kHeadDim>(s, q, k(0));
  WaitForProducts<0>();
  Hold(s);
  if (lane == 0) Arrive(&shared.k_empty[0]);
  if (first_masked == 0) mask(s, 0);
  ScoresToProbs(s, state, shrink);
  PackProbs<T>(s, probs);
  wait_for_keys(min(1, last), s);

  const auto step = [&](int32_t tile, auto masked) {
    const int32_t stage = tile % kStages;
    const int32_t stage_before = (tile - 1) % kStages;
    WaitForThreads(kTurnBarrier + group, kGroupThreads * kGroups);
    Hold(s);
    Hold(out);
    Hold(probs);
    StartScores<T, kHeadDim>(s, q, k(stage));
    WaitForPhase(&shared.v_full[stage_before], (tile - 1) / kStages % 2);
    StartSum<T, kHeadDim>(out, probs, v(stage_before));
    // Nobody waits for the last warpgroup after its last turn.
    if (group + 1 < kGroups || tile < last) {
      ArriveOfThreads(kTurnBarrier + (group + 1) % kGroups, kGroupThreads * kGroups);
    }
    WaitForProducts<1>();
    Hold(s);
    if (lane == 0) Arrive(&shared.k_empty[stage]);
    if constexpr (masked.value) mask(s, tile);
    ScoresToProbs(s, state, shrink);
    wait_for_keys(min(tile + 1, last), s);
    WaitForProducts<0>();
    Hold(out);
    Hold(probs);
    if (lane == 0) Arrive(&shared.v_empty[stage_before]);
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) out[i] *= shrink[i / 2 % 2];
    PackProbs<T>(s, probs);
  };
  // The first turn is the first warpgroup's.
  if (group == kGroups - 1 && last > 0) ArriveOfThreads(kTurnBarrier, kGroupThreads * kGroups);
  int32_t tile = 1;
  for (; tile < min(first_masked, work.num_tiles); ++tile) step(tile, std::false_type{});
  for (; tile < work.num_tiles; ++tile) step(tile, std::true_type{});

  WaitForPhase(&shared.v_full[last % kStages], last / kStages % 2);
  if (work.num_tokens < work.num_tiles * kTile) {
    ClearTail<kHeadDim>(shared.v[last % kStages], work.num_tokens - last * kTile);
  }
  Hold(out);
  Hold(probs);
  StartSum<T, kHeadDim>(out, probs, v(last % kStages));
  WaitForProducts<0>();
  Hold(out);
  Hold(probs);

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    const int32_t row = own_row + 8 * r;
    if (row >= work.num_rows) continue;
    const float scale = 1 / sum;
    float* to = call.out + work.HeadOf(row, call.num_heads) * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const float2 pair = {out[4 * n + 2 * r] * scale, out[4 * n + 2 * r + 1] * scale};
      *reinterpret_cast<float2*>(to + n * 8) = pair;
    }
  }
}

// A block's work. Blocks: [blocks of rows][KV heads][sequences].
template <typename T, int kHeadDim>
__device__ __forceinline__ void AttendBlock(const AttentionCall& call, const CUtensorMap& rows,
                                            const RowStrides& strides) {
  extern __shared__ uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<Shared<kHeadDim>*>(
      shared_bytes + (0 - SharedAddress(shared_bytes)) % kSwizzleAlignment);
  AllowNext();
  WaitForInputs();
  const int32_t seq = blockIdx.z;
  if ((call.step.flags[seq] & kReadsAll) == 0) return;
  const DeviceSequence sequence = call.step.sequences[seq];
  Work work;
  work.gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  const int32_t num_rows = sequence.q_len * work.gqa_ratio;
  if (num_rows <= kMaxDecodeAttentionRows) return;
  // The blocks with the most tokens to see come first.
  work.first_row = static_cast<int32_t>(gridDim.x - 1 - blockIdx.x) * kBlockRows;
  if (work.first_row >= num_rows) return;
  work.page_ids = call.step.page_ids + sequence.page_begin;
  work.kv_head = static_cast<int32_t>(blockIdx.y);
  work.first_head = int64_t{sequence.row_begin} * call.num_heads;
  work.num_rows = min(kBlockRows, num_rows - work.first_row);
  work.seen_by_first = sequence.kv_len - sequence.q_len + 1;
  work.num_tokens = work.SeenBy(work.num_rows - 1);
  work.num_tiles = (work.num_tokens + kTile - 1) / kTile;

  if (threadIdx.x == 0) {
    constexpr uint32_t kMultiplyingWarps = kGroups * kGroupThreads / 32;
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(&shared.k_full[stage], 1);
      InitBarrier(&shared.v_full[stage], 1);
      InitBarrier(&shared.k_empty[stage], kMultiplyingWarps);
      InitBarrier(&shared.v_empty[stage], kMultiplyingWarps);
    }
    FenceBarrierInits();
  }
  __syncthreads();
  const int group = __shfl_sync(0xffffffff, threadIdx.x / kGroupThreads, 0);
  if (group == kGroups) {
    GiveRegisters<kCopyRegisters>();
    if (threadIdx.x == kGroups * kGroupThreads) {
      FenceGlobalForAsync();  // earlier kernels wrote the rows with ordinary stores
      CopyTiles<kHeadDim>(shared, work, rows, strides);
    }
  } else {
    TakeRegisters<kMultiplyRegisters>();
    AttendRows<T, kHeadDim>(shared, work, call, group);
  }
}

#endif  // TIDAL_HAS_PRODUCTS

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kLaunchBound, 1)
    AttendPrefillWgmmaKernel(const AttentionCall call, const __grid_constant__ CUtensorMap rows,
                             const RowStrides strides) {
#if TIDAL_HAS_PRODUCTS
  AttendBlock<T, kHeadDim>(call, rows, strides);
#endif
}

// The device's memory as rows, to be copied in boxes of a page of 64 columns; what a box has
// outside of head_dim are zeros. The number of rows is not known here: no copy asks for one that is
// not there.
cudaError_t MakeRowMap(const DeviceKv& kv, CUtensorMap* map) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const cuuint64_t shape[] = {static_cast<cuuint64_t>(kv.head_dim), cuuint64_t{1} << 31};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(kv.row_bytes)};
  const cuuint32_t box[] = {kSwizzleElements, kPageTokens};
  const cuuint32_t every[] = {1, 1};
  const CUresult result =
      encode(map,
             kv.type == CacheType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                        : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             2, kv.base, shape, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <typename T, int kHeadDim>
cudaError_t LaunchPrefill(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  const auto kernel = AttendPrefillWgmmaKernel<T, kHeadDim>;
  constexpr size_t kBytes = sizeof(Shared<kHeadDim>) + kSwizzleAlignment;
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes));
      error != cudaSuccess) {
    return error;
  }
  CUtensorMap rows;
  if (const cudaError_t error = MakeRowMap(call.kv, &rows); error != cudaSuccess) return error;
  const RowStrides strides = {
      .page = static_cast<int32_t>(call.kv.page_bytes / call.kv.row_bytes),
      .kv_head = static_cast<int32_t>(call.kv.kv_head_bytes / call.kv.row_bytes),
      .v = static_cast<int32_t>(call.kv.v_offset / call.kv.row_bytes)};
  const int32_t max_rows = max_q_len * (call.num_heads / call.kv.num_kv_heads);
  const dim3 grid(static_cast<unsigned>((max_rows + kBlockRows - 1) / kBlockRows),
                  static_cast<unsigned>(call.kv.num_kv_heads),
                  static_cast<unsigned>(call.step.num_sequences));
  return Launch(kernel, grid, dim3(kThreads), kBytes, stream, call, rows, strides);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  switch (call.kv.head_dim) {
    case 64:
      return LaunchPrefill<T, 64>(call, max_q_len, stream);
    case 80:
      return LaunchPrefill<T, 80>(call, max_q_len, stream);
    case 96:
      return LaunchPrefill<T, 96>(call, max_q_len, stream);
    case 128:
      return LaunchPrefill<T, 128>(call, max_q_len, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool HasPrefillWgmma(const DeviceKv& kv) {
  if (kv.head_dim != 64 && kv.head_dim != 80 && kv.head_dim != 96 && kv.head_dim != 128)
    return false;
  if (kv.page_bytes % kv.row_bytes != 0 || kv.kv_head_bytes % kv.row_bytes != 0 ||
      kv.v_offset % kv.row_bytes != 0) {
    return false;
  }
  int device = 0;
  int major = 0;
  int minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    return false;
  }
  if (major != 9 || minor != 0) return false;
  // A build may have no code for sm_90a: what the driver makes of other code is empty.
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, AttendPrefillWgmmaKernel<__half, 64>) == cudaSuccess &&
         attributes.maxThreadsPerBlock >= kThreads;
}

cudaError_t AttendPrefillWgmma(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  return call.kv.type == CacheType::kF16 ? LaunchByHeadDim<__half>(call, max_q_len, stream)
                                         : LaunchByHeadDim<__nv_bfloat16>(call, max_q_len, stream);
}

}  // namespace tidal
