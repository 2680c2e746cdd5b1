// A block's pipeline from device memory to shared memory, and the barriers around it.
//
// One warp, the feeder, starts the copies; the others work on the stages, each on its own part of
// every stage. A barrier in shared memory per stage tells the workers when its bytes are there,
// another one the feeder when all workers are done with them. On sm_90 the copy engine does a whole
// stage, a run of bytes, at once; before that each of the feeder's lanes copies 16 bytes at a time.
#ifndef TIDAL_CUDA_MATVEC_BLOCK_RING_CUH_
#define TIDAL_CUDA_MATVEC_BLOCK_RING_CUH_

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bulk_copy.cuh"

namespace tidal {

// A barrier in shared memory (mbarrier): passes phase after phase, each when as many have arrived
// as it was initialized for.
class SharedBarrier {
 public:
  __device__ explicit SharedBarrier(const uint64_t* at)
      : address_(static_cast<uint32_t>(__cvta_generic_to_shared(at))) {}

  __device__ void Init(int arrivals) const {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address_), "r"(arrivals) : "memory");
  }
  __device__ void Arrive() const {
    asm volatile(
        "{\n"
        ".reg .b64 state;\n"
        "mbarrier.arrive.shared.b64 state, [%0];\n"
        "}\n" ::"r"(address_)
        : "memory");
  }
  // Arrive of a warp, for what all its lanes have done. Called by the whole warp.
  __device__ void ArriveWarp() const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) Arrive();
  }
  // Waits for the end of phase `phase`, of which all before have ended.
  __device__ void Wait(int phase) const {
    while (!Passed(phase & 1)) {
    }
  }
  __device__ uint32_t address() const { return address_; }

 private:
  __device__ bool Passed(int parity) const {
    uint32_t passed;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
#else
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(passed)
        : "r"(address_), "r"(parity)
        : "memory");
    return passed != 0;
  }

  uint32_t address_;
};

// Which stage of the ring a warp is at, and how often it has been around.
struct RingPlace {
  int slot = 0;
  int phase = 0;

  __device__ void Advance(int num_stages) {
    if (++slot < num_stages) return;
    slot = 0;
    ++phase;
  }
};

class BlockRing {
 public:
  // stages: num_stages times stage_bytes (a multiple of 16); barriers: kMaxStages times two.
  __device__ BlockRing(uint8_t* stages, uint64_t* barriers, int num_stages, int stage_bytes)
      : stages_(stages), barriers_(barriers), num_stages_(num_stages), stage_bytes_(stage_bytes) {}

  // Once, by one thread, which then lets the others know.
  __device__ void InitBarriers(int workers) const {
    for (int slot = 0; slot < num_stages_; ++slot) {
      Full(slot).Init(kFillArrivals);
      Empty(slot).Init(workers);
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }

  // The feeder, its whole warp: starts filling its next stage, which is free.
  __device__ void Fill(const uint8_t* source, int bytes) {
    const uint32_t barrier = Full(fill_.slot).address();
    const auto stage =
        static_cast<uint32_t>(__cvta_generic_to_shared(stages_ + fill_.slot * stage_bytes_));
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                   : "memory");
      BulkCopy(stage, source, static_cast<uint32_t>(bytes), barrier, policy_);
    }
#else
    for (int at = static_cast<int>(threadIdx.x % 32) * 16; at < bytes; at += 32 * 16) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(stage + at), "l"(source + at)
                   : "memory");
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
#endif
    fill_.Advance(num_stages_);
  }
  // The feeder: waits until the workers are done with the stage that is filled next.
  __device__ void WaitForFree() const { Empty(fill_.slot).Wait(fill_.phase - 1); }
  // The feeder, before it ends: its lanes' own copies end with them.
  __device__ void Drain() const {
#if __CUDA_ARCH__ < 900
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
  }

  // A worker: waits for the stage it takes next.
  __device__ const uint8_t* Take() const {
    Full(take_.slot).Wait(take_.phase);
    return stages_ + take_.slot * stage_bytes_;
  }
  // A worker, its whole warp: is done with the stage it has taken.
  __device__ void Release() {
    Empty(take_.slot).ArriveWarp();
    take_.Advance(num_stages_);
  }

 private:
#if __CUDA_ARCH__ >= 900
  static constexpr int kFillArrivals = 1;
#else
  static constexpr int kFillArrivals = 32;
#endif
  __device__ SharedBarrier Full(int slot) const { return SharedBarrier(barriers_ + 2 * slot); }
  __device__ SharedBarrier Empty(int slot) const { return SharedBarrier(barriers_ + 2 * slot + 1); }

  uint8_t* stages_;
  uint64_t* barriers_;
  int num_stages_;
  int stage_bytes_;
#if __CUDA_ARCH__ >= 900
  uint64_t policy_ = ReadOncePolicy();
#endif
  RingPlace fill_;
  RingPlace take_;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_BLOCK_RING_CUH_
