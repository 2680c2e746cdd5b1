// Causal attention of many rows over a paged context with Hopper's asynchronous tensor-core
// products: prefill on sm_90a, for a head_dim of 64, 80, 96 or 128. attention_prefill.cu has the
// other head_dims and devices. This file has the kernel and its launch,
// attention_prefill_wgmma_block.cuh a block's work and its copies, attention_prefill_wgmma_rows.cuh
// what becomes of a warpgroup's rows.
//
// What      a block takes 128 rows of one KV head - a token's heads of that KV head lie next to
//           each other, so that rows of a head are shared as those of tokens are - 64 to each of
//           two warpgroups, and walks the tokens that they see in tiles of 128, two pages. A thread
//           of a third warpgroup copies K and V, two tiles of each in shared memory.
// Overlap   a warpgroup starts the scores of a tile, then the sum over V of the tile before, and
//           turns scores into probabilities while the tensor cores are at that sum and, since the
//           warpgroups start their products in turns, at those of the other warpgroup.
// Layout    the copies' and products' 128-byte swizzle; wgmma.cuh.
// Launch    384 threads, one block to a multiprocessor (161 KB of shared memory with head_dim 128);
//           blocks with the most tokens to see come first.
// Compute   2 * head_dim multiply-adds for each row and token seen, of which a multiprocessor does
//           2048 a cycle. A tile of 128 rows is 2048 cycles of products with head_dim 128, in which
//           K and V are 64 KB to read (from L2, where the blocks of a KV head meet them) and 16384
//           exponentials 1024 cycles.
// Speed     on an H200, bf16, head_dim 128, 32 heads: 16,384 tokens at 700 TFLOP/s, 87 % of a large
//           bf16 matrix product there (806), and at 696 with 8 KV heads; 512 rows behind 15,872
//           tokens at 662.
// Numerics  queries and probabilities are rounded to the cache's type, scores and sums are float32.
// Oracle    attention_test.cc; speed: bench/cuda_attention_bench.cc.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/attention_prefill_wgmma.h"
#include "cuda/attention_prefill_wgmma_block.cuh"
#include "cuda/attention_prefill_wgmma_rows.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared_barrier.cuh"
#include "cuda/wgmma.cuh"

namespace tidal {
namespace {

// Whether this pass of the compiler has the products; the host's sees them too. In a pass that has
// not, the kernel is empty, and its launch bound says so to the host and makes its launch fail.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TIDAL_HAS_PRODUCTS 1
constexpr int kLaunchBound = kPrefillThreads;
#else
#define TIDAL_HAS_PRODUCTS 0
constexpr int kLaunchBound = 32;
#endif

#if TIDAL_HAS_PRODUCTS

// The block starts with 168 registers to a thread; these add up to no more.
constexpr int kCopyRegisters = 24;
constexpr int kMultiplyRegisters = 240;

// A block's work. Blocks: [blocks of rows][KV heads][sequences].
template <typename T, int kHeadDim>
__device__ __forceinline__ void AttendBlock(const AttentionCall& call, const CUtensorMap& rows,
                                            const RowStrides& strides) {
  extern __shared__ uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<PrefillShared<kHeadDim>*>(
      shared_bytes + (0 - SharedAddress(shared_bytes)) % kSwizzleAlignment);
  AllowNext();
  WaitForInputs();
  const int32_t seq = blockIdx.z;
  if ((call.step.flags[seq] & kReadsAll) == 0) return;
  const DeviceSequence sequence = call.step.sequences[seq];
  PrefillWork work;
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
  work.num_tiles = (work.num_tokens + kTileTokens - 1) / kTileTokens;

  if (threadIdx.x == 0) {
    constexpr uint32_t kMultiplyingWarps = kGroups * kGroupThreads / 32;
    for (int stage = 0; stage < kTileStages; ++stage) {
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
  constexpr size_t kBytes = sizeof(PrefillShared<kHeadDim>) + kSwizzleAlignment;
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
  return Launch(kernel, grid, dim3(kPrefillThreads), kBytes, stream, call, rows, strides);
}

template <typename T>
cudaError_t LaunchByHeadDim(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  return LaunchForHeadDim<64, 80, 96, 128>(call.kv.head_dim, [&](auto head_dim) {
    return LaunchPrefill<T, decltype(head_dim)::value>(call, max_q_len, stream);
  });
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
         attributes.maxThreadsPerBlock >= kPrefillThreads;
}

cudaError_t AttendPrefillWgmma(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream) {
  return call.kv.type == CacheType::kF16 ? LaunchByHeadDim<__half>(call, max_q_len, stream)
                                         : LaunchByHeadDim<__nv_bfloat16>(call, max_q_len, stream);
}

}  // namespace tidal
