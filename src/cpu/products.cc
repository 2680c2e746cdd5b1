#include "cpu/products.h"

#include "base/check.h"

namespace tidal {

Result<CpuProducts> CpuProducts::Create(const CpuProductOptions& options) {
  CpuProducts products;
  products.options_ = options;
  TIDAL_ASSIGN_OR_RETURN(products.scratch_, MatMulScratch::Create(options.pool->num_threads()));
  TIDAL_ASSIGN_OR_RETURN(products.blocks_,
                         ActivationBuffer::Create(options.max_rows, options.max_cols));
  TIDAL_ASSIGN_OR_RETURN(products.remainder_blocks_,
                         ActivationBuffer::Create(options.max_rows, options.max_remainder_cols));
  return products;
}

void CpuProducts::QuantizeRow(const float* x, int64_t cols, int64_t row) const {
  if (!Quantizes(cols)) return;
  options_.kernels->matmul.quantize_row(x, cols, blocks_.Row(row, cols));
}

void CpuProducts::QuantizeRemainder(const float* x, int64_t cols, int64_t row) const {
  if (!Quantizes(cols)) return;
  const ActivationBlock* block = blocks_.Row(row, cols);
  ActivationBlock* remainder = remainder_blocks_.Row(row, cols);
  for (int64_t begin = 0; begin < cols; begin += kGroupCols, ++block, ++remainder) {
    float rest[kGroupCols];
    for (int64_t i = 0; i < kGroupCols; ++i)
      rest[i] = x[begin + i] - block->scale * static_cast<float>(block->codes[i]);
    options_.kernels->matmul.quantize_row(rest, kGroupCols, remainder);
  }
}

void CpuProducts::Multiply(const float* x, int64_t cols, int64_t rows,
                           std::span<const MatMulJob> jobs) const {
  Run({.num_tokens = rows, .cols = cols, .blocks = blocks_.Row(0, cols), .x = x, .x_stride = cols},
      jobs);
}

void CpuProducts::AddRemainder(int64_t cols, int64_t rows, std::span<const MatMulJob> jobs) const {
  TIDAL_CHECK(jobs.size() <= kMaxRemainderJobs, "remainders of {} products", jobs.size());
  MatMulJob adds[kMaxRemainderJobs];
  size_t num_adds = 0;
  for (const MatMulJob& job : jobs) {
    if (!ReadsBlocks(job.weight->type, options_.precision)) continue;
    adds[num_adds++] = {.weight = job.weight,
                        .out = job.out,
                        .out_stride = job.out_stride,
                        .mode = OutputMode::kAdd};
  }
  if (num_adds == 0) return;
  Run({.num_tokens = rows, .cols = cols, .blocks = remainder_blocks_.Row(0, cols)},
      {adds, num_adds});
}

}  // namespace tidal
