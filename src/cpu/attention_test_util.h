// A layer's cache and queries for tests of attention, and float64 attention over them.
#ifndef TIDAL_CPU_ATTENTION_TEST_UTIL_H_
#define TIDAL_CPU_ATTENTION_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/float16.h"
#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/isa.h"

namespace tidal {

struct Shape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};

struct SeqSpec {
  int32_t q_len;
  int32_t kv_len;
};

// A layer's cache and queries of a batch of sequences. Pages are handed out in random order, and
// all memory that no sequence may see is NaN in every format.
class AttentionProblem {
 public:
  AttentionProblem(const Shape& shape, CacheType k_type, CacheType v_type,
                   std::vector<SeqSpec> specs, uint32_t seed, float magnitude = 1)
      : shape_(shape),
        specs_(std::move(specs)),
        layout_(KvLayout::Create(shape.num_kv_heads, shape.head_dim, k_type, v_type).value()) {
    std::mt19937 random(seed);
    int32_t num_pages = 3;
    for (const SeqSpec& spec : specs_) {
      num_pages += static_cast<int32_t>(CeilDiv(spec.kv_len, kPageSize));
      num_rows_ += spec.q_len;
    }
    memory_ = AlignedBuffer::Create(num_pages * layout_.page_bytes()).value();
    std::memset(memory_.data(), 0xff, static_cast<size_t>(memory_.bytes()));
    std::vector<int32_t> free_pages(static_cast<size_t>(num_pages));
    std::iota(free_pages.begin(), free_pages.end(), 0);
    std::shuffle(free_pages.begin(), free_pages.end(), random);
    int32_t row = 0;
    for (const SeqSpec& spec : specs_) {
      auto& table = page_tables_.emplace_back();
      for (int64_t i = 0; i < CeilDiv(spec.kv_len, kPageSize); ++i) {
        table.push_back(free_pages.back());
        free_pages.pop_back();
      }
      Fill(spec, table, magnitude, &random);
      sequences_.push_back({.row_begin = row,
                            .q_len = spec.q_len,
                            .kv_len = spec.kv_len,
                            .page_table = table.data()});
      row += spec.q_len;
    }
    q_ = Normal(static_cast<size_t>(num_rows_) * RowFloats(), magnitude, &random);
  }

  const Shape& shape() const { return shape_; }
  const KvLayout& layout() const { return layout_; }
  const std::vector<AttendSeq>& sequences() const { return sequences_; }
  int32_t num_rows() const { return num_rows_; }
  const std::vector<float>& q() const { return q_; }
  const std::byte* memory() const { return memory_.data(); }
  size_t RowFloats() const { return static_cast<size_t>(shape_.num_heads) * shape_.head_dim; }
  float attn_scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  std::unique_ptr<CpuAttention> Create(Isa isa, ThreadPool* pool) const {
    return CpuAttention::Create({.kernels = &KernelsFor(isa),
                                 .pool = pool,
                                 .layout = layout_,
                                 .num_heads = shape_.num_heads,
                                 .attn_scale = attn_scale(),
                                 .max_rows = num_rows_})
        .value();
  }

  // All rows; those of sequences that are not planned stay NaN.
  std::vector<float> Run(CpuAttention* attention, std::span<const AttendSeq> sequences) const {
    std::vector<float> out(q_.size(), std::numeric_limits<float>::quiet_NaN());
    EXPECT_TRUE(attention->Plan(sequences).ok());
    attention->Run(memory_.data(), q_.data(), out.data());
    return out;
  }
  std::vector<float> Run(Isa isa, int num_threads) const {
    ThreadPool pool(num_threads);
    return Run(Create(isa, &pool).get(), sequences_);
  }

  // Element d of the stored K or V row of a token, as the format defines it.
  double Stored(const KvHalf& half, int32_t page_id, int32_t kv_head, int32_t offset,
                int32_t d) const {
    const std::byte* part = memory_.data() + layout_.PartOffset(page_id, kv_head);
    const std::byte* row = part + half.rows_offset + offset * half.row_bytes;
    const auto u16 = [](const std::byte* p, int64_t i) {
      uint16_t value;
      std::memcpy(&value, p + 2 * i, 2);
      return value;
    };
    switch (half.type) {
      case CacheType::kF32: {
        float value;
        std::memcpy(&value, row + 4 * d, 4);
        return value;
      }
      case CacheType::kF16:
        return F16ToF32(u16(row, d));
      case CacheType::kBF16:
        return Bf16ToF32(u16(row, d));
      case CacheType::kQ8_0:
        return double{F16ToF32(
                   u16(part + half.scales_offset, offset * half.scales_per_row + d / 32))} *
               static_cast<int8_t>(row[d]);
      case CacheType::kF8e4m3:  // none on the CPU
        break;
    }
    return 0;
  }

  // Compares every planned row with float64 attention over the stored cache. The worst error over
  // its tolerance, which must not pass 1.
  //
  // Tolerance: u = 2^-24. Rounding errors of a sum grow like the square root of its length, so a
  // score, a sum of head_dim products bounded by S = attn_scale * |q| |K|, is off by about
  // sqrt(head_dim) * u * S, and a prob relatively by that plus 4 u for exp. The mean then moves by
  // at most twice the relative error of the probs times max |V|, and summing in float32 adds
  // sqrt(visible tokens) * u * max |V|.
  double WorstError(const std::vector<float>& out, std::span<const AttendSeq> sequences) const {
    double worst = 0;
    for (const AttendSeq& sequence : sequences) {
      for (int32_t kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head)
        worst = std::max(worst, WorstErrorOfHead(out, sequence, kv_head));
    }
    return worst;
  }

 private:
  static std::vector<float> Normal(size_t count, float magnitude, std::mt19937* random) {
    std::normal_distribution<float> normal(0, magnitude);
    std::vector<float> values(count);
    for (float& value : values) value = normal(*random);
    return values;
  }

  void Fill(const SeqSpec& spec, const std::vector<int32_t>& table, float magnitude,
            std::mt19937* random) {
    const size_t floats = static_cast<size_t>(shape_.num_kv_heads) * shape_.head_dim;
    const ElementwiseKernels& kernels = kPortableKernels.elementwise;
    for (int32_t pos = 0; pos < spec.kv_len; ++pos) {
      const std::vector<float> k = Normal(floats, magnitude, random);
      const std::vector<float> v = Normal(floats, 1, random);
      StoreKv(kernels, layout_, table[static_cast<size_t>(pos / kPageSize)], pos % kPageSize,
              k.data(), v.data(), memory_.data());
    }
  }

  double WorstErrorOfHead(const std::vector<float>& out, const AttendSeq& sequence,
                          int32_t kv_head) const {
    const auto head_dim = static_cast<size_t>(shape_.head_dim);
    const auto kv_len = static_cast<size_t>(sequence.kv_len);
    std::vector<double> k(kv_len * head_dim);
    std::vector<double> v(kv_len * head_dim);
    double max_v = 0;
    double max_k_norm = 0;
    for (size_t pos = 0; pos < kv_len; ++pos) {
      const int32_t page_id = sequence.page_table[pos / kPageSize];
      const auto offset = static_cast<int32_t>(pos % kPageSize);
      double k_norm = 0;
      for (size_t d = 0; d < head_dim; ++d) {
        double& key = k[pos * head_dim + d];
        double& value = v[pos * head_dim + d];
        key = Stored(layout_.k(), page_id, kv_head, offset, static_cast<int32_t>(d));
        value = Stored(layout_.v(), page_id, kv_head, offset, static_cast<int32_t>(d));
        k_norm += key * key;
        max_v = std::max(max_v, std::abs(value));
      }
      max_k_norm = std::max(max_k_norm, std::sqrt(k_norm));
    }
    const int32_t gqa_ratio = shape_.num_heads / shape_.num_kv_heads;
    double worst = 0;
    for (int32_t i = 0; i < sequence.q_len; ++i) {
      const auto visible = static_cast<size_t>(sequence.kv_len - sequence.q_len + i + 1);
      for (int32_t h = 0; h < gqa_ratio; ++h) {
        const size_t row = (static_cast<size_t>(sequence.row_begin + i) * shape_.num_heads +
                            kv_head * gqa_ratio + h) *
                           head_dim;
        const std::vector<double> expected = Attend(&q_[row], k, v, visible);
        double q_norm = 0;
        for (size_t d = 0; d < head_dim; ++d) q_norm += double{q_[row + d]} * q_[row + d];
        const double score_error = std::sqrt(static_cast<double>(head_dim)) * 0x1p-24 *
                                   attn_scale() * std::sqrt(q_norm) * max_k_norm;
        const double tolerance =
            (2 * (score_error + 4 * 0x1p-24) + std::sqrt(static_cast<double>(visible)) * 0x1p-24) *
            max_v;
        for (size_t d = 0; d < head_dim; ++d) {
          const double error = std::abs(out[row + d] - expected[d]);
          // Not `error > ...`: a NaN must count.
          if (!(error <= worst * tolerance)) worst = error / tolerance;
          if (std::isnan(worst)) return worst;
        }
      }
    }
    return worst;
  }

  std::vector<double> Attend(const float* q, const std::vector<double>& k,
                             const std::vector<double>& v, size_t visible) const {
    const auto head_dim = static_cast<size_t>(shape_.head_dim);
    std::vector<double> probs(visible);
    double most = -std::numeric_limits<double>::infinity();
    for (size_t t = 0; t < visible; ++t) {
      double dot = 0;
      for (size_t d = 0; d < head_dim; ++d) dot += q[d] * k[t * head_dim + d];
      probs[t] = dot * attn_scale();
      most = std::max(most, probs[t]);
    }
    double sum = 0;
    for (double& prob : probs) sum += prob = std::exp(prob - most);
    std::vector<double> mean(head_dim);
    for (size_t t = 0; t < visible; ++t) {
      for (size_t d = 0; d < head_dim; ++d) mean[d] += probs[t] / sum * v[t * head_dim + d];
    }
    return mean;
  }

  Shape shape_;
  std::vector<SeqSpec> specs_;
  KvLayout layout_;
  AlignedBuffer memory_;
  std::vector<std::vector<int32_t>> page_tables_;
  std::vector<AttendSeq> sequences_;
  std::vector<float> q_;
  int32_t num_rows_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CPU_ATTENTION_TEST_UTIL_H_
