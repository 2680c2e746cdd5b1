#include "cpu/matmul.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

// Decode: each thread gets at least so many items, of about equal bytes. Large enough to hide their
// start, small enough that threads end together on a machine that does other things, too.
constexpr int64_t kDecodeTokens = 4;
constexpr int64_t kDecodeItemsPerThread = 2;
constexpr int64_t kLeastItemBytes = 32 << 10;
constexpr int64_t kMostItemBytes = 128 << 10;
// Prefill: an item is a few tiles for all tokens, or for parts of them where tiles are few.
constexpr int64_t kPrefillTiles = kScratchTiles;
constexpr int64_t kPrefillItemsPerThread = 8;
constexpr int64_t kLeastPartTokens = 32;

// One call of MatMul, cut into items that any thread may take.
class Products {
 public:
  Products(const KernelTable& kernels, Precision precision, const MatMulScratch& scratch,
           const ActivationView& activations, std::span<const MatMulJob> jobs, int num_threads)
      : kernels_(kernels),
        precision_(precision),
        scratch_(scratch),
        activations_(activations),
        jobs_(jobs) {
    for (const MatMulJob& job : jobs) {
      bytes_ += job.weight->bytes();
      num_units_ += CeilDiv(job.weight->num_tiles(), kPrefillTiles);
    }
    if (decode()) {
      const int64_t least = num_threads * kDecodeItemsPerThread;
      num_items_ = std::max(std::min(least, CeilDiv(bytes_, kLeastItemBytes)),
                            CeilDiv(bytes_, kMostItemBytes));
    } else {
      const int64_t wanted = CeilDiv(num_threads * kPrefillItemsPerThread, num_units_);
      const int64_t most = std::max<int64_t>(1, activations.num_tokens / kLeastPartTokens);
      num_parts_ = num_threads == 1 ? 1 : std::clamp<int64_t>(wanted, 1, most);
      num_items_ = num_units_ * num_parts_;
    }
  }

  int64_t num_items() const { return num_items_; }

  void RunItem(int64_t item, int thread) const {
    if (decode())
      RunBytes(bytes_ * item / num_items_, bytes_ * (item + 1) / num_items_, thread);
    else
      RunUnit(item / num_parts_, item % num_parts_, thread);
  }

 private:
  bool decode() const { return activations_.num_tokens <= kDecodeTokens; }

  // The tiles that start at bytes [begin, end) of the weights of all jobs in a row.
  void RunBytes(int64_t begin, int64_t end, int thread) const {
    for (const MatMulJob& job : jobs_) {
      const int64_t tile_bytes = job.weight->tile_bytes();
      const int64_t bytes = job.weight->bytes();
      const int64_t first = CeilDiv(std::clamp<int64_t>(begin, 0, bytes), tile_bytes);
      const int64_t last = CeilDiv(std::clamp<int64_t>(end, 0, bytes), tile_bytes);
      if (first < last) Run(job, first, last, 0, activations_.num_tokens, thread);
      begin -= bytes;
      end -= bytes;
    }
  }

  // kPrefillTiles tiles, counted over all jobs, for one part of the tokens.
  void RunUnit(int64_t unit, int64_t part, int thread) const {
    size_t i = 0;
    for (;; ++i) {
      const int64_t units = CeilDiv(jobs_[i].weight->num_tiles(), kPrefillTiles);
      if (unit < units) break;
      unit -= units;
    }
    const int64_t tile = unit * kPrefillTiles;
    Run(jobs_[i], tile, std::min(tile + kPrefillTiles, jobs_[i].weight->num_tiles()),
        activations_.num_tokens * part / num_parts_,
        activations_.num_tokens * (part + 1) / num_parts_, thread);
  }

  void Run(const MatMulJob& job, int64_t tile, int64_t end_tile, int64_t token, int64_t end_token,
           int thread) const {
    const PackedMatrix& weight = *job.weight;
    const int64_t row = tile * kRowTile;
    const int64_t blocks_per_row = activations_.cols / kGroupCols;
    const MatMulTask task = {
        .type = weight.type,
        .tiles = reinterpret_cast<const uint8_t*>(weight.data) + tile * weight.tile_bytes(),
        .num_rows = std::min(end_tile * kRowTile, weight.rows) - row,
        .cols = weight.cols,
        .num_tokens = end_token - token,
        .blocks =
            activations_.blocks == nullptr ? nullptr : activations_.blocks + token * blocks_per_row,
        .block_stride = blocks_per_row,
        .x = activations_.x == nullptr ? nullptr : activations_.x + token * activations_.x_stride,
        .x_stride = activations_.x_stride,
        .out = job.out + token * job.out_stride + row,
        .out_stride = job.out_stride,
        .bias = job.bias == nullptr ? nullptr : job.bias + row,
        .mode = job.mode,
        .scratch = scratch_.OfThread(thread),
    };
    if (ReadsBlocks(weight.type, precision_))
      kernels_.matmul.quantized(task);
    else
      kernels_.matmul.full(task);
  }

  const KernelTable& kernels_;
  const Precision precision_;
  const MatMulScratch& scratch_;
  const ActivationView& activations_;
  const std::span<const MatMulJob> jobs_;
  int64_t bytes_ = 0;      // of all weights
  int64_t num_units_ = 0;  // of kPrefillTiles tiles
  int64_t num_parts_ = 1;  // of the tokens
  int64_t num_items_ = 0;
};

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
  for (const MatMulJob& job : jobs) {
    TIDAL_CHECK(job.weight->cols == activations.cols, "weight of {} columns, activations of {}",
                job.weight->cols, activations.cols);
    TIDAL_CHECK(ReadsBlocks(job.weight->type, precision) ? activations.blocks != nullptr
                                                         : activations.x != nullptr,
                "no activations for weights of type {}", static_cast<int>(job.weight->type));
  }
  if (activations.num_tokens == 0 || jobs.empty()) return;
  const Products products(kernels, precision, scratch, activations, jobs, pool.num_threads());
  pool.ParallelFor(products.num_items(), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t item = begin; item < end; ++item) products.RunItem(item, thread);
  });
}

}  // namespace tidal
