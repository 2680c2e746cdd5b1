// Products of a step's rows with weight matrices: what MatMul needs beside the weights.
//
// Use, for each input x [rows][cols]: QuantizeRow of every row, by any threads; then Multiply as
// often as wanted. For products that are to have 16 bits of x where the fast precision gives them
// 8: QuantizeRemainder behind QuantizeRow, and AddRemainder behind Multiply. Nothing allocates.
#ifndef TIDAL_CPU_PRODUCTS_H_
#define TIDAL_CPU_PRODUCTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "cpu/matmul.h"
#include "executor/options.h"

namespace tidal {

struct CpuProductOptions {
  const KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Precision precision = Precision::kFast;
  int64_t max_rows = 1;            // of any input
  int64_t max_cols = 1;            // the same
  int64_t max_remainder_cols = 1;  // of those with a remainder
};

// Threads: one, which runs products on the pool's; rows may be quantised by any.
class CpuProducts {
 public:
  static constexpr size_t kMaxRemainderJobs = 3;  // queries, keys and values

  // Kernels and pool outlive the object. kOutOfMemory with the bytes.
  static Result<CpuProducts> Create(const CpuProductOptions& options);

  // Quantises row `row` of an input, x [cols], where the fast precision may want it.
  void QuantizeRow(const float* x, int64_t cols, int64_t row) const;
  // What 8 bits left of a row of x, after QuantizeRow, in another 8.
  void QuantizeRemainder(const float* x, int64_t cols, int64_t row) const;

  // Products of the first `rows` rows of x [rows][cols].
  void Multiply(const float* x, int64_t cols, int64_t rows, std::span<const MatMulJob> jobs) const;
  // Adds to the outputs of the same jobs, at most kMaxRemainderJobs, what the remainders of their
  // inputs give, where their weights read 8 bits.
  void AddRemainder(int64_t cols, int64_t rows, std::span<const MatMulJob> jobs) const;

 private:
  // A product with another number of columns has no quantised weights.
  bool Quantizes(int64_t cols) const {
    return options_.precision == Precision::kFast && cols % kGroupCols == 0;
  }
  void Run(const ActivationView& view, std::span<const MatMulJob> jobs) const {
    MatMul(*options_.kernels, options_.precision, *options_.pool, scratch_, view, jobs);
  }

  CpuProductOptions options_;
  MatMulScratch scratch_;
  ActivationBuffer blocks_;
  ActivationBuffer remainder_blocks_;
};

}  // namespace tidal

#endif  // TIDAL_CPU_PRODUCTS_H_
