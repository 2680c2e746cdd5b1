// Attention of few rows over a long context or over sets, on tensor cores.
//
// What      the context is cut into parts, a block each; its four warps take tiles of 16 tokens in
//           turn, each with a softmax of its own, so that they never wait for each other. The last
//           block of a KV head adds the parts up in their order. Where KV heads and sequences are
//           few, the parts of a set are blocks of a cluster and meet in their shared memory
//           instead, unless there are many.
// Files     attention_decode_tile.cuh: tiles on their way to shared memory;
//           attention_decode_softmax.cuh: what a warp makes of them; attention_decode_parts.cuh:
//           what becomes of the warps' and the parts' results; here the kernel, its jobs and grid.
// Bytes     K and V of the visible tokens (of the set) once, and the parts' results beside.
// Speed     over 102,400 tokens 89 % of an H200's read rate with 32 KV heads, 84 % with 8 for 32
//           heads; over sets latency, 7.4 and 4.2 us for 512 tokens.
// Early     a block's first tiles are under way before WaitForInputs, so that the
//           memory is busy while the kernel before ends. Until then it may only touch
//           - what was uploaded before the step: its tables, and where its sets lie;
//           - K and V that earlier steps appended; the rows of the step's own tokens, which the
//             kernel right before writes, are copied after the wait;
//           - sets that are settled: a layer that does not choose (no kChooses) reads those of an
//             earlier layer or step. That their choice has ended does not follow from the order of
//             kernels alone: one may start while the one before has not got past its own wait. But
//             in between lies the attention of the layer that chose, and its blocks allow the next
//             kernel only once they have waited: whatever comes behind it starts after the choice.
//           Hence the order here, first WaitForInputs, then AllowNext; and hence a block of part 0
//           waits even if it has nothing to do: a kernel that ended without having waited would let
//           the one behind it go on before the one in front of it is done.
// Oracle    attention_test.cc.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/attention.h"
#include "cuda/attention_decode_parts.cuh"
#include "cuda/attention_decode_softmax.cuh"
#include "cuda/attention_decode_tile.cuh"
#include "cuda/cluster.cuh"
#include "cuda/kv_f8.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace tidal {
namespace decode {
namespace {

// Sets of up to so many parts for each block of a cluster are left to its blocks: a warp's second,
// third and fourth tile take less time than parts that meet in the L2 cache.
constexpr int kMaxPartsPerBlock = 4;
// A part of fewer tiles is not worth its own partial result: with sets latency is all, so that each
// warp gets one tile; over everything each gets two.
constexpr int kMinTilesOfSets = kWarps;
constexpr int kMinTiles = 2 * kWarps;

// Of a multiprocessor: enough for the card's memory, and with f8e4m3, whose bytes take twice the
// instructions, what its shared memory holds.
constexpr int ResidentBlocks(int head_dim, bool is_f8) {
  return head_dim > 128 ? 1 : is_f8 ? 3 : 2;
}

// What a block attends: the rows of one KV head (of one head with a set of its own), and to what.
template <bool kSets>
struct Job {
  int32_t kv_head = 0;
  int32_t first_head = 0;
  int32_t group = 0;  // heads
  Tokens<kSets> tokens = {};
  const int32_t* count = nullptr;  // with sets, of the tokens; read after it is settled
  int32_t max_count = 0;           // known before that
};

// Whether there is such a job. From the step's tables alone.
template <bool kSets>
__device__ bool FindJob(const AttentionCall& call, const DeviceSequence& sequence, int32_t seq,
                        int32_t head, Job<kSets>* job) {
  const int32_t gqa_ratio = call.num_heads / call.kv.num_kv_heads;
  if (sequence.q_len * gqa_ratio > kRows) return false;
  job->kv_head = head;
  job->group = gqa_ratio;
  job->first_head = head * gqa_ratio;
  const int32_t* page_ids = call.step.page_ids + sequence.page_begin;
  if constexpr (!kSets) {
    job->tokens = {page_ids, sequence.kv_len, sequence.kv_len - sequence.q_len};
    job->max_count = sequence.kv_len;
    return true;
  }
  const DeviceSets sets = call.sets[seq];
  const bool by_head = sets.num_sets == call.num_heads && gqa_ratio > 1;
  if (call.per_head) {
    job->first_head = head;
    job->kv_head = head / gqa_ratio;
    if (by_head) {
      job->group = 1;
    } else if (head % gqa_ratio != 0) {
      return false;
    }
  }
  int32_t set = sets.num_sets == 1 ? 0 : by_head ? job->first_head : job->kv_head;
  if (call.headmaps != nullptr) {
    const int32_t mapped = call.headmaps[sequence.state * call.kv.num_kv_heads + job->kv_head];
    if (mapped >= 0) set = mapped;
  }
  const int32_t last = sequence.kv_len - 1;
  job->tokens = {sets.slots + int64_t{set} * sets.capacity, 0,
                 page_ids[last / kPageTokens] * kPageTokens + last % kPageTokens};
  job->count = sets.counts + set;
  job->max_count = sets.capacity;
  return true;
}

// Blocks are placed in the order of x, y and z, z the sequences. Heads (KV heads, or heads with
// per_head) come first for sets, so that their parts, few beside the grid's, lie on multiprocessors
// of their own; parts come first for everything, which reads faster (393 instead of 415 us of
// 102,400 tokens of 32 KV heads).
template <bool kSets>
struct Grid {
  static __device__ uint32_t Head() { return kSets ? blockIdx.x : blockIdx.y; }
  static __device__ uint32_t Heads() { return kSets ? gridDim.x : gridDim.y; }
  static __device__ uint32_t Part() { return kSets ? blockIdx.y : blockIdx.x; }
  static __device__ uint32_t Parts() { return kSets ? gridDim.y : gridDim.x; }
};

// How many parts a context of so many tokens is cut into; `cluster`: the blocks of one.
template <bool kSets>
__device__ __forceinline__ int32_t NumParts(int32_t num_tokens, int32_t cluster) {
  constexpr int kMin = (kSets ? kMinTilesOfSets : kMinTiles) * kTile;
  const int32_t wanted = max(1, (num_tokens + kMin - 1) / kMin);
  if (cluster > 1 && wanted <= cluster * kMaxPartsPerBlock) return min(wanted, cluster);
  return min(min(static_cast<int32_t>(Grid<kSets>::Parts()), kMaxParts), wanted);
}

template <typename T, int kHeadDim, bool kSets>
__global__ void __launch_bounds__(kThreads, ResidentBlocks(kHeadDim, kIsF8<T>))
    AttendDecodeKernel(const AttentionCall call) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_bytes);
  __shared__ bool is_last;
  const auto seq = static_cast<int32_t>(blockIdx.z);
  const auto part = static_cast<int32_t>(Grid<kSets>::Part());
  const DeviceSequence sequence = call.step.sequences[seq];
  const uint8_t flags = call.step.flags[seq];
  const int32_t cluster = kSets ? ClusterSize() : 1;
  Job<kSets> job;
  const bool takes_part = (flags & (kSets ? kReadsSets : kReadsAll)) != 0 &&
                          FindJob(call, sequence, seq, Grid<kSets>::Head(), &job) &&
                          part < max(NumParts<kSets>(job.max_count, 1), cluster);
  if (!takes_part) {
    if (part == 0) WaitForInputs();
    return;
  }
  const bool is_settled = !kSets || (flags & kChooses) == 0;
  if (!is_settled) {
    WaitForInputs();
    AllowNext();
  }
  Tokens<kSets>& tokens = job.tokens;
  if constexpr (kSets) tokens.count = __ldcg(job.count);
  const int32_t group = job.group;
  const int32_t first_head = job.first_head;
  const int32_t num_rows = sequence.q_len * group;
  const int32_t num_tiles = (tokens.count + kTile - 1) / kTile;
  const int32_t num_parts = NumParts<kSets>(tokens.count, cluster);
  if (part >= num_parts) return;  // not part 0; a cluster's barriers do not wait for who has ended
  const auto tile_begin = static_cast<int32_t>(int64_t{num_tiles} * part / num_parts);
  const auto tile_end = static_cast<int32_t>(int64_t{num_tiles} * (part + 1) / num_parts);

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const uint8_t* base = call.kv.base + job.kv_head * call.kv.kv_head_bytes;
  constexpr int kStages = Shared<T, kHeadDim>::kStages;
  auto& tiles = shared.tiles[warp];
  const auto find = [&](int32_t tile) -> Place {
    const int32_t token = tile * kTile + lane % kTile;
    if (tile >= tile_end || token >= tokens.count) return {kNoToken, false};
    return tokens.Find(token);
  };
  const auto start = [&](int32_t tile, int32_t slot) {
    if (tile < tile_end) {
      LoadTile<T, kHeadDim>(tiles[(tile - tile_begin) / kWarps % kStages], base, call.kv, slot);
    }
    CommitCopies();
  };
  int32_t tile = tile_begin + warp;
  // All look-ups first, so that they are under way together.
  Place places[kStages];
#pragma unroll
  for (int i = 0; i < kStages; ++i) places[i] = find(tile + i * kWarps);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    places[i].is_own &= is_settled;
    start(tile + i * kWarps, places[i].is_own ? kNotNow : places[i].slot);
  }
  // The place of the rows of the tile that is started next, looked up a turn ahead.
  int32_t next_slot = places[kStages - 1].slot;
  if (is_settled) {
    WaitForInputs();
    AllowNext();
    bool has_own = false;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      has_own |= places[i].is_own;
      if (places[i].is_own) LoadOwnRow<T, kHeadDim>(tiles[i], base, call.kv, places[i].slot);
    }
    CommitCopies();
    if (__any_sync(0xffffffff, has_own)) WaitForCopies<0>();
  }
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
    start(tile + (kStages - 1) * kWarps, next_slot);
    next_slot = find(tile + kStages * kWarps).slot;
    WaitForCopies<kStages - 1>();
    __syncwarp();
    AddTile<T, kHeadDim>(shared, tiles[(tile - tile_begin) / kWarps % kStages], tile * kTile, limit,
                         &running);
    __syncwarp();
  }
  WaitForCopies<0>();
  MergeWarps(running, num_rows, &shared);

  const int64_t item = int64_t{seq} * Grid<kSets>::Heads() + Grid<kSets>::Head();
  const int64_t first_part = item * call.num_splits;
  float* partial = PartialOf(call, first_part + part, kHeadDim);
  const bool in_cluster = num_parts <= cluster;
  constexpr int kVectors = kHeadDim / 4;
  for (int i = threadIdx.x; i < num_rows * kVectors; i += kThreads) {
    const int row = i / kVectors;
    const int d = i % kVectors * 4;
    float weights[kWarps];
    float max;
    float sum;
    RowOfWarps(shared, row, weights, &max, &sum);
    float4 out = {};
    const float scale = num_parts == 1 ? 1 / sum : 1;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      AddScaled(&out, weights[w] * scale,
                *reinterpret_cast<const float4*>(&shared.merge.out[w][row][d]));
    }
    if (num_parts == 1) {
      *OutOf(call, sequence, first_head, group, row, d) = out;
      continue;
    }
    float* to = in_cluster ? shared.merge.part_out[row] + d : partial + 4 * i;
    *reinterpret_cast<float4*>(to) = out;
    float2* stats = in_cluster ? shared.merge.part_stats
                               : reinterpret_cast<float2*>(partial + kRows * kHeadDim);
    if (d == 0) stats[row] = {max, sum};
  }
  if (num_parts == 1) return;
  if (in_cluster) {
    AddPartsOfCluster(call, sequence, part, num_parts, first_head, group, num_rows, &shared);
    return;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // what the whole block has written, after the barrier
    const int32_t done = atomicAdd(call.workspace.counters + item, 1);
    is_last = done == num_parts - 1;
    if (is_last) call.workspace.counters[item] = 0;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  AddParts(call, sequence, first_part, num_parts, first_head, group, num_rows, &shared);
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
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
      error != cudaSuccess) {
    return error;
  }
  int32_t cluster = 1;
  // In half of the places only: clusters that need all of them wait for the kernel in front, or for
  // each other.
  if (sets && call.num_splits >= 2 * kCluster) {
    cudaFuncAttributes attributes = {};
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel); error != cudaSuccess)
      return error;
    // Code translated from older PTX does not know of clusters, whatever the device is.
    if (attributes.ptxVersion >= 90) cluster = kCluster;
  }
  const auto heads = static_cast<unsigned>(call.per_head ? call.num_heads : call.kv.num_kv_heads);
  const auto parts = static_cast<unsigned>(call.num_splits / cluster * cluster);
  const dim3 grid(sets ? heads : parts, sets ? parts : heads,
                  static_cast<unsigned>(call.step.num_sequences));
  if (cluster == 1) return Launch(kernel, grid, dim3(kThreads), kBytes, stream, call);
  return LaunchClusters(kernel, grid, dim3(1, static_cast<unsigned>(cluster)), dim3(kThreads),
                        kBytes, stream, call);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, cudaStream_t stream) {
  return LaunchForHeadDim<64, 80, 96, 128, 256>(call.kv.head_dim, [&](auto head_dim) {
    return LaunchDecode<T, decltype(head_dim)::value>(call, stream);
  });
}

}  // namespace
}  // namespace decode

int32_t AttentionSplits(int32_t num_sms, int32_t head_dim, CacheType type,
                        int32_t num_heads_or_kv_heads, int32_t num_sequences) {
  const int32_t resident = num_sms * decode::ResidentBlocks(head_dim, type == CacheType::kF8e4m3);
  const int32_t items = num_heads_or_kv_heads * num_sequences;
  return items >= resident ? 1 : resident / items;
}

int64_t AttentionPartialFloats(int32_t max_splits, int32_t max_sequences, int32_t num_heads,
                               int32_t head_dim) {
  return int64_t{max_splits} * max_sequences * num_heads * decode::kRows * (head_dim + 2);
}

bool HasTensorCoreAttention(int32_t head_dim, CacheType type) {
  const bool has_dim =
      head_dim == 64 || head_dim == 80 || head_dim == 96 || head_dim == 128 || head_dim == 256;
  return has_dim && type != CacheType::kF32;
}

cudaError_t AttendDecode(const AttentionCall& call, cudaStream_t stream) {
  if (call.kv.type == CacheType::kF8e4m3) return decode::LaunchByHeadDim<E4m3>(call, stream);
  return call.kv.type == CacheType::kF16 ? decode::LaunchByHeadDim<__half>(call, stream)
                                         : decode::LaunchByHeadDim<__nv_bfloat16>(call, stream);
}

}  // namespace tidal
