// Attention of few rows over a long context or over sets, on tensor cores.
//
// What      the context is cut into parts, a block each; its four warps take tiles of 16 tokens in
//           turn, each with a softmax of its own, so that they never wait for each other. The last
//           block of a KV head adds the parts up in their order. (A cluster's shared memory in
//           place of device memory was slower: 12.7 us for 512 tokens of 32 KV heads, against 8.2.)
// Layout    a tile is 16 rows of K and 16 of V in shared memory, padded by 16 bytes a row so that
//           the rows that a load of matrices touches lie in different banks. The rows of all heads
//           of a group stand in one fragment of 16: each K and V row is read once per KV head.
// Bytes     K and V of the visible tokens (of the set) once, 4 * head_dim * rows per part beside.
//           kStages tiles a warp are under way: at head_dim 128 two blocks of a multiprocessor have
//           140 KB in flight, where its share of the memory's rate times the latency is 20 KB.
// Numerics  queries are split into two 16-bit halves, which keeps 21 bits (bf16: 15) of them;
// scores
//           and sums in float32; probabilities are rounded to the cache's type before they meet V.
// Oracle    attention_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/attention.h"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kTile = 16;  // tokens
constexpr int kRows = kMaxDecodeAttentionRows;
constexpr int kPageTokens = 64;
constexpr int kVector = 4;  // floats of a 16-byte access
constexpr float kLog2E = 1.4426950408889634f;
// A part of fewer tiles is not worth its own partial result: with sets latency is all, so that each
// warp gets one tile; over everything each gets two.
constexpr int kMinTilesOfSets = kWarps;
constexpr int kMinTilesOfAll = 2 * kWarps;

constexpr int Stages(int head_dim) { return head_dim <= 64 ? 6 : head_dim <= 128 ? 3 : 2; }

template <typename T, int kHeadDim>
struct Shared {
  static constexpr int kRowElems = kHeadDim + 8;
  static constexpr int kStages = Stages(kHeadDim);
  using Row = T[kRowElems];
  struct Tile {
    alignas(16) Row k[kTile];
    alignas(16) Row v[kTile];
  };
  struct Merge {
    float out[kWarps][kRows][kHeadDim];
    float max[kWarps][kRows];
    float sum[kWarps][kRows];
    // The same of the whole block.
    float block_out[kRows][kHeadDim];
    float block_max[kRows];
    float block_sum[kRows];
  };
  alignas(16) Row q_high[kRows];
  alignas(16) Row q_low[kRows];
  union {
    Tile tiles[kWarps][kStages];
    Merge merge;
  };
};

// Where the tokens of a part come from.
template <bool kSets>
struct Tokens {
  const int32_t* list;  // page ids; slots
  int32_t count;

  __device__ int64_t Offset(const DeviceKv& kv, int32_t token) const {
    if constexpr (kSets) {
      const int32_t slot = list[token];
      return (slot / kPageTokens) * kv.page_bytes + (slot % kPageTokens) * int64_t{kv.row_bytes};
    } else {
      return list[token / kPageTokens] * kv.page_bytes +
             (token % kPageTokens) * int64_t{kv.row_bytes};
    }
  }
};

// Starts the copy of a tile; lanes take 16-byte pieces of rows in turn. Each of 16 lanes knows the
// place of one row (`offset`, of row lane % 16), for which `is_valid` says whether there is one.
template <typename T, int kHeadDim>
__device__ __forceinline__ void LoadTile(typename Shared<T, kHeadDim>::Tile& tile,
                                         const uint8_t* base, int64_t v_offset, int64_t offset,
                                         bool is_valid) {
  constexpr int kPieces = kHeadDim * 2 / 16;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kPieces * kTile / 32; ++i) {
    const int piece = i * 32 + lane;
    const int row = piece / kPieces;
    const int column = piece % kPieces;
    const int64_t row_offset = __shfl_sync(0xffffffff, offset, row);
    const bool valid = __shfl_sync(0xffffffff, is_valid, row);
    const uint8_t* k = base + row_offset + column * 16;
    CopyAsync16(&tile.k[row][column * 8], k, valid);
    CopyAsync16(&tile.v[row][column * 8], k + v_offset, valid);
  }
}

// What a sum relative to `max` weighs in one relative to `total_max`; 0 where nothing was seen.
__device__ __forceinline__ float WeightOf(float max, float total_max) {
  return max == -INFINITY ? 0.0f : exp2f(max - total_max);
}

// A warp's running softmax over the rows of a fragment: of rows lane / 4 and lane / 4 + 8.
template <int kHeadDim>
struct Running {
  float out[kHeadDim / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
};

template <typename T, int kHeadDim>
__device__ __forceinline__ void AddTile(const Shared<T, kHeadDim>& shared,
                                        const typename Shared<T, kHeadDim>::Tile& tile,
                                        int32_t first_token, const int32_t (&limit)[2],
                                        Running<kHeadDim>* running) {
  const int lane = threadIdx.x % 32;
  const int matrix = lane / 8;
  const int line = lane % 8;
  float s[2][4] = {};
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    uint32_t high[4];
    uint32_t low[4];
    uint32_t k[4];
    const int q_row = line + matrix % 2 * 8;
    const int q_column = d + matrix / 2 * 8;
    LoadMatrices(high, &shared.q_high[q_row][q_column]);
    LoadMatrices(low, &shared.q_low[q_row][q_column]);
    LoadMatrices(k, &tile.k[line + matrix / 2 * 8][d + matrix % 2 * 8]);
    MatMul16x8x16<T>(s[0], high, k[0], k[1]);
    MatMul16x8x16<T>(s[1], high, k[2], k[3]);
    MatMul16x8x16<T>(s[0], low, k[0], k[1]);
    MatMul16x8x16<T>(s[1], low, k[2], k[3]);
  }
  // Element e of s[n] is row lane / 4 + e / 2 * 8, token n * 8 + lane % 4 * 2 + e % 2.
  float tile_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int32_t token = first_token + n * 8 + lane % 4 * 2 + e % 2;
      if (token >= limit[e / 2]) s[n][e] = -INFINITY;
      tile_max[e / 2] = fmaxf(tile_max[e / 2], s[n][e]);
    }
  }
  float shrink[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    tile_max[r] = fmaxf(tile_max[r], __shfl_xor_sync(0xffffffff, tile_max[r], 1));
    tile_max[r] = fmaxf(tile_max[r], __shfl_xor_sync(0xffffffff, tile_max[r], 2));
    const float max = fmaxf(running->max[r], tile_max[r]);
    // While a row has seen nothing its maximum stays at minus infinity, and all its weights at 0.
    shrink[r] = WeightOf(running->max[r], max);
    running->max[r] = max;
    running->sum[r] *= shrink[r];
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[n][e] = WeightOf(s[n][e], running->max[e / 2]);
      running->sum[e / 2] += s[n][e];
    }
  }
  const uint32_t probs[4] = {PackPair<T>(s[0][0], s[0][1]), PackPair<T>(s[0][2], s[0][3]),
                             PackPair<T>(s[1][0], s[1][1]), PackPair<T>(s[1][2], s[1][3])};
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    uint32_t v[4];
    LoadMatricesTransposed(v, &tile.v[line + matrix % 2 * 8][d + matrix / 2 * 8]);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float(&out)[4] = running->out[d / 8 + n];
#pragma unroll
      for (int e = 0; e < 4; ++e) out[e] *= shrink[e / 2];
      MatMul16x8x16<T>(out, probs, v[2 * n], v[2 * n + 1]);
    }
  }
}

template <typename T, int kHeadDim>
__device__ void LoadQueries(const AttentionCall& call, const DeviceSequence& sequence,
                            int32_t first_head, int32_t group, int32_t num_rows,
                            Shared<T, kHeadDim>* shared) {
  for (int i = threadIdx.x; i < kRows * kHeadDim; i += kThreads) {
    const int row = i / kHeadDim;
    const int d = i % kHeadDim;
    float q = 0;
    if (row < num_rows) {
      const int64_t q_row = sequence.row_begin + row / group;
      q = call.q[(q_row * call.num_heads + first_head + row % group) * kHeadDim + d] *
          (call.attn_scale * kLog2E);
    }
    const T high = FromFloat<T>(q);
    shared->q_high[row][d] = high;
    shared->q_low[row][d] = FromFloat<T>(q - ToFloat(high));
  }
}

// Leaves the block's rows in shared.merge.block_*: weighted sums, and what they are relative to.
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
      merge.out[warp][row][n * 8 + lane % 4 * 2] = running.out[n][2 * r];
      merge.out[warp][row][n * 8 + lane % 4 * 2 + 1] = running.out[n][2 * r + 1];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < num_rows * kHeadDim; i += kThreads) {
    const int row = i / kHeadDim;
    const int d = i % kHeadDim;
    float max = -INFINITY;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) max = fmaxf(max, merge.max[w][row]);
    float out = 0;
    float row_sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = WeightOf(merge.max[w][row], max);
      row_sum += weight * merge.sum[w][row];
      out += weight * merge.out[w][row][d];
    }
    merge.block_out[row][d] = out;
    if (d == 0) {
      merge.block_max[row] = max;
      merge.block_sum[row] = row_sum;
    }
  }
}

__device__ __forceinline__ void AddScaled(float weight, float4 x, float4* sum) {
  sum->x += weight * x.x;
  sum->y += weight * x.y;
  sum->z += weight * x.z;
  sum->w += weight * x.w;
}

// Four channels of a row of the result.
__device__ __forceinline__ void StoreOut(const AttentionCall& call, const DeviceSequence& sequence,
                                         int32_t first_head, int32_t group, int row, int d,
                                         int head_dim, float4 out, float sum) {
  const float scale = 1 / sum;
  const int64_t q_row = sequence.row_begin + row / group;
  float* to = call.out + (q_row * call.num_heads + first_head + row % group) * head_dim + d;
  *reinterpret_cast<float4*>(to) = {out.x * scale, out.y * scale, out.z * scale, out.w * scale};
}

// A partial result in device memory: [kRows][head_dim] weighted sums, then [kRows] maxima and
// [kRows] sums.
__device__ __forceinline__ float* PartialOf(const AttentionCall& call, int64_t part, int head_dim) {
  return call.workspace.partial + part * kRows * (head_dim + 2);
}

// The sum of all parts of an item, by its last block.
template <typename T, int kHeadDim>
__device__ void AddParts(const AttentionCall& call, const DeviceSequence& sequence,
                         int64_t first_part, int num_parts, int32_t first_head, int32_t group,
                         int32_t num_rows, Shared<T, kHeadDim>* shared) {
  // [num_rows][num_parts] maxima, then weights; the parts' number is bounded by what is resident on
  // the device, so that this is no more than the tiles that lay here.
  auto* weights = reinterpret_cast<float*>(&shared->merge);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  for (int row = warp; row < num_rows; row += kWarps) {
    float* row_weights = weights + row * num_parts;
    float max = -INFINITY;
    for (int p = lane; p < num_parts; p += 32) {
      row_weights[p] = __ldcg(PartialOf(call, first_part + p, kHeadDim) + kRows * kHeadDim + row);
      max = fmaxf(max, row_weights[p]);
    }
    for (int i = 16; i > 0; i /= 2) max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, i));
    float sum = 0;
    for (int p = lane; p < num_parts; p += 32) {
      row_weights[p] = WeightOf(row_weights[p], max);
      sum += row_weights[p] *
             __ldcg(PartialOf(call, first_part + p, kHeadDim) + kRows * (kHeadDim + 1) + row);
    }
    for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(0xffffffff, sum, i);
    for (int p = lane; p < num_parts; p += 32) row_weights[p] /= sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < num_rows * kHeadDim / kVector; i += kThreads) {
    const int row = i / (kHeadDim / kVector);
    const int d = i % (kHeadDim / kVector) * kVector;
    const float* partial = PartialOf(call, first_part, kHeadDim) + row * kHeadDim + d;
    float4 out = {0, 0, 0, 0};
#pragma unroll 12
    for (int p = 0; p < num_parts; ++p) {
      const auto* from =
          reinterpret_cast<const float4*>(partial + int64_t{p} * kRows * (kHeadDim + 2));
      AddScaled(weights[row * num_parts + p], __ldcg(from), &out);
    }
    StoreOut(call, sequence, first_head, group, row, d, kHeadDim, out, 1);
  }
}

// Leaves the block's result for the others; the last block of an item adds them all up.
template <typename T, int kHeadDim>
__device__ void AddThroughMemory(const AttentionCall& call, const DeviceSequence& sequence,
                                 int64_t item, int32_t part, int32_t num_parts, int32_t first_head,
                                 int32_t group, int32_t num_rows, Shared<T, kHeadDim>* shared) {
  __shared__ bool is_last;
  const auto& merge = shared->merge;
  const int64_t first_part = item * call.num_splits;
  float* partial = PartialOf(call, first_part + part, kHeadDim);
  __syncthreads();
  for (int i = threadIdx.x; i < num_rows * kHeadDim / kVector; i += kThreads) {
    const int row = i / (kHeadDim / kVector);
    const int d = i % (kHeadDim / kVector) * kVector;
    const float4 out = *reinterpret_cast<const float4*>(&merge.block_out[row][d]);
    if (num_parts == 1) {
      StoreOut(call, sequence, first_head, group, row, d, kHeadDim, out, merge.block_sum[row]);
      continue;
    }
    __stcg(reinterpret_cast<float4*>(partial + row * kHeadDim + d), out);
    if (d == 0) {
      __stcg(partial + kRows * kHeadDim + row, merge.block_max[row]);
      __stcg(partial + kRows * (kHeadDim + 1) + row, merge.block_sum[row]);
    }
  }
  if (num_parts == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(call.workspace.counters + item, 1) == num_parts - 1;
    if (is_last) call.workspace.counters[item] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  AddParts(call, sequence, first_part, num_parts, first_head, group, num_rows, shared);
}

// Grid: [parts][KV heads, or heads with per_head][sequences].
template <typename T, int kHeadDim, bool kSets>
__global__ void __launch_bounds__(kThreads, kHeadDim <= 128 ? 2 : 1)
    AttendDecodeKernel(const AttentionCall call) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_bytes);
  AllowNext();
  WaitForInputs();
  const int32_t seq = blockIdx.z;
  const DeviceSequence sequence = call.step.sequences[seq];
  const int32_t gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  if ((call.step.flags[seq] & (kSets ? kReadsSets : kReadsAll)) == 0) return;
  if (sequence.q_len * gqa_ratio > kRows) return;

  // Which heads are this block's rows, and what they read.
  int32_t kv_head = blockIdx.y;
  int32_t group = gqa_ratio;
  int32_t first_head = kv_head * gqa_ratio;
  Tokens<kSets> tokens;
  if constexpr (kSets) {
    const DeviceSets sets = call.sets[seq];
    const bool by_head = sets.num_sets == call.num_heads && gqa_ratio > 1;
    if (call.per_head) {
      first_head = blockIdx.y;
      kv_head = first_head / gqa_ratio;
      if (by_head) {
        group = 1;
      } else if (first_head % gqa_ratio != 0) {
        return;
      }
    }
    int32_t set = sets.num_sets == 1 ? 0 : by_head ? first_head : kv_head;
    if (call.headmaps != nullptr) {
      const int32_t mapped = call.headmaps[sequence.state * call.kv.num_kv_heads + kv_head];
      if (mapped >= 0) set = mapped;
    }
    tokens = {sets.slots + int64_t{set} * sets.capacity, sets.counts[set]};
  } else {
    tokens = {call.step.page_ids + sequence.page_begin, sequence.kv_len};
  }
  const int32_t num_rows = sequence.q_len * group;

  const int32_t num_tiles = (tokens.count + kTile - 1) / kTile;
  constexpr int kMinTiles = kSets ? kMinTilesOfSets : kMinTilesOfAll;
  const int32_t num_parts = min(call.num_splits, max(1, (num_tiles + kMinTiles - 1) / kMinTiles));
  const auto part = static_cast<int32_t>(blockIdx.x);
  if (part >= num_parts) return;
  const auto tile_begin = static_cast<int32_t>(int64_t{num_tiles} * part / num_parts);
  const auto tile_end = static_cast<int32_t>(int64_t{num_tiles} * (part + 1) / num_parts);

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const uint8_t* base = call.kv.base + kv_head * call.kv.kv_head_bytes;
  constexpr int kStages = Shared<T, kHeadDim>::kStages;
  auto& tiles = shared.tiles[warp];
  const auto token_of = [&](int32_t tile) { return tile * kTile + lane % kTile; };
  const auto offset_of = [&](int32_t tile) -> int64_t {
    const int32_t token = token_of(tile);
    return tile < tile_end && token < tokens.count ? tokens.Offset(call.kv, token) : -1;
  };
  const auto start = [&](int32_t tile, int64_t offset) {
    if (tile < tile_end) {
      LoadTile<T, kHeadDim>(tiles[(tile - tile_begin) / kWarps % kStages], base, call.kv.v_offset,
                            max(offset, int64_t{0}), offset >= 0);
    }
    CommitCopies();
  };
  int32_t tile = tile_begin + warp;
  // All look-ups first, so that they are under way together.
  int64_t offsets[kStages];
#pragma unroll
  for (int i = 0; i < kStages; ++i) offsets[i] = offset_of(tile + i * kWarps);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) start(tile + i * kWarps, offsets[i]);
  // The place of the rows of the tile that is started next, looked up a turn ahead.
  int64_t next_offset = offsets[kStages - 1];
  LoadQueries(call, sequence, first_head, group, num_rows, &shared);
  __syncthreads();

  int32_t limit[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int32_t row = lane / 4 + 8 * r;
    const int32_t unseen = kSets || row >= num_rows ? 0 : sequence.q_len - 1 - row / group;
    limit[r] = tokens.count - unseen;
  }
  Running<kHeadDim> running;
  for (; tile < tile_end; tile += kWarps) {
    start(tile + (kStages - 1) * kWarps, next_offset);
    next_offset = offset_of(tile + kStages * kWarps);
    WaitForCopies<kStages - 1>();
    __syncwarp();
    AddTile<T, kHeadDim>(shared, tiles[(tile - tile_begin) / kWarps % kStages], tile * kTile, limit,
                         &running);
    __syncwarp();
  }
  WaitForCopies<0>();
  MergeWarps(running, num_rows, &shared);

  AddThroughMemory(call, sequence, int64_t{seq} * gridDim.y + blockIdx.y, part, num_parts,
                   first_head, group, num_rows, &shared);
}

template <typename T, int kHeadDim>
cudaError_t LaunchDecode(const AttentionCall& call, cudaStream_t stream) {
  const bool sets = call.sets != nullptr;
  const auto kernel =
      sets ? AttendDecodeKernel<T, kHeadDim, true> : AttendDecodeKernel<T, kHeadDim, false>;
  constexpr size_t kBytes = sizeof(Shared<T, kHeadDim>);
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes));
      error != cudaSuccess) {
    return error;
  }
  const dim3 grid(static_cast<unsigned>(call.num_splits),
                  static_cast<unsigned>(call.per_head ? call.num_heads : call.kv.num_kv_heads),
                  static_cast<unsigned>(call.step.num_sequences));
  return Launch(kernel, grid, dim3(kThreads), kBytes, stream, call);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, cudaStream_t stream) {
  switch (call.kv.head_dim) {
    case 64:
      return LaunchDecode<T, 64>(call, stream);
    case 80:
      return LaunchDecode<T, 80>(call, stream);
    case 96:
      return LaunchDecode<T, 96>(call, stream);
    case 128:
      return LaunchDecode<T, 128>(call, stream);
    case 256:
      return LaunchDecode<T, 256>(call, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int32_t AttentionSplits(int32_t num_sms, int32_t head_dim, int32_t num_heads_or_kv_heads,
                        int32_t num_sequences) {
  const int32_t resident = num_sms * (head_dim <= 128 ? 2 : 1);
  const int32_t items = num_heads_or_kv_heads * num_sequences;
  return items >= resident ? 1 : resident / items;
}

int64_t AttentionPartialFloats(int32_t max_splits, int32_t max_sequences, int32_t num_heads,
                               int32_t head_dim) {
  return int64_t{max_splits} * max_sequences * num_heads * kRows * (head_dim + 2);
}

bool HasTensorCoreAttention(int32_t head_dim, CacheType type) {
  const bool has_dim =
      head_dim == 64 || head_dim == 80 || head_dim == 96 || head_dim == 128 || head_dim == 256;
  return has_dim && (type == CacheType::kF16 || type == CacheType::kBF16);
}

cudaError_t AttendDecode(const AttentionCall& call, cudaStream_t stream) {
  return call.kv.type == CacheType::kF16 ? LaunchByHeadDim<__half>(call, stream)
                                         : LaunchByHeadDim<__nv_bfloat16>(call, stream);
}

}  // namespace tidal
