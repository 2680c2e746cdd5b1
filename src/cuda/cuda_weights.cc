#include "cuda/cuda_weights.h"

#include <algorithm>
#include <cmath>
#include <cuda_runtime_api.h>

#include "base/check.h"
#include "base/math.h"
#include "cuda/cuda_status.h"

namespace tidal {
namespace {

constexpr int64_t kAlignment = 256;

class Uploader {
 public:
  Uploader(CudaWeights* weights, CudaProducts* products,
           const std::function<void(double)>* progress)
      : weights_(weights), products_(products), progress_(progress) {}

  Status Allocate(const Model& model) {
    int64_t vectors = 0;
    model.ForEachWeight([&](const TensorView& view) {
      if (IsVector(view)) {
        vectors += RoundUp(view.cols * static_cast<int64_t>(sizeof(float)), kAlignment);
      } else {
        total_ += RoundUp(DeviceMatrixBytes(view.dtype, view.rows, view.cols), kAlignment);
      }
    });
    TIDAL_ASSIGN_OR_RETURN(weights_->matrices, DeviceBuffer::Create(total_, "the weights"));
    TIDAL_ASSIGN_OR_RETURN(weights_->vectors, DeviceBuffer::Create(vectors, "norms and biases"));
    return OkStatus();
  }

  Status Matrix(const TensorView& view, DeviceMatrix* matrix) {
    const int64_t bytes = RoundUp(DeviceMatrixBytes(view.dtype, view.rows, view.cols), kAlignment);
    TIDAL_CHECK(done_ + bytes <= total_, "uploaded {} of {} bytes", done_ + bytes, total_);
    auto* place = reinterpret_cast<uint8_t*>(weights_->matrices.data() + done_);
    TIDAL_RETURN_IF_ERROR(
        products_->Upload(view.dtype, view.rows, view.cols, view.data, place).Annotate(view.name));
    *matrix = {.dtype = view.dtype, .rows = view.rows, .cols = view.cols, .data = place};
    done_ += bytes;
    if (*progress_) (*progress_)(static_cast<double>(done_) / static_cast<double>(total_));
    return OkStatus();
  }

  Status Vector(const TensorView& view, const float** vector) {
    if (!view.present()) return OkStatus();
    std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
    DequantizeRow(view.dtype, view.data, values.data(), view.rows * view.cols);
    auto* place = reinterpret_cast<float*>(weights_->vectors.data() + vector_bytes_);
    const size_t bytes = values.size() * sizeof(float);
    TIDAL_RETURN_IF_ERROR(
        CudaStatus(cudaMemcpy(place, values.data(), bytes, cudaMemcpyHostToDevice), view.name));
    vector_bytes_ += RoundUp(static_cast<int64_t>(bytes), kAlignment);
    *vector = place;
    return OkStatus();
  }

 private:
  static bool IsVector(const TensorView& view) { return view.rows == 1; }

  CudaWeights* weights_;
  CudaProducts* products_;
  const std::function<void(double)>* progress_;
  int64_t total_ = 0;
  int64_t done_ = 0;
  int64_t vector_bytes_ = 0;
};

Status UploadLayer(const LayerWeights& layer, Uploader* uploader, CudaLayerWeights* weights) {
  const std::pair<const TensorView*, const float**> vectors[] = {
      {&layer.attn_norm, &weights->attn_norm},     {&layer.ffn_norm, &weights->ffn_norm},
      {&layer.attn_q_bias, &weights->attn_q_bias}, {&layer.attn_k_bias, &weights->attn_k_bias},
      {&layer.attn_v_bias, &weights->attn_v_bias}, {&layer.attn_q_norm, &weights->attn_q_norm},
      {&layer.attn_k_norm, &weights->attn_k_norm}};
  for (const auto& [view, vector] : vectors) TIDAL_RETURN_IF_ERROR(uploader->Vector(*view, vector));
  const std::pair<const TensorView*, DeviceMatrix*> matrices[] = {
      {&layer.attn_q, &weights->attn_q},     {&layer.attn_k, &weights->attn_k},
      {&layer.attn_v, &weights->attn_v},     {&layer.attn_output, &weights->attn_output},
      {&layer.ffn_gate, &weights->ffn_gate}, {&layer.ffn_up, &weights->ffn_up},
      {&layer.ffn_down, &weights->ffn_down}};
  for (const auto& [view, matrix] : matrices)
    TIDAL_RETURN_IF_ERROR(uploader->Matrix(*view, matrix));
  return OkStatus();
}

}  // namespace

Result<CudaWeights> UploadWeights(const Model& model, CudaProducts* products,
                                  const std::function<void(double)>& progress) {
  CudaWeights weights;
  Uploader uploader(&weights, products, &progress);
  const ModelWeights& source = model.weights();
  TIDAL_RETURN_IF_ERROR(uploader.Allocate(model));
  TIDAL_RETURN_IF_ERROR(uploader.Matrix(source.token_embd, &weights.token_embd));
  TIDAL_RETURN_IF_ERROR(uploader.Vector(source.output_norm, &weights.output_norm));
  weights.output = weights.token_embd;
  if (!source.tied_output) TIDAL_RETURN_IF_ERROR(uploader.Matrix(source.output, &weights.output));
  weights.layers.resize(source.layers.size());
  for (size_t i = 0; i < source.layers.size(); ++i)
    TIDAL_RETURN_IF_ERROR(UploadLayer(source.layers[i], &uploader, &weights.layers[i]));
  TIDAL_RETURN_IF_ERROR(products->FinishUploads());
  weights.step_bytes = weights.matrices.bytes();
  if (!source.tied_output) {
    weights.step_bytes -=
        DeviceMatrixBytes(source.token_embd.dtype, source.token_embd.rows, source.token_embd.cols);
  }
  return weights;
}

Result<DeviceBuffer> UploadRopeFrequencies(const ModelConfig& config) {
  std::vector<double> frequencies(static_cast<size_t>(config.rope_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / config.rope_dim;
    const double divisor =
        config.rope_freq_divisors.empty() ? 1.0 : static_cast<double>(config.rope_freq_divisors[i]);
    frequencies[i] = std::pow(static_cast<double>(config.rope_theta), exponent) / divisor;
  }
  const auto bytes = static_cast<int64_t>(frequencies.size() * sizeof(double));
  TIDAL_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Create(bytes, "frequencies of RoPE"));
  TIDAL_RETURN_IF_ERROR(CudaStatus(cudaMemcpy(buffer.data(), frequencies.data(),
                                              static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
                                   "frequencies of RoPE"));
  return buffer;
}

MatrixSizes SizesOf(const ModelWeights& weights) {
  MatrixSizes sizes;
  const auto add = [&](const TensorView& view) {
    sizes.max_elems = std::max(sizes.max_elems, view.rows * view.cols);
    sizes.max_cols = std::max(sizes.max_cols, view.cols);
  };
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* view : {&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.attn_output,
                                   &layer.ffn_gate, &layer.ffn_up, &layer.ffn_down})
      add(*view);
  }
  sizes.max_cols = std::max(sizes.max_cols, weights.output.cols);
  return sizes;
}

}  // namespace tidal
