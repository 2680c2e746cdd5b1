// Products of packed weights with the activations of many tokens, over all threads.
#ifndef TIDAL_CPU_MATMUL_H_
#define TIDAL_CPU_MATMUL_H_

#include <cstdint>
#include <span>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"
#include "cpu/packed_weights.h"
#include "executor/options.h"

namespace tidal {

// Whether products with weights of this type read 8-bit activations (true) or float32 ones.
inline bool ReadsBlocks(PackedType type, Precision precision) {
  return precision == Precision::kFast && IsQuantized(type);
}

// Memory for 8-bit activations [num_tokens][cols / kGroupCols], filled row by row. Rows of one
// product have the same cols; different products may use the buffer in turn.
class ActivationBuffer {
 public:
  static Result<ActivationBuffer> Create(int64_t max_tokens, int64_t max_cols);

  // Row `token` of a product with `cols` columns, to be filled by MatMulKernels::quantize_row;
  // different rows may be filled by different threads. REQUIRES: cols a multiple of kGroupCols,
  // token and cols within the limits given at creation.
  ActivationBlock* Row(int64_t token, int64_t cols) const {
    return reinterpret_cast<ActivationBlock*>(memory_.data()) + token * (cols / kGroupCols);
  }

 private:
  AlignedBuffer memory_;
};

// The right-hand side of one or several products. Each member may be null where no weight of the
// call reads it (ReadsBlocks).
struct ActivationView {
  int64_t num_tokens = 0;
  int64_t cols = 0;
  const ActivationBlock* blocks = nullptr;  // [num_tokens][cols / kGroupCols], without gaps
  const float* x = nullptr;                 // [num_tokens][cols]
  int64_t x_stride = 0;                     // floats from row to row
};

// out[token][row] = or += weight[row] . activation[token] + bias[row].
struct MatMulJob {
  const PackedMatrix* weight = nullptr;
  float* out = nullptr;         // [num_tokens][weight->rows]
  int64_t out_stride = 0;       // floats from token to token
  const float* bias = nullptr;  // [weight->rows], or null
  OutputMode mode = OutputMode::kStore;
};

// One scratch area per thread, made once.
class MatMulScratch {
 public:
  static Result<MatMulScratch> Create(int num_threads);
  uint8_t* OfThread(int thread) const {
    return reinterpret_cast<uint8_t*>(memory_.data()) + thread * kMatMulScratchBytes;
  }

 private:
  AlignedBuffer memory_;
};

// Products that share their activations (Q, K and V; gate and up), in one parallel region. No
// allocation. The result of each element is bitwise the same for any number of tokens, jobs and
// threads; matmul_kernels.h has the order of the roundings. REQUIRES: each weight's cols is
// activations.cols; outputs do not overlap each other or the activations; scratch for at least
// pool.num_threads() threads.
void MatMul(const KernelTable& kernels, Precision precision, ThreadPool& pool,
            const MatMulScratch& scratch, const ActivationView& activations,
            std::span<const MatMulJob> jobs);

}  // namespace tidal

#endif  // TIDAL_CPU_MATMUL_H_
