#include "cpu/matmul.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

// Decode: an item is so many bytes of weights, enough to hide its start, little enough that threads
// end together.
constexpr int64_t kLeastItemBytes = 16 << 10;
constexpr int64_t kMostItemBytes = 128 << 10;
constexpr int64_t kItemsPerThread = 8;
// Prefill: an item is so many tiles for all tokens, or for parts of them where tiles are few.
constexpr int64_t kPrefillTiles = kScratchTiles;
constexpr int64_t kLeastPartTokens = 32;
constexpr int64_t kDecodeTokens = 4;

// A job's tiles in units of items; the items of all jobs are numbered in a row.
struct Partition {
  std::array<int64_t, kMaxMatMulJobs> first_unit;
  std::array<int64_t, kMaxMatMulJobs> tiles_per_unit;
  int64_t num_units = 0;
  int64_t num_parts = 1;  // of the tokens
};

Partition Divide(std::span<const MatMulJob> jobs, int64_t num_tokens, int num_threads) {
  int64_t bytes = 0;
  for (const MatMulJob& job : jobs) bytes += job.weight->bytes();
  const int64_t item_bytes =
      std::clamp(bytes / (num_threads * kItemsPerThread), kLeastItemBytes, kMostItemBytes);
  Partition partition;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const PackedMatrix& weight = *jobs[i].weight;
    const int64_t tiles = num_tokens <= kDecodeTokens
                              ? std::max<int64_t>(1, item_bytes / weight.tile_bytes())
                              : kPrefillTiles;
    partition.first_unit[i] = partition.num_units;
    partition.tiles_per_unit[i] = tiles;
    partition.num_units += CeilDiv(weight.num_tiles(), tiles);
  }
  if (num_tokens > kDecodeTokens) {
    partition.num_parts = std::clamp<int64_t>(
        CeilDiv(num_threads * kItemsPerThread, partition.num_units), 1,
        num_threads == 1 ? 1 : std::max<int64_t>(1, num_tokens / kLeastPartTokens));
  }
  return partition;
}

}  // namespace

Result<ActivationBuffer> ActivationBuffer::Create(int64_t max_tokens, int64_t max_cols) {
  int64_t bytes = 0;
  const int64_t row_bytes =
      CeilDiv(max_cols, kGroupCols) * static_cast<int64_t>(sizeof(ActivationBlock));
  if (!CheckedMul(max_tokens, row_bytes, &bytes))
    return OutOfMemory("activations of {} tokens of {} columns are more than any machine has",
                       max_tokens, max_cols);
  ActivationBuffer buffer;
  TIDAL_ASSIGN_OR_RETURN(buffer.memory_, AlignedBuffer::Create(bytes));
  return buffer;
}

Result<MatMulScratch> MatMulScratch::Create(int num_threads) {
  MatMulScratch scratch;
  TIDAL_ASSIGN_OR_RETURN(scratch.memory_, AlignedBuffer::Create(num_threads * kMatMulScratchBytes));
  return scratch;
}

void MatMul(const KernelTable& kernels, Precision precision, ThreadPool& pool,
            const MatMulScratch& scratch, const ActivationView& activations,
            std::span<const MatMulJob> jobs) {
  TIDAL_CHECK(jobs.size() <= kMaxMatMulJobs, "{} jobs", jobs.size());
  for (const MatMulJob& job : jobs) {
    TIDAL_CHECK(job.weight->cols == activations.cols, "weight of {} columns, activations of {}",
                job.weight->cols, activations.cols);
    TIDAL_CHECK(ReadsBlocks(job.weight->type, precision) ? activations.blocks != nullptr
                                                         : activations.x != nullptr,
                "no activations for weights of type {}", static_cast<int>(job.weight->type));
  }
  if (activations.num_tokens == 0) return;
  const Partition partition = Divide(jobs, activations.num_tokens, pool.num_threads());
  const int64_t blocks_per_row = activations.cols / kGroupCols;
  const auto run_item = [&](int64_t item, int thread) {
    const int64_t unit = item / partition.num_parts;
    const int64_t part = item % partition.num_parts;
    size_t i = jobs.size() - 1;
    while (unit < partition.first_unit[i]) --i;
    const MatMulJob& job = jobs[i];
    const PackedMatrix& weight = *job.weight;
    const int64_t tile = (unit - partition.first_unit[i]) * partition.tiles_per_unit[i];
    const int64_t row = tile * kRowTile;
    const int64_t token = activations.num_tokens * part / partition.num_parts;
    const int64_t end = activations.num_tokens * (part + 1) / partition.num_parts;
    const MatMulTask task = {
        .type = weight.type,
        .tiles = reinterpret_cast<const uint8_t*>(weight.data) + tile * weight.tile_bytes(),
        .num_rows = std::min(partition.tiles_per_unit[i] * kRowTile, weight.rows - row),
        .cols = weight.cols,
        .num_tokens = end - token,
        .blocks =
            activations.blocks == nullptr ? nullptr : activations.blocks + token * blocks_per_row,
        .block_stride = blocks_per_row,
        .x = activations.x == nullptr ? nullptr : activations.x + token * activations.x_stride,
        .x_stride = activations.x_stride,
        .out = job.out + token * job.out_stride + row,
        .out_stride = job.out_stride,
        .bias = job.bias == nullptr ? nullptr : job.bias + row,
        .mode = job.mode,
        .scratch = scratch.OfThread(thread),
    };
    const auto kernel =
        ReadsBlocks(weight.type, precision) ? kernels.matmul.quantized : kernels.matmul.full;
    kernel(task);
  };
  pool.ParallelFor(partition.num_units * partition.num_parts, 1,
                   [&](int64_t begin, int64_t end, int thread) {
                     for (int64_t item = begin; item < end; ++item) run_item(item, thread);
                   });
}

}  // namespace tidal
