// Launching kernels so that the next one's start overlaps the end of the one before.
//
// With programmatic dependent launch a kernel's blocks may start while its predecessor on the
// stream still runs. Every kernel of a step therefore calls WaitForInputs() before it reads what
// an earlier kernel of the step wrote, or writes what one may still read; before that it may only
// touch what no kernel of the step writes: weights, and of caches what earlier steps have written
// (steps are kept apart by the upload of their tables, a copy). AllowNext() says that the next
// kernel may be scheduled; without it that happens when the block ends. Both are nothing before
// sm_90.
#ifndef TIDAL_CUDA_LAUNCH_CUH_
#define TIDAL_CUDA_LAUNCH_CUH_

#include <cstddef>
#include <cuda_runtime.h>
#include <type_traits>
#include <utility>

namespace tidal {

__device__ __forceinline__ void WaitForInputs() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void AllowNext() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Gives a kernel multiprocessors with as much shared memory as the kernels around it have: one that
// has to divide its memory anew first runs empty, and nothing overlaps. Before its launches.
template <typename... Params>
cudaError_t PreferSharedMemory(void (*kernel)(Params...)) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                              cudaSharedmemCarveoutMaxShared);
}

// Enqueues kernel<<<grid, block, shared_bytes, stream>>>(args...) as a programmatic dependent of
// the kernel before it. Fails as cudaLaunchKernelEx does.
template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// As Launch, with blocks in clusters of these dimensions, which divide the grid's.
// REQUIRES: code for sm_90 or newer.
template <typename... Params, typename... Args>
cudaError_t LaunchClusters(void (*kernel)(Params...), dim3 grid, dim3 cluster, dim3 block,
                           size_t shared_bytes, cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {cluster.x, cluster.y, cluster.z};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// launch(std::integral_constant<int, d>) for the d of kHeadDims that is head_dim, for kernels that
// are compiled for each; cudaErrorInvalidValue for any other.
template <int... kHeadDims, typename LaunchFor>
cudaError_t LaunchForHeadDim(int32_t head_dim, const LaunchFor& launch) {
  cudaError_t error = cudaErrorInvalidValue;
  const auto launch_if = [&](auto dim) {
    if (head_dim == dim) error = launch(dim);
  };
  (launch_if(std::integral_constant<int, kHeadDims>()), ...);
  return error;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_LAUNCH_CUH_
