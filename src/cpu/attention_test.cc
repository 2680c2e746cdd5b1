#include "cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "cpu/elementwise.h"
#include "cpu/isa.h"

namespace tidal {
namespace {

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
class Problem {
 public:
  Problem(const Shape& shape, CacheType k_type, CacheType v_type, std::vector<SeqSpec> specs,
          uint32_t seed, float magnitude = 1)
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

// Every ISA that the program has kernels for; those that this machine lacks are skipped, loudly.
class AttentionTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = MachineIsas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam())
                   << ": its kernels were NOT tested";
  }
};
INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

constexpr CacheType kCacheTypes[] = {CacheType::kF32, CacheType::kF16, CacheType::kBF16,
                                     CacheType::kQ8_0};

// Every value of every dimension occurs with every ISA and every pair of cache types; the product
// of all would take minutes.
TEST_P(AttentionTest, MatchesFloat64ForEveryShapeAndType) {
  constexpr int32_t kHeadDims[] = {64, 80, 96, 128, 40};
  constexpr int32_t kGqaRatios[] = {1, 2, 3, 6, 7, 8};
  constexpr int32_t kKvLens[] = {1, 63, 64, 65, 255, 256, 257, 1000};
  constexpr int32_t kQLens[] = {1, 2, 5, 64, 100};
  uint32_t seed = 1;
  double worst = 0;
  for (const CacheType k_type : kCacheTypes) {
    for (const CacheType v_type : kCacheTypes) {
      for (const int32_t q_len : kQLens) {
        // Long ones are slow in float64: one ratio each.
        for (int i = 0; i < (q_len < 64 ? 4 : 1); ++i, ++seed) {
          const int32_t gqa_ratio = kGqaRatios[seed % std::size(kGqaRatios)];
          const int32_t head_dim = kHeadDims[seed % std::size(kHeadDims)];
          const int32_t kv_len = std::max(q_len, kKvLens[seed / 2 % std::size(kKvLens)]);
          const Problem problem({2 * gqa_ratio, 2, head_dim}, k_type, v_type, {{q_len, kv_len}},
                                seed);
          const double error = problem.WorstError(problem.Run(GetParam(), 1), problem.sequences());
          ASSERT_LE(error, 1) << "head_dim " << head_dim << " gqa_ratio " << gqa_ratio << " q_len "
                              << q_len << " kv_len " << kv_len << " cache " << NameOf(k_type) << "/"
                              << NameOf(v_type);
          worst = std::max(worst, error);
        }
      }
    }
  }
  std::printf("worst error / tolerance: %.3f\n", worst);
  EXPECT_GT(worst, 0.01) << "the tolerance is too loose to catch anything";
}

// f16 is what models run with: all head sizes and ratios, the odd ones too, against every length.
TEST_P(AttentionTest, MatchesFloat64ForEveryGroupAndLength) {
  uint32_t seed = 1000;
  for (const int32_t gqa_ratio : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 40}) {
    for (const int32_t head_dim : {8, 24, 64, 72, 128, 256, 512}) {
      if (gqa_ratio > 8 && head_dim > 128) continue;
      const int32_t kv_len = static_cast<int32_t>(1 + seed * 37 % 300);
      for (const int32_t q_len : {1, std::min(4, kv_len), std::min(23, kv_len)}) {
        const Problem problem({gqa_ratio, 1, head_dim}, CacheType::kF16, CacheType::kF16,
                              {{q_len, kv_len}}, ++seed);
        ASSERT_LE(problem.WorstError(problem.Run(GetParam(), 1), problem.sequences()), 1)
            << "head_dim " << head_dim << " gqa_ratio " << gqa_ratio << " q_len " << q_len
            << " kv_len " << kv_len;
      }
    }
  }
}

TEST_P(AttentionTest, RaggedBatchesMatchFloat64AndEachSequenceAlone) {
  const Problem problem({6, 2, 64}, CacheType::kF16, CacheType::kQ8_0,
                        {{1, 700}, {100, 100}, {1, 1}, {4, 300}, {37, 1200}, {1, 257}, {70, 2100}},
                        7);
  ThreadPool pool(3);
  const auto attention = problem.Create(GetParam(), &pool);
  const std::vector<float> together = problem.Run(attention.get(), problem.sequences());
  EXPECT_LE(problem.WorstError(together, problem.sequences()), 1);
  for (const AttendSeq& sequence : problem.sequences()) {
    const std::vector<float> alone = problem.Run(attention.get(), {&sequence, 1});
    const size_t begin = static_cast<size_t>(sequence.row_begin) * problem.RowFloats();
    const size_t count = static_cast<size_t>(sequence.q_len) * problem.RowFloats();
    EXPECT_EQ(0, std::memcmp(&alone[begin], &together[begin], count * sizeof(float)))
        << "rows from " << sequence.row_begin;
    // Nothing but its rows was written.
    const auto nan = [](float x) { return std::isnan(x); };
    EXPECT_TRUE(std::all_of(alone.begin(), alone.begin() + static_cast<ptrdiff_t>(begin), nan));
    EXPECT_TRUE(
        std::all_of(alone.begin() + static_cast<ptrdiff_t>(begin + count), alone.end(), nan));
  }
}

TEST_P(AttentionTest, AnyNumberOfThreadsGivesTheSameBits) {
  const Problem problem({14, 2, 64}, CacheType::kF16, CacheType::kF16,
                        {{1, 5000}, {1, 64}, {150, 400}, {3, 900}}, 11);
  const std::vector<float> one = problem.Run(GetParam(), 1);
  for (const int num_threads : {2, 3, 4}) {
    ThreadPool pool(num_threads);
    const auto attention = problem.Create(GetParam(), &pool);
    for (int repetition = 0; repetition < 3; ++repetition) {
      const std::vector<float> many = problem.Run(attention.get(), problem.sequences());
      EXPECT_EQ(0, std::memcmp(one.data(), many.data(), one.size() * sizeof(float)))
          << num_threads << " threads";
    }
  }
}

// The last rows of a sequence are attended once as one prefill and once in pieces of other sizes,
// down to decode rows. Only rounding may differ: both are within the tolerance of float64.
TEST_P(AttentionTest, ChunksOfAnySizeAgreeWithTheWhole) {
  const Problem problem({6, 2, 80}, CacheType::kF16, CacheType::kF16, {{120, 420}}, 13);
  ThreadPool pool(2);
  const auto attention = problem.Create(GetParam(), &pool);
  const AttendSeq whole = problem.sequences()[0];
  for (const int32_t chunk : {1, 2, 4, 5, 17, 64, 100}) {
    std::vector<float> out(static_cast<size_t>(problem.num_rows()) * problem.RowFloats());
    for (int32_t done = 0; done < whole.q_len; done += chunk) {
      AttendSeq piece = whole;
      piece.row_begin = done;
      piece.q_len = std::min(chunk, whole.q_len - done);
      piece.kv_len = whole.kv_len - whole.q_len + done + piece.q_len;
      const std::vector<float> rows = problem.Run(attention.get(), {&piece, 1});
      const size_t begin = static_cast<size_t>(done) * problem.RowFloats();
      std::copy_n(&rows[begin], static_cast<size_t>(piece.q_len) * problem.RowFloats(),
                  &out[begin]);
    }
    EXPECT_LE(problem.WorstError(out, problem.sequences()), 1) << "chunks of " << chunk;
  }
}

TEST_P(AttentionTest, LongContextsAreCutIntoMoreThanOneChunkSize) {
  // 20,000 tokens pass 64 chunks of 256.
  const Problem problem({2, 1, 16}, CacheType::kQ8_0, CacheType::kF16, {{1, 20000}, {9, 20000}},
                        17);
  EXPECT_LE(problem.WorstError(problem.Run(GetParam(), 2), problem.sequences()), 1);
}

TEST_P(AttentionTest, HugeScoresStayFinite) {
  // Scores have a deviation of 35^2 and reach some thousands: nearly all probs underflow to 0, and
  // maxima move by hundreds between blocks.
  const Problem problem({3, 1, 64}, CacheType::kF32, CacheType::kF16, {{1, 600}, {70, 300}}, 19,
                        35);
  const std::vector<float> out = problem.Run(GetParam(), 2);
  for (const float x : out) ASSERT_TRUE(std::isfinite(x));
  EXPECT_LE(problem.WorstError(out, problem.sequences()), 1);
}

// Plan after plan with ever more parts, then small again: buffers grow and stay usable.
TEST_P(AttentionTest, PlansMayGrowAndShrink) {
  const Problem problem({4, 2, 32}, CacheType::kBF16, CacheType::kBF16,
                        {{1, 3000}, {1, 2500}, {2, 2800}, {4, 3100}}, 23);
  ThreadPool pool(2);
  const auto attention = problem.Create(GetParam(), &pool);
  for (const size_t count : {size_t{1}, size_t{2}, size_t{4}, size_t{1}}) {
    const std::span<const AttendSeq> some = std::span(problem.sequences()).first(count);
    EXPECT_LE(problem.WorstError(problem.Run(attention.get(), some), some), 1);
  }
  const std::vector<float> none = problem.Run(attention.get(), {});
  EXPECT_TRUE(std::all_of(none.begin(), none.end(), [](float x) { return std::isnan(x); }));
}

TEST(CpuAttentionCreateTest, NamesWhatItCannotDo) {
  ThreadPool pool(1);
  const auto create = [&](int32_t num_heads, int32_t num_kv_heads, int32_t head_dim,
                          int32_t max_rows) {
    return CpuAttention::Create(
               {.kernels = &kPortableKernels,
                .pool = &pool,
                .layout = KvLayout::Create(num_kv_heads, head_dim, CacheType::kF16, CacheType::kF16)
                              .value(),
                .num_heads = num_heads,
                .attn_scale = 1,
                .max_rows = max_rows})
        .status();
  };
  EXPECT_TRUE(create(4, 2, 64, 1).ok());
  EXPECT_EQ(create(4, 2, 60, 1).message(),
            "attention: head_dim is 60, expected a multiple of 8 from 8 to 512");
  EXPECT_EQ(create(4, 2, 520, 1).code(), StatusCode::kUnsupported);
  EXPECT_EQ(create(4, 3, 64, 1).message(),
            "attention: num_heads is 4, expected a positive multiple of the 3 KV heads");
  EXPECT_EQ(create(4, 2, 64, 0).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tidal
