#include "reference_forward.h"

#include <algorithm>
#include <cmath>

namespace tidal {
namespace {

using Vec = std::vector<double>;
using Rows = std::vector<Vec>;

size_t Size(int64_t n) { return static_cast<size_t>(n); }

Vec RowOf(const TensorView& view, int64_t row) {
  std::vector<float> values(Size(view.cols));
  DequantizeRow(view.dtype, view.data + row * BytesOf(view.dtype, view.cols), values.data(),
                view.cols);
  return Vec(values.begin(), values.end());
}

Rows MatrixOf(const TensorView& view) {
  Rows matrix;
  for (int64_t row = 0; row < view.rows; ++row) matrix.push_back(RowOf(view, row));
  return matrix;
}

Vec Times(const Rows& matrix, const Vec& x, const TensorView* bias = nullptr) {
  Vec y(matrix.size(), 0.0);
  for (size_t row = 0; row < matrix.size(); ++row) {
    for (size_t col = 0; col < x.size(); ++col) y[row] += matrix[row][col] * x[col];
  }
  if (bias != nullptr && bias->present()) {
    const Vec b = RowOf(*bias, 0);
    for (size_t row = 0; row < y.size(); ++row) y[row] += b[row];
  }
  return y;
}

Vec Normed(const Vec& x, const Vec& weight, double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  Vec y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

// A head brought to its RMS norm, where the model does that.
void NormHead(const ModelConfig& config, const TensorView& norm, double* head) {
  if (!norm.present()) return;
  const Vec normed = Normed(Vec(head, head + config.head_dim), RowOf(norm, 0),
                            static_cast<double>(config.rms_norm_eps));
  std::copy(normed.begin(), normed.end(), head);
}

void Rotate(const ModelConfig& config, double pos, double* head) {
  const int half = config.rope_dim / 2;
  for (int i = 0; i < half; ++i) {
    double frequency = std::pow(static_cast<double>(config.rope_theta), -2.0 * i / config.rope_dim);
    if (!config.rope_freq_divisors.empty())
      frequency /= static_cast<double>(config.rope_freq_divisors[Size(i)]);
    const double c = std::cos(pos * frequency) * static_cast<double>(config.rope_attn_factor);
    const double s = std::sin(pos * frequency) * static_cast<double>(config.rope_attn_factor);
    const bool interleaved = config.rope_style == RopeStyle::kInterleaved;
    double& a = head[interleaved ? 2 * i : i];
    double& b = head[interleaved ? 2 * i + 1 : i + half];
    const double rotated_a = a * c - b * s;
    b = a * s + b * c;
    a = rotated_a;
  }
}

// One query head over the keys and values of positions 0..pos.
void AttendHead(const ModelConfig& config, const Rows& keys, const Rows& values, size_t pos,
                size_t kv_head, const double* q, double* out) {
  const size_t dim = Size(config.head_dim);
  Vec probs(pos + 1);
  for (size_t t = 0; t <= pos; ++t) {
    for (size_t d = 0; d < dim; ++d) probs[t] += q[d] * keys[t][kv_head * dim + d];
    probs[t] /= std::sqrt(static_cast<double>(dim));
  }
  const double largest = *std::max_element(probs.begin(), probs.end());
  double sum = 0;
  for (double& p : probs) sum += p = std::exp(p - largest);
  for (size_t t = 0; t <= pos; ++t) {
    for (size_t d = 0; d < dim; ++d) out[d] += probs[t] / sum * values[t][kv_head * dim + d];
  }
}

void RunLayer(const ModelConfig& config, const LayerWeights& weights, Rows* x) {
  const Rows wq = MatrixOf(weights.attn_q), wk = MatrixOf(weights.attn_k),
             wv = MatrixOf(weights.attn_v);
  const Rows wo = MatrixOf(weights.attn_output), gate = MatrixOf(weights.ffn_gate),
             up = MatrixOf(weights.ffn_up);
  const Rows down = MatrixOf(weights.ffn_down);
  const Vec attn_norm = RowOf(weights.attn_norm, 0), ffn_norm = RowOf(weights.ffn_norm, 0);
  const double eps = static_cast<double>(config.rms_norm_eps);
  const size_t dim = Size(config.head_dim);
  Rows keys, values;
  for (size_t pos = 0; pos < x->size(); ++pos) {
    Vec& row = (*x)[pos];
    const Vec normed = Normed(row, attn_norm, eps);
    Vec q = Times(wq, normed, &weights.attn_q_bias);
    keys.push_back(Times(wk, normed, &weights.attn_k_bias));
    values.push_back(Times(wv, normed, &weights.attn_v_bias));
    for (size_t h = 0; h < Size(config.num_heads); ++h) {
      NormHead(config, weights.attn_q_norm, &q[h * dim]);
      Rotate(config, static_cast<double>(pos), &q[h * dim]);
    }
    for (size_t h = 0; h < Size(config.num_kv_heads); ++h) {
      NormHead(config, weights.attn_k_norm, &keys[pos][h * dim]);
      Rotate(config, static_cast<double>(pos), &keys[pos][h * dim]);
    }
    Vec attended(q.size(), 0.0);
    for (size_t h = 0; h < Size(config.num_heads); ++h) {
      AttendHead(config, keys, values, pos, h / Size(config.gqa_ratio()), &q[h * dim],
                 &attended[h * dim]);
    }
    const Vec projected = Times(wo, attended);
    for (size_t i = 0; i < row.size(); ++i) row[i] += projected[i];
    const Vec ffn_in = Normed(row, ffn_norm, eps);
    Vec gated = Times(gate, ffn_in);
    const Vec upped = Times(up, ffn_in);
    for (size_t i = 0; i < gated.size(); ++i)
      gated[i] = gated[i] / (1 + std::exp(-gated[i])) * upped[i];
    const Vec ffn_out = Times(down, gated);
    for (size_t i = 0; i < row.size(); ++i) row[i] += ffn_out[i];
  }
}

}  // namespace

std::vector<std::vector<double>> ReferenceLogits(const Model& model,
                                                 std::span<const int32_t> tokens) {
  const ModelConfig& config = model.config();
  Rows x;
  for (const int32_t token : tokens) x.push_back(RowOf(model.weights().token_embd, token));
  for (const LayerWeights& weights : model.weights().layers) RunLayer(config, weights, &x);
  const Vec norm = RowOf(model.weights().output_norm, 0);
  const Rows output = MatrixOf(model.weights().output);
  Rows logits;
  for (const Vec& row : x)
    logits.push_back(Times(output, Normed(row, norm, static_cast<double>(config.rms_norm_eps))));
  return logits;
}

}  // namespace tidal
