// What the matrix-vector kernels are told.
#ifndef TIDAL_CUDA_MATVEC_PARAMS_H_
#define TIDAL_CUDA_MATVEC_PARAMS_H_

#include <cstdint>
#include <cuda.h>

#include "cuda/product_call.h"

namespace tidal {

inline constexpr int kMaxMatvecRows = 8;  // rows of x
inline constexpr int kMaxMatvecJobs = 3;

// One call as kernels are told it.
struct MatvecParams {
  struct Job {
    const uint8_t* weight = nullptr;
    int32_t rows = 0;
    float* out = nullptr;
    int64_t out_stride = 0;
    const float* bias = nullptr;
  };
  Job jobs[kMaxMatvecJobs];
  int32_t task_begin[kMaxMatvecJobs + 1] = {};  // job j's tasks; kSiluMul: all are job 0's
  int32_t num_jobs = 0;
  int32_t cols = 0;
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t num_rows = 0;
  const int32_t* row_ids = nullptr;
  const float* norm = nullptr;
  float norm_eps = 0;
  ProductOutput output = ProductOutput::kStore;
  bool x_aligned = false;  // rows of x (and norm) are whole vectors of 16 bytes

  // How x is staged in shared memory: all of it, or in passes of pass_cols columns, between which
  // the sums are kept there too. Not with F16 and BF16 weights, which have the warps' x of a few
  // passes at x_offset, and their sums and what these are added to at carry_offset.
  int32_t pass_cols = 0;
  int32_t num_passes = 0;
  int32_t num_stages = 0;  // of each warp's ring, or the block's
  int32_t x_offset = 0;    // byte offsets in shared memory
  int32_t carry_offset = 0;
  int32_t ring_offset = 0;
};

// A call of F16 or BF16 weights, with a map of each job's matrix where the device has such.
struct HalfMatvecParams {
  CUtensorMap boxes[kMaxMatvecJobs];
  MatvecParams p;
  int32_t chunk_tasks = 1;  // tasks of a block for which x is read once
  int32_t x_depth = 1;      // passes whose x is on its way or there
};

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_PARAMS_H_
