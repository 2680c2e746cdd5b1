// Barriers in shared memory (mbarrier): a phase ends when as many have arrived as the barrier was
// made for, and the bytes that they expect; phases alternate in parity from 0.
#ifndef TIDAL_CUDA_SHARED_BARRIER_CUH_
#define TIDAL_CUDA_SHARED_BARRIER_CUH_

#include <cstdint>

#include "cuda/mma.cuh"

namespace tidal {

// Where one lies in shared memory; made where it is used, or kept for several uses.
struct BarrierAt {
  uint32_t address;
  __device__ __forceinline__ BarrierAt(const uint64_t* barrier) : address(SharedAddress(barrier)) {}
};

__device__ __forceinline__ void InitBarrier(BarrierAt barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier.address), "r"(arrivals)
               : "memory");
}
// After the inits, in the thread that made them, before the others are let to them.
__device__ __forceinline__ void FenceBarrierInits() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void Arrive(BarrierAt barrier) {
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.shared.b64 state, [%0];\n"
      "}\n" ::"r"(barrier.address)
      : "memory");
}
// Arrive of a warp, for what all its lanes have done. Called by the whole warp.
__device__ __forceinline__ void ArriveOfWarp(BarrierAt barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) Arrive(barrier);
}
// Arrive when the thread's copies so far (cp.async) are there; counts as one of the arrivals.
__device__ __forceinline__ void ArriveAfterCopies(BarrierAt barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier.address) : "memory");
}
// Arrive, and the phase waits for so many bytes of the copy engine. Needs sm_90.
__device__ __forceinline__ void ArriveExpecting(BarrierAt barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier.address),
               "r"(bytes)
               : "memory");
}
// Waits for the end of the phase with this parity; that before the first counts as one of parity 1.
__device__ __forceinline__ void WaitForPhase(BarrierAt barrier, uint32_t parity) {
  uint32_t passed = 0;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
#else
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(passed)
        : "r"(barrier.address), "r"(parity)
        : "memory");
  } while (passed == 0);
}

}  // namespace tidal

#endif  // TIDAL_CUDA_SHARED_BARRIER_CUH_
