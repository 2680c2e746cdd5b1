// Sparse rows in normal mode: 8-bit activations, an f16 cache, and an index that is scanned with
// 8-bit queries.

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "plan_testing.h"

namespace tidal {
namespace {

constexpr size_t kPrompt = 300;
constexpr size_t kRows = 4;

// Wide enough for products of 8-bit activations.
TestModelSpec WideModel(int32_t num_kv_heads, int32_t gqa_ratio, int32_t head_dim) {
  TestModelSpec spec = SmallModel(4, num_kv_heads, gqa_ratio, head_dim, 51);
  spec.dtype = DType::kQ8_0;
  spec.model_dim = 256;
  spec.ffn_dim = 512;
  return spec;
}

class PlanFast : public testing::TestWithParam<std::tuple<Isa, CacheType>> {};

TEST_P(PlanFast, IsAsCloseAsFullRowsAre) {
  const auto [isa, cache] = GetParam();
  const RandomTestModel model(WideModel(2, 2, 64));
  const auto tokens = SomeTokens(kPrompt + kRows, 51);
  PlanHarness harness(
      model.model(), {.isa = isa, .precision = Precision::kFast, .k_type = cache, .v_type = cache});
  // The reference has the same cache type, or for q8_0 half precision.
  const CacheType nearest = cache == CacheType::kQ8_0 ? CacheType::kF16 : cache;
  PlanReference prefix(&model.reference(), 512, nearest, nearest);
  harness.Prefill(0, std::span(tokens).first(kPrompt));
  prefix.Prefill(std::span(tokens).first(kPrompt));
  // What this mode's rounding does to the logits of rows over everything.
  double worst_full = 0;
  {
    PlanReference reference = prefix;
    for (const int32_t token : std::span(tokens).last(kRows)) {
      const DecodedRow row = harness.Decode(0, token, nullptr);
      const ReferenceRow expected = reference.Decode(token, AttentionPlan());
      worst_full = std::max(worst_full, WorstDifference(row.logits, expected.logits));
    }
  }
  EXPECT_GT(worst_full, kF32Logits);  // else this is not the mode that it should be
  EXPECT_LT(worst_full, 0.5);
  double worst_sparse = 0, most_lost = 0;
  for (const char* text :
       {"tidal:budget=64:recent=16", "tidal:budget=64:recent=16:scope=kv:scorer=exact",
        "tidal-paper:budget=48:full=0:select=0+2", "lessismore:budget=48:full=0:select=0+2",
        "quest:budget=96", "streaming:budget=64", "twilight:mass=0.7:full=0"}) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model.config(), std::string(text) + ":below=0");
    harness.Truncate(0, kPrompt);
    PlanReference reference = prefix;
    for (const int32_t token : std::span(tokens).last(kRows)) {
      const DecodedRow row = harness.Decode(0, token, &plan);
      size_t next = 0;
      const auto adjudicate = [&](const ReferenceSelection& selection,
                                  std::vector<TokenMask>* sets) {
        ASSERT_LT(next, row.selections.size());
        const std::vector<TokenMask>& seen = row.selections[next].sets;
        ASSERT_EQ(seen.size(), sets->size());
        const double own = SelectedMass(selection.input, *sets);
        const double mass = SelectedMass(selection.input, seen);
        if (!std::isnan(mass)) {
          most_lost = std::max(most_lost, own - mass);
          EXPECT_NEAR(static_cast<double>(row.selections[next].mass), mass, 0.03);
        }
        ++next;
        *sets = seen;
      };
      const ReferenceRow expected = reference.Decode(token, plan, {}, adjudicate);
      worst_sparse = std::max(worst_sparse, WorstDifference(row.logits, expected.logits));
    }
  }
  std::printf("%s, cache %s: worst full row %.3f, worst sparse row %.3f, most mass lost %.4f\n",
              NameOf(isa), NameOf(cache), worst_full, worst_sparse, most_lost);
  // Over the same sets a sparse row goes through the same rounding as a full one; fewer tokens
  // average less of it away.
  EXPECT_LE(worst_sparse, 2 * worst_full);
  // A set chosen by rounded scores is nearly as good as the one by exact scores: scores are off by
  // some hundredths, and only tokens that near the last chosen one change places.
  EXPECT_LE(most_lost, 0.01);
}

INSTANTIATE_TEST_SUITE_P(Modes, PlanFast,
                         testing::Combine(testing::ValuesIn(TestableIsas()),
                                          testing::Values(CacheType::kF16, CacheType::kBF16,
                                                          CacheType::kQ8_0, CacheType::kF32)),
                         [](const auto& param) {
                           return std::string(NameOf(std::get<0>(param.param))) + "_" +
                                  NameOf(std::get<1>(param.param));
                         });

}  // namespace
}  // namespace tidal
