// Blocks that share a set of work: a thread block cluster where the code that runs has clusters
// (sm_90), else a block alone, with the same calls.
#ifndef TIDAL_CUDA_CLUSTER_CUH_
#define TIDAL_CUDA_CLUSTER_CUH_

#include <cooperative_groups.h>
#include <cstdint>

namespace tidal {

__device__ __forceinline__ int32_t ClusterRank() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return static_cast<int32_t>(cooperative_groups::this_cluster().block_rank());
#else
  return 0;
#endif
}

__device__ __forceinline__ int32_t ClusterSize() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return static_cast<int32_t>(cooperative_groups::this_cluster().num_blocks());
#else
  return 1;
#endif
}

// A barrier of all threads of all blocks; orders their shared memory.
__device__ __forceinline__ void ClusterSync() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().sync();
#else
  __syncthreads();
#endif
}

// The same in two halves: what is written between them is not waited for.
__device__ __forceinline__ void ClusterArrive() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().barrier_arrive();
#endif
}
__device__ __forceinline__ void ClusterWait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().barrier_wait();
#else
  __syncthreads();
#endif
}

// The same shared variable of the block with this rank, which must not have ended.
template <typename T>
__device__ __forceinline__ T* OfBlock(T* shared, int32_t rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(shared, static_cast<unsigned>(rank));
#else
  return shared;
#endif
}

}  // namespace tidal

#endif  // TIDAL_CUDA_CLUSTER_CUH_
