// A warp's own pipeline from device memory to shared memory.
//
// The warp fills stage after stage with copies that run while it works on earlier stages; a barrier
// in shared memory per stage tells when its bytes are there. On sm_90 the copy engine does it (one
// bulk copy for each run of bytes), before that each lane copies 16 bytes at a time.
#ifndef TIDAL_CUDA_MATVEC_RING_CUH_
#define TIDAL_CUDA_MATVEC_RING_CUH_

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bulk_copy.cuh"
#include "cuda/mma.cuh"
#include "cuda/shared_barrier.cuh"

namespace tidal {

class WarpRing {
 public:
  // stages: num_stages times stage_bytes (a multiple of 16), barriers: num_stages, both of this
  // warp alone.
  __device__ WarpRing(uint8_t* stages, uint64_t* barriers, int num_stages, int stage_bytes)
      : stages_(stages), barriers_(barriers), num_stages_(num_stages), stage_bytes_(stage_bytes) {
    if (Lane() == 0) {
      for (int i = 0; i < num_stages; ++i) InitBarrier(&barriers[i], kFillArrivals);
      FenceBarrierInits();
    }
    __syncwarp();
  }

  // Starts filling the next stage: lane i < num_runs copies run_bytes bytes (a
  // multiple of 16) from its own `source` to i * run_bytes of the stage. Called
  // by the whole warp, after all its lanes are done with what the stage held.
  __device__ void Fill(const uint8_t* source, int run_bytes, int num_runs) {
    const BarrierAt barrier(&barriers_[fill_slot_]);
    const uint32_t stage = SharedAddress(stages_ + fill_slot_ * stage_bytes_);
    __syncwarp();
#if __CUDA_ARCH__ >= 900
    if (Lane() == 0) ArriveExpecting(barrier, static_cast<uint32_t>(run_bytes * num_runs));
    __syncwarp();
    if (Lane() < num_runs) {
      BulkCopy(stage + Lane() * run_bytes, source, static_cast<uint32_t>(run_bytes), barrier,
               policy_);
    }
#else
    for (int run = 0; run < num_runs; ++run) {
      const auto from = reinterpret_cast<const uint8_t*>(
          __shfl_sync(~0u, reinterpret_cast<unsigned long long>(source), run));
      for (int at = Lane() * 16; at < run_bytes; at += 32 * 16)
        CopyAsync16(stages_ + fill_slot_ * stage_bytes_ + run * run_bytes + at, from + at, true);
    }
    ArriveAfterCopies(barrier);
#endif
    fill_slot_ = fill_slot_ + 1 == num_stages_ ? 0 : fill_slot_ + 1;
  }

  // Waits for the oldest stage not yet taken and returns it.
  __device__ const uint8_t* Take() {
    const uint8_t* stage = stages_ + take_slot_ * stage_bytes_;
    WaitForPhase(&barriers_[take_slot_], take_parity_);
    ++take_slot_;
    if (take_slot_ == num_stages_) {
      take_slot_ = 0;
      take_parity_ ^= 1;
    }
    return stage;
  }

 private:
  static __device__ int Lane() { return threadIdx.x % 32; }

  uint8_t* stages_;
  uint64_t* barriers_;
  int num_stages_;
  int stage_bytes_;
#if __CUDA_ARCH__ >= 900
  uint64_t policy_ = ReadOncePolicy();
#endif
  int fill_slot_ = 0;
  int take_slot_ = 0;
  uint32_t take_parity_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_RING_CUH_
