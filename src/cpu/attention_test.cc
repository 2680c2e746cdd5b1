#include "cpu/attention.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/attention_test_util.h"
#include "cpu/isa_test_util.h"

namespace tidal {
namespace {

using Problem = AttentionProblem;

// Every ISA that the program has kernels for; those that this machine lacks are skipped, loudly.
class AttentionTest : public IsaTest {};
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
