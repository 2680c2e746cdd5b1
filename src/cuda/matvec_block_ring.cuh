// A block's pipeline from device memory to shared memory, and the barriers around it.
//
// One warp, the feeder, starts the copies; the others work on the stages, each on its own part of
// every stage. A barrier in shared memory per stage tells the workers when its bytes are there,
// another one the feeder when all workers are done with them. On sm_90 the copy engine does a whole
// stage at once; before that each of the feeder's lanes copies 16 bytes at a time.
#ifndef TIDAL_CUDA_MATVEC_BLOCK_RING_CUH_
#define TIDAL_CUDA_MATVEC_BLOCK_RING_CUH_

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bulk_copy.cuh"
#include "cuda/mma.cuh"
#include "cuda/shared_barrier.cuh"

namespace tidal {

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

// How a stage is filled: a part of it with one run of bytes (a multiple of 16, as are both places),
// or with a box.
class StageCopy {
#if __CUDA_ARCH__ >= 900
 public:
  __device__ StageCopy(BarrierAt barrier, uint64_t policy) : barrier_(barrier), policy_(policy) {}
  __device__ void Run(uint8_t* to, const uint8_t* from, int bytes) const {
    BulkCopy(SharedAddress(to), from, static_cast<uint32_t>(bytes), barrier_, policy_);
  }
  __device__ void Box(uint8_t* to, const CUtensorMap* map, int row, int group) const {
    BoxCopy(SharedAddress(to), map, row, group, barrier_, policy_);
  }

 private:
  BarrierAt barrier_;
  uint64_t policy_;
#else
 public:
  __device__ void Run(uint8_t* to, const uint8_t* from, int bytes) const {
    for (int at = static_cast<int>(threadIdx.x % 32) * 16; at < bytes; at += 32 * 16)
      CopyAsync16(to + at, from + at, true);
  }
#endif
};

class BlockRing {
 public:
  // stages: num_stages times stage_bytes (a multiple of 16); barriers: kMaxStages times two.
  __device__ BlockRing(uint8_t* stages, uint64_t* barriers, int num_stages, int stage_bytes)
      : stages_(stages), barriers_(barriers), num_stages_(num_stages), stage_bytes_(stage_bytes) {}

  // Once, by one thread, which then lets the others know.
  __device__ void InitBarriers(int workers) const {
    for (int slot = 0; slot < num_stages_; ++slot) {
      InitBarrier(Full(slot), kFillArrivals);
      InitBarrier(Empty(slot), static_cast<uint32_t>(workers));
    }
    FenceBarrierInits();
  }

  // The feeder, its whole warp: starts filling its next stage, which is free, with `bytes` bytes:
  // copy(stage, StageCopy) starts what brings them, by lane 0, before sm_90 by all lanes.
  template <typename Copy>
  __device__ void Fill(int bytes, const Copy& copy) {
    const BarrierAt barrier = Full(fill_.slot);
    uint8_t* stage = stages_ + fill_.slot * stage_bytes_;
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      ArriveExpecting(barrier, static_cast<uint32_t>(bytes));
      copy(stage, StageCopy(barrier, policy_));
    }
#else
    copy(stage, StageCopy());
    ArriveAfterCopies(barrier);
#endif
    fill_.Advance(num_stages_);
  }
  // The feeder: waits until the workers are done with the stage that is filled next.
  __device__ void WaitForFree() const { WaitForPhase(Empty(fill_.slot), (fill_.phase - 1) & 1); }
  // The feeder, before it ends: its lanes' own copies end with them.
  __device__ void Drain() const {
#if __CUDA_ARCH__ < 900
    WaitForAllCopies();
#endif
  }

  // A worker: waits for the stage it takes next.
  __device__ const uint8_t* Take() const {
    WaitForPhase(Full(take_.slot), take_.phase & 1);
    return stages_ + take_.slot * stage_bytes_;
  }
  // A worker, its whole warp: is done with the stage it has taken.
  __device__ void Release() {
    ArriveOfWarp(Empty(take_.slot));
    take_.Advance(num_stages_);
  }

 private:
  __device__ BarrierAt Full(int slot) const { return barriers_ + 2 * slot; }
  __device__ BarrierAt Empty(int slot) const { return barriers_ + 2 * slot + 1; }

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
