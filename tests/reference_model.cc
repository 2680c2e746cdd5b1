#include "reference_model.h"

#include <algorithm>
#include <cmath>

namespace tidal {
namespace {

std::vector<float> RowOf(const TensorView& view, int64_t row) {
  std::vector<float> values(static_cast<size_t>(view.cols));
  DequantizeRow(view.dtype, view.data + row * BytesOf(view.dtype, view.cols), values.data(),
                view.cols);
  return values;
}

ReferenceLinear LinearOf(const TensorView& weight, const TensorView& bias = {}) {
  ReferenceLinear linear{.rows = weight.rows, .cols = weight.cols, .columns = {}, .bias = {}};
  linear.columns.resize(static_cast<size_t>(weight.rows * weight.cols));
  for (int64_t row = 0; row < weight.rows; ++row) {
    const std::vector<float> values = RowOf(weight, row);
    for (int64_t col = 0; col < weight.cols; ++col)
      linear.columns[static_cast<size_t>(col * weight.rows + row)] =
          values[static_cast<size_t>(col)];
  }
  if (bias.present()) linear.bias = RowOf(bias, 0);
  return linear;
}

std::vector<double> Normed(const std::vector<double>& x, const std::vector<float>& weight,
                           double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * static_cast<double>(weight[i]);
  return y;
}

// Each head brought to its RMS norm, where the model does that.
void NormHeads(const std::vector<float>& norm, double eps, std::vector<double>* heads) {
  if (norm.empty()) return;
  const auto head_dim = static_cast<std::ptrdiff_t>(norm.size());
  for (auto head = heads->begin(); head != heads->end(); head += head_dim) {
    const std::vector<double> normed = Normed({head, head + head_dim}, norm, eps);
    std::copy(normed.begin(), normed.end(), head);
  }
}

void Add(const std::vector<double>& y, std::vector<double>* x) {
  for (size_t i = 0; i < y.size(); ++i) (*x)[i] += y[i];
}

}  // namespace

std::vector<double> ReferenceLinear::Times(const std::vector<double>& x) const {
  std::vector<double> y(static_cast<size_t>(rows), 0.0);
  for (size_t row = 0; row < bias.size(); ++row) y[row] = static_cast<double>(bias[row]);
  const float* column = columns.data();
  for (const double value : x) {
    for (int64_t row = 0; row < rows; ++row)
      y[static_cast<size_t>(row)] += value * static_cast<double>(column[row]);
    column += rows;
  }
  return y;
}

ReferenceModel::ReferenceModel(const Model& model) : config_(model.config()) {
  const ModelWeights& weights = model.weights();
  const int half = config_.rope_dim / 2;
  for (int i = 0; i < half; ++i) {
    double frequency =
        std::pow(static_cast<double>(config_.rope_theta), -2.0 * i / config_.rope_dim);
    if (!config_.rope_freq_divisors.empty())
      frequency /= static_cast<double>(config_.rope_freq_divisors[static_cast<size_t>(i)]);
    frequencies_.push_back(frequency);
  }
  for (int64_t row = 0; row < weights.token_embd.rows; ++row)
    embeddings_.push_back(RowOf(weights.token_embd, row));
  for (const LayerWeights& w : weights.layers) {
    layers_.push_back(
        {.attn_norm = RowOf(w.attn_norm, 0),
         .ffn_norm = RowOf(w.ffn_norm, 0),
         .q_norm = w.attn_q_norm.present() ? RowOf(w.attn_q_norm, 0) : std::vector<float>(),
         .k_norm = w.attn_k_norm.present() ? RowOf(w.attn_k_norm, 0) : std::vector<float>(),
         .q = LinearOf(w.attn_q, w.attn_q_bias),
         .k = LinearOf(w.attn_k, w.attn_k_bias),
         .v = LinearOf(w.attn_v, w.attn_v_bias),
         .output = LinearOf(w.attn_output),
         .gate = LinearOf(w.ffn_gate),
         .up = LinearOf(w.ffn_up),
         .down = LinearOf(w.ffn_down)});
  }
  output_norm_ = RowOf(weights.output_norm, 0);
  output_ = LinearOf(weights.output);
}

std::vector<double> ReferenceModel::Embedding(int32_t token) const {
  const std::vector<float>& row = embeddings_[static_cast<size_t>(token)];
  return {row.begin(), row.end()};
}

void ReferenceModel::Rotate(int32_t pos, std::vector<double>* heads) const {
  const bool interleaved = config_.rope_style == RopeStyle::kInterleaved;
  const size_t half = frequencies_.size();
  const auto head_dim = static_cast<size_t>(config_.head_dim);
  for (size_t i = 0; i < half; ++i) {
    const auto factor = static_cast<double>(config_.rope_attn_factor);
    const double c = factor * std::cos(pos * frequencies_[i]);
    const double s = factor * std::sin(pos * frequencies_[i]);
    for (size_t head = 0; head < heads->size(); head += head_dim) {
      double& a = (*heads)[head + (interleaved ? 2 * i : i)];
      double& b = (*heads)[head + (interleaved ? 2 * i + 1 : i + half)];
      const double rotated_a = a * c - b * s;
      b = a * s + b * c;
      a = rotated_a;
    }
  }
}

ReferenceModel::Projected ReferenceModel::Project(int32_t layer, const std::vector<double>& x,
                                                  int32_t pos) const {
  const ReferenceLayerWeights& w = layers_[static_cast<size_t>(layer)];
  const std::vector<double> normed =
      Normed(x, w.attn_norm, static_cast<double>(config_.rms_norm_eps));
  Projected projected{w.q.Times(normed), w.k.Times(normed), w.v.Times(normed)};
  NormHeads(w.q_norm, static_cast<double>(config_.rms_norm_eps), &projected.q);
  NormHeads(w.k_norm, static_cast<double>(config_.rms_norm_eps), &projected.k);
  Rotate(pos, &projected.q);
  Rotate(pos, &projected.k);
  return projected;
}

void ReferenceModel::AddAttention(int32_t layer, const std::vector<double>& attended,
                                  std::vector<double>* x) const {
  Add(layers_[static_cast<size_t>(layer)].output.Times(attended), x);
}

void ReferenceModel::AddFeedForward(int32_t layer, std::vector<double>* x) const {
  const ReferenceLayerWeights& w = layers_[static_cast<size_t>(layer)];
  const std::vector<double> normed =
      Normed(*x, w.ffn_norm, static_cast<double>(config_.rms_norm_eps));
  std::vector<double> gated = w.gate.Times(normed);
  const std::vector<double> up = w.up.Times(normed);
  for (size_t i = 0; i < gated.size(); ++i) gated[i] = gated[i] / (1 + std::exp(-gated[i])) * up[i];
  Add(w.down.Times(gated), x);
}

std::vector<double> ReferenceModel::Logits(const std::vector<double>& x) const {
  return output_.Times(Normed(x, output_norm_, static_cast<double>(config_.rms_norm_eps)));
}

}  // namespace tidal
