#include "cpu/cpu_weights.h"

#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

std::vector<float> Floats(const TensorView& view) {
  if (!view.present()) return {};
  std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
  DequantizeRow(view.dtype, view.data, values.data(), view.rows * view.cols);
  return values;
}

// The file stays mapped; its whole pages within the tensor are read again should anybody ask.
void DropPages(const TensorView& view) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(view.data) + page - 1) / page * page;
  const auto end =
      (reinterpret_cast<uintptr_t>(view.data) + static_cast<uintptr_t>(view.bytes())) / page * page;
  // A hint: where the system refuses, the pages stay resident and nothing else changes.
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

class Packer {
 public:
  Packer(CpuWeights* weights, ThreadPool* pool, const std::function<void(double)>* progress)
      : weights_(weights), pool_(pool), progress_(progress) {}

  // First pass: how much memory it takes.
  void Count(const TensorView& view) { total_ += PackedBytes(view.dtype, view.rows, view.cols); }
  int64_t total() const { return total_; }

  PackedMatrix Pack(const TensorView& view) {
    const PackedMatrix packed = tidal::Pack(view.dtype, view.rows, view.cols, view.data,
                                            weights_->memory.data() + done_, *pool_);
    done_ += packed.bytes();
    TIDAL_CHECK(done_ <= total_, "packed {} of {} bytes", done_, total_);
    DropPages(view);
    if (*progress_) (*progress_)(static_cast<double>(done_) / static_cast<double>(total_));
    return packed;
  }

 private:
  CpuWeights* weights_;
  ThreadPool* pool_;
  const std::function<void(double)>* progress_;
  int64_t total_ = 0;
  int64_t done_ = 0;
};

CpuLayerWeights PackLayer(const LayerWeights& layer, Packer* packer) {
  CpuLayerWeights packed;
  packed.attn_norm = Floats(layer.attn_norm);
  packed.ffn_norm = Floats(layer.ffn_norm);
  packed.attn_q_bias = Floats(layer.attn_q_bias);
  packed.attn_k_bias = Floats(layer.attn_k_bias);
  packed.attn_v_bias = Floats(layer.attn_v_bias);
  packed.attn_q_norm = Floats(layer.attn_q_norm);
  packed.attn_k_norm = Floats(layer.attn_k_norm);
  packed.attn_q = packer->Pack(layer.attn_q);
  packed.attn_k = packer->Pack(layer.attn_k);
  packed.attn_v = packer->Pack(layer.attn_v);
  packed.attn_output = packer->Pack(layer.attn_output);
  packed.ffn_gate = packer->Pack(layer.ffn_gate);
  packed.ffn_up = packer->Pack(layer.ffn_up);
  packed.ffn_down = packer->Pack(layer.ffn_down);
  return packed;
}

}  // namespace

Result<CpuWeights> PackWeights(const Model& model, ThreadPool& pool,
                               const std::function<void(double)>& progress) {
  CpuWeights weights;
  Packer packer(&weights, &pool, &progress);
  const ModelWeights& source = model.weights();
  for (const LayerWeights& layer : source.layers) {
    for (const TensorView* view : {&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.attn_output,
                                   &layer.ffn_gate, &layer.ffn_up, &layer.ffn_down}) {
      packer.Count(*view);
    }
  }
  packer.Count(source.output);
  TIDAL_ASSIGN_OR_RETURN(weights.memory, AlignedBuffer::Create(packer.total()));
  weights.layers.reserve(source.layers.size());
  for (const LayerWeights& layer : source.layers)
    weights.layers.push_back(PackLayer(layer, &packer));
  weights.output_norm = Floats(source.output_norm);
  weights.output = packer.Pack(source.output);
  return weights;
}

}  // namespace tidal
