// Attention over sets of slots against float64 attention over exactly these tokens.
#include <set>
#include <string>

#include "cpu/attention_test_util.h"
#include "cpu/isa_test_util.h"

namespace tidal {
namespace {

class SetAttentionTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, SetAttentionTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

// Sets of positions of a decoding sequence, and their slots.
struct Sets {
  std::vector<std::vector<int32_t>> positions;
  std::vector<std::vector<int32_t>> slots;
  std::vector<SlotSet> spans;

  Sets(const AttendSeq& sequence, std::vector<std::vector<int32_t>> chosen)
      : positions(std::move(chosen)) {
    for (const auto& set : positions) {
      auto& slot = slots.emplace_back();
      for (const int32_t pos : set)
        slot.push_back(sequence.page_table[pos / kPageSize] * kPageSize + pos % kPageSize);
    }
    for (const auto& slot : slots)
      spans.push_back({slot.data(), static_cast<int32_t>(slot.size())});
  }
};

std::vector<int32_t> RandomSet(int32_t kv_len, int32_t count, std::mt19937* random) {
  std::vector<int32_t> all(static_cast<size_t>(kv_len));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), *random);
  all.resize(static_cast<size_t>(count));
  return all;
}

std::vector<int32_t> AllOf(int32_t kv_len) {
  std::vector<int32_t> all(static_cast<size_t>(kv_len));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Float64 softmax attention of one head over the tokens of a set.
std::vector<double> Expected(const AttentionProblem& problem, const AttendSeq& sequence,
                             int32_t head, const std::vector<int32_t>& set) {
  const Shape& shape = problem.shape();
  const int32_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const float* q =
      problem.q().data() + static_cast<size_t>(sequence.row_begin * shape.num_heads + head) *
                               static_cast<size_t>(shape.head_dim);
  const auto stored = [&](const KvHalf& half, int32_t pos, int32_t d) {
    return problem.Stored(half, sequence.page_table[pos / kPageSize], kv_head, pos % kPageSize, d);
  };
  std::vector<double> probs;
  double most = -std::numeric_limits<double>::infinity();
  for (const int32_t pos : set) {
    double dot = 0;
    for (int32_t d = 0; d < shape.head_dim; ++d)
      dot += double{q[d]} * stored(problem.layout().k(), pos, d);
    probs.push_back(dot * problem.attn_scale());
    most = std::max(most, probs.back());
  }
  double sum = 0;
  for (double& prob : probs) sum += prob = std::exp(prob - most);
  std::vector<double> mean(static_cast<size_t>(shape.head_dim));
  for (size_t i = 0; i < set.size(); ++i) {
    for (int32_t d = 0; d < shape.head_dim; ++d)
      mean[static_cast<size_t>(d)] += probs[i] / sum * stored(problem.layout().v(), set[i], d);
  }
  return mean;
}

// The largest difference to float64. Queries and keys are standard normal and so are values: a
// score is off by some sqrt(head_dim) 2^-24 times its size of up to sqrt(head_dim), values are
// below 6, and sums of `count` terms add sqrt(count) 2^-24: 3e-5 is ten times that.
constexpr double kTolerance = 3e-5;

double WorstDifference(const AttentionProblem& problem, const AttendSeq& sequence,
                       const std::vector<float>& out, const Sets& sets, const int32_t* headmap) {
  const Shape& shape = problem.shape();
  const int32_t gqa_ratio = shape.num_heads / shape.num_kv_heads;
  double worst = 0;
  for (int32_t head = 0; head < shape.num_heads; ++head) {
    size_t set = 0;
    const size_t num_sets = sets.positions.size();
    if (num_sets == static_cast<size_t>(shape.num_heads)) set = static_cast<size_t>(head);
    if (num_sets == static_cast<size_t>(shape.num_kv_heads) && num_sets > 1)
      set = static_cast<size_t>(headmap != nullptr ? headmap[head / gqa_ratio] : head / gqa_ratio);
    const std::vector<double> expected = Expected(problem, sequence, head, sets.positions[set]);
    for (int32_t d = 0; d < shape.head_dim; ++d) {
      const float got = out[static_cast<size_t>(
          (sequence.row_begin * shape.num_heads + head) * shape.head_dim + d)];
      const double error = std::abs(got - expected[static_cast<size_t>(d)]);
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

TEST_P(SetAttentionTest, MatchesFloat64ForEveryScopeShapeAndType) {
  std::mt19937 random(7);
  uint32_t seed = 1;
  for (const CacheType type :
       {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0}) {
    for (const int32_t gqa_ratio : {1, 2, 3, 4, 6, 7, 8}) {
      for (const int32_t head_dim : {64, 80, 128}) {
        const int32_t kv_len = static_cast<int32_t>(300 + seed * 37 % 200);
        AttentionProblem problem({2 * gqa_ratio, 2, head_dim}, type, type, {{1, kv_len}}, ++seed);
        AttendSeq sequence = problem.sequences()[0];
        ThreadPool pool(1);
        const auto attention = problem.Create(GetParam(), &pool);
        for (const int32_t num_sets : {1, 2, 2 * gqa_ratio}) {
          std::vector<std::vector<int32_t>> chosen;
          for (int32_t i = 0; i < num_sets; ++i) {
            const int32_t count = static_cast<int32_t>(1 + (seed * 53 + i * 97) % (kv_len - 1));
            chosen.push_back(RandomSet(kv_len, count, &random));
          }
          const Sets sets(sequence, std::move(chosen));
          sequence.sets = sets.spans;
          const std::vector<float> out = problem.Run(attention.get(), {&sequence, 1});
          ASSERT_LE(WorstDifference(problem, sequence, out, sets, nullptr), kTolerance)
              << num_sets << " sets, head_dim " << head_dim << ", gqa_ratio " << gqa_ratio
              << ", cache " << NameOf(type);
        }
      }
    }
  }
}

TEST_P(SetAttentionTest, EverythingGivesTheBitsOfTheFullKernel) {
  uint32_t seed = 100;
  for (const int32_t kv_len : {1, 63, 64, 65, 255, 256, 257, 1000, 17000}) {
    const AttentionProblem problem({6, 2, 64}, CacheType::kF16, CacheType::kF16, {{1, kv_len}},
                                   ++seed);
    ThreadPool pool(2);
    const auto attention = problem.Create(GetParam(), &pool);
    AttendSeq sequence = problem.sequences()[0];
    const std::vector<float> full = problem.Run(attention.get(), {&sequence, 1});
    for (const int32_t num_sets : {1, 2, 6}) {
      const Sets sets(sequence, std::vector<std::vector<int32_t>>(num_sets, AllOf(kv_len)));
      sequence.sets = sets.spans;
      const std::vector<float> out = problem.Run(attention.get(), {&sequence, 1});
      EXPECT_EQ(out, full) << num_sets << " sets of " << kv_len;
    }
  }
}

TEST_P(SetAttentionTest, OrderInASetChangesRoundingOnly) {
  std::mt19937 random(3);
  const AttentionProblem problem({4, 2, 64}, CacheType::kF32, CacheType::kF32, {{1, 900}}, 5);
  ThreadPool pool(1);
  const auto attention = problem.Create(GetParam(), &pool);
  AttendSeq sequence = problem.sequences()[0];
  std::vector<int32_t> chosen = RandomSet(900, 500, &random);
  const Sets one(sequence, {chosen});
  std::sort(chosen.begin(), chosen.end());
  const Sets other(sequence, {chosen});
  sequence.sets = one.spans;
  const std::vector<float> a = problem.Run(attention.get(), {&sequence, 1});
  sequence.sets = other.spans;
  const std::vector<float> b = problem.Run(attention.get(), {&sequence, 1});
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], kTolerance);
}

TEST_P(SetAttentionTest, AHeadmapPicksTheSetOfAKvHead) {
  std::mt19937 random(4);
  const AttentionProblem problem({8, 4, 64}, CacheType::kF16, CacheType::kF16, {{1, 400}}, 6);
  ThreadPool pool(1);
  const auto attention = problem.Create(GetParam(), &pool);
  AttendSeq sequence = problem.sequences()[0];
  std::vector<std::vector<int32_t>> chosen;
  for (int i = 0; i < 4; ++i) chosen.push_back(RandomSet(400, 70 + 10 * i, &random));
  const Sets sets(sequence, std::move(chosen));
  const int32_t headmap[] = {2, 0, 0, 3};
  sequence.sets = sets.spans;
  sequence.headmap = headmap;
  const std::vector<float> out = problem.Run(attention.get(), {&sequence, 1});
  EXPECT_LE(WorstDifference(problem, sequence, out, sets, headmap), kTolerance);
  EXPECT_GT(WorstDifference(problem, sequence, out, sets, nullptr), 100 * kTolerance)
      << "the comparison would not notice a map that is ignored";
}

TEST_P(SetAttentionTest, ABatchGivesEachSequenceTheBitsThatItHasAlone) {
  std::mt19937 random(5);
  const AttentionProblem problem({6, 2, 64}, CacheType::kF16, CacheType::kF16,
                                 {{1, 300}, {1, 700}, {1, 64}}, 8);
  std::vector<AttendSeq> sequences = problem.sequences();
  std::vector<Sets> sets;
  for (const AttendSeq& sequence : sequences)
    sets.emplace_back(sequence, std::vector<std::vector<int32_t>>{
                                    RandomSet(sequence.kv_len, sequence.kv_len / 2, &random)});
  for (size_t i = 0; i < sequences.size(); ++i) sequences[i].sets = sets[i].spans;
  ThreadPool pool(3);
  const auto attention = problem.Create(GetParam(), &pool);
  const std::vector<float> together = problem.Run(attention.get(), sequences);
  for (const AttendSeq& sequence : sequences) {
    ThreadPool single(1);
    const auto lone = problem.Create(GetParam(), &single);
    const std::vector<float> alone = problem.Run(lone.get(), {&sequence, 1});
    const auto begin = static_cast<ptrdiff_t>(sequence.row_begin * problem.RowFloats());
    const auto end = begin + static_cast<ptrdiff_t>(problem.RowFloats());
    EXPECT_TRUE(std::equal(alone.begin() + begin, alone.begin() + end, together.begin() + begin));
  }
}

}  // namespace
}  // namespace tidal
