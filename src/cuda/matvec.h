// Matrix-vector products for few rows: the launchers behind CudaProducts::Multiply.
#ifndef TIDAL_CUDA_MATVEC_H_
#define TIDAL_CUDA_MATVEC_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/product_call.h"
#include "cuda/weight_layout.h"

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
  // the sums are kept there too.
  int32_t pass_cols = 0;
  int32_t num_passes = 0;
  int32_t num_stages = 0;  // of each warp's ring, or the block's
  int32_t x_offset = 0;    // byte offsets in shared memory
  int32_t carry_offset = 0;
  int32_t ring_offset = 0;
};

// What of a device the launches depend on.
struct MatvecDevice {
  int num_sms = 1;
  int max_shared_bytes = 0;  // that a block may ask for
};

// How many of the call's rows of x one launch can do: at most 8, fewer where the shared memory
// does not suffice, 0 where the kernels below cannot do the call at all (weights of several types).
int64_t MatvecRows(const ProductCall& call, const MatvecDevice& device);

// Enqueues all the call's rows. REQUIRES: call.num_rows <= MatvecRows of a call that differs from
// it in num_rows at most. All launches of the current device.
cudaError_t LaunchMatvec(const ProductCall& call, const MatvecDevice& device, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_H_
