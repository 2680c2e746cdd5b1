// Every preset, scope, merge and scorer of attention plans against the reference, in float32, for
// all shapes of heads, over shuffled pages.

#include <gtest/gtest.h>

#include "engine_testing.h"
#include "plan_testing.h"

namespace tidal {
namespace {

// A context that crosses page edges as it is decoded: rows 189 to 194.
constexpr size_t kPrefill = 188;
constexpr size_t kDecode = 6;

// All keys and all presets, sized for a context of some 190 tokens.
const char* const kEveryPlan[] = {
    "tidal-paper:budget=24",
    "tidal-paper:budget=24:recent=1",
    "tidal-paper:full=0+1:select=1+3:budget=32:scope=kv:merge=mass",
    "tidal-paper:full=none:select=all:budget=20",
    "tidal:budget=48:recent=16",
    "tidal:budget=48:recent=16:scorer=index2",
    "tidal:budget=48:recent=16:scorer=exact",
    "tidal:budget=48:recent=16:merge=max",
    "tidal:budget=48:recent=16:scope=kv",
    "tidal:budget=48:recent=16:scope=kv:merge=max:scorer=exact",
    "tidal:budget=48:recent=16:scope=head:merge=score",
    "tidal:budget=48:recent=16:scope=head:merge=mass",
    "tidal:budget=40:recent=0:sinks=0:full=0+1:select=1+3",
    "tidal:budget=40:recent=8:full=none:select=0+2",
    "tidal:budget=25%:recent=25%:sinks=2",
    "tidal:budget=5%:floor=30:recent=4",
    "tidal:budget=64:recent=16:page=16",
    "tidal:budget=64:recent=4:page=8:scope=kv:scorer=exact",
    "tidal:budget=100:recent=4:page=64:scope=head:merge=score",
    "tidal:mass=0.6:recent=4",
    "tidal:mass=0.7:floor=40:ceil=64:recent=8",
    "tidal:mass=0.7:merge=max:scope=kv:scorer=exact:recent=2",
    "tidal:budget=48:recent=16:refresh=cos0.6",
    "lessismore:budget=32",
    "lessismore:budget=32:scope=kv:recent=2",
    "lessismore:budget=32:full=none:select=all:scorer=index4",
    "quest:budget=64",
    "quest:budget=64:scorer=pages-meanstd",
    "quest:budget=64:scope=kv",
    "quest:budget=64:scope=shared:scorer=pages-meanstd:page=8",
    "quest:budget=128:page=64:full=none:sinks=4:recent=20",
    "quest:budget=128:page=128",
    "streaming:budget=32",
    "streaming:budget=32:full=0:select=1+2",
    "tokenselect:budget=60:sinks=8:recent=20:refresh=cos0.5",
    "tokenselect:budget=60:sinks=8:recent=20:refresh=cos0.99",
    "omnikv:budget=32",
    "kascade:floor=12",
    "zipvl:mass=0.8",
    "twilight:mass=0.7",
};

// A few that take different ways through selection and attention.
const char* const kSomePlans[] = {
    "tidal-paper:budget=24",
    "tidal:budget=48:recent=16",
    "tidal:budget=48:recent=16:scope=kv:scorer=index2",
    "lessismore:budget=32",
    "quest:budget=64",
    "streaming:budget=32",
    "twilight:mass=0.7",
};

struct Shape {
  int32_t num_kv_heads;
  int32_t gqa_ratio;
  int32_t head_dim;
};

std::string NameOfShape(const Shape& shape) {
  return "_" + std::to_string(shape.num_kv_heads) + "x" + std::to_string(shape.gqa_ratio) +
         "heads_of_" + std::to_string(shape.head_dim);
}

int32_t BitsOf(const AttentionPlan& plan) { return plan.scorer == Scorer::kIndex2 ? 2 : 4; }

// One prefilled model, with an index of either number of bits; each plan decodes from the same
// prefix, over what the last one left.
class Prefilled {
 public:
  Prefilled(Isa isa, const Shape& shape, uint64_t seed)
      : model_(SmallModel(5, shape.num_kv_heads, shape.gqa_ratio, shape.head_dim, seed)),
        tokens_(SomeTokens(kPrefill + kDecode, static_cast<uint32_t>(seed))),
        prefix_(&model_.reference(), 256, CacheType::kF32, CacheType::kF32) {
    const auto prompt = std::span(tokens_).first(kPrefill);
    const std::vector<double> expected = prefix_.Prefill(prompt);
    for (const int32_t bits : {2, 4}) {
      const HarnessOptions options{.isa = isa, .max_tokens = 256, .index_bits = bits};
      harnesses_.emplace_back(model_.model(), options);
      EXPECT_LE(WorstDifference(harnesses_.back().Prefill(0, prompt), expected), kF32Logits);
    }
  }

  void Check(const char* text, PlanComparison* comparison) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model_.config(), text + std::string(":below=0"));
    PlanHarness& harness = harnesses_[BitsOf(plan) == 2 ? 0 : 1];
    harness.Truncate(0, kPrefill);
    PlanReference reference = prefix_;
    DecodeAndCompare(&harness, 0, plan, std::span(tokens_).last(kDecode), F32Tolerance(plan),
                     &reference, comparison);
  }

 private:
  RandomTestModel model_;
  std::vector<int32_t> tokens_;
  std::vector<PlanHarness> harnesses_;  // 2 and 4 bits
  PlanReference prefix_;
};

// Near ties are rare: where sets differ often, something other than rounding is at work.
void ExpectFewDiffer(const PlanComparison& comparison) {
  std::printf("%lld sets, %lld of them differ by near ties; worst logit %.2g, worst mass %.2g\n",
              static_cast<long long>(comparison.sets),
              static_cast<long long>(comparison.sets_that_differ), comparison.worst_logit,
              comparison.worst_mass);
  EXPECT_LE(comparison.sets_that_differ, comparison.sets / 50 + 1);
}

class EveryPlan : public testing::TestWithParam<std::tuple<Isa, Shape>> {};

TEST_P(EveryPlan, IsTheReferences) {
  const auto& [isa, shape] = GetParam();
  PlanComparison comparison;
  Prefilled prefilled(isa, shape, static_cast<uint64_t>(shape.head_dim / 16 + shape.gqa_ratio));
  for (const char* plan : kEveryPlan) prefilled.Check(plan, &comparison);
  ExpectFewDiffer(comparison);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryPlan,
                         testing::Combine(testing::ValuesIn(TestableIsas()),
                                          testing::Values(Shape{2, 2, 64}, Shape{1, 3, 80},
                                                          Shape{3, 1, 64}, Shape{2, 7, 128})),
                         [](const auto& param) {
                           return NameOf(std::get<0>(param.param)) +
                                  NameOfShape(std::get<1>(param.param));
                         });

class EveryShape : public testing::TestWithParam<std::tuple<Isa, int32_t, int32_t>> {};

TEST_P(EveryShape, IsTheReferences) {
  const auto& [isa, gqa_ratio, head_dim] = GetParam();
  PlanComparison comparison;
  Prefilled prefilled(isa, {2, gqa_ratio, head_dim}, static_cast<uint64_t>(gqa_ratio));
  for (const char* plan : kSomePlans) prefilled.Check(plan, &comparison);
  ExpectFewDiffer(comparison);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryShape,
                         testing::Combine(testing::ValuesIn(TestableIsas()),
                                          testing::Values(1, 2, 3, 4, 5, 6, 7, 8),
                                          testing::Values(64, 80, 128)),
                         [](const auto& param) {
                           return NameOf(std::get<0>(param.param)) +
                                  NameOfShape(
                                      Shape{2, std::get<1>(param.param), std::get<2>(param.param)});
                         });

// Newlines are kept beside sinks and recent tokens, the newest first.
TEST(PlanKeep, NewlinesAreInTheSets) {
  const RandomTestModel model(SmallModel(4, 2, 2, 64, 3));
  const auto tokens = SomeTokens(kPrefill + 3, 3);
  for (const char* text :
       {"tidal:budget=32:recent=8:keep=newline:below=0",
        "tidal:budget=24:recent=8:keep=newline:scope=head:merge=score:scorer=exact:below=0",
        "lessismore:budget=32:keep=newline:below=0", "quest:budget=96:keep=newline:below=0",
        "streaming:budget=32:recent=10:keep=newline:below=0"}) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model.config(), text);
    PlanHarness harness(model.model(), {});
    PlanReference reference(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
    harness.Prefill(0, std::span(tokens).first(kPrefill));
    reference.Prefill(std::span(tokens).first(kPrefill));
    PlanComparison comparison;
    // Some are recent anyway, some are sinks; the budget has room for part of the rest.
    std::vector<int32_t> newlines;
    for (int32_t pos = kPrefill - 2; pos >= 0; pos -= 9) newlines.push_back(pos);
    for (const int32_t token : std::span(tokens).last(3)) {
      const DecodedRow row =
          harness.Decode({{.sequence = 0, .token = token, .plan = &plan, .newlines = newlines}})[0];
      CompareWithReference(row, plan, token, F32Tolerance(plan), &reference, &comparison, newlines);
    }
  }
}

// A reuse layer's KV heads may use any of the selection layer's sets.
TEST(PlanHeadmap, KvHeadsUseTheSetsOfTheMap) {
  const RandomTestModel model(SmallModel(4, 3, 2, 64, 4));
  const auto tokens = SomeTokens(kPrefill + 3, 4);
  AttentionPlan plan = PlanFor(model.config(), "kascade:full=0:select=0+2:floor=24:below=0");
  plan.headmap = {{}, {2, 0, 1}, {}, {1, 1, 0}};
  PlanHarness harness(model.model(), {});
  PlanReference reference(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
  harness.Prefill(0, std::span(tokens).first(kPrefill));
  reference.Prefill(std::span(tokens).first(kPrefill));
  PlanComparison comparison;
  DecodeAndCompare(&harness, 0, plan, std::span(tokens).last(3), F32Tolerance(plan), &reference,
                   &comparison);
}

// A percentage with several calibrated entries is another plan at another context.
TEST(PlanVariants, ARowUsesTheVariantOfItsLength) {
  const RandomTestModel model(SmallModel(4, 2, 2, 64, 5));
  const auto tokens = SomeTokens(kPrefill + kDecode, 5);
  AttentionPlan plan = PlanFor(model.config(), "tidal:select=0:budget=12%:recent=2:below=0");
  plan.variants.emplace_back(
      191, PlanFor(model.config(), "tidal:select=0+2:budget=30%:recent=2:below=0"));
  PlanHarness harness(model.model(), {});
  PlanReference reference(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
  harness.Prefill(0, std::span(tokens).first(kPrefill));
  reference.Prefill(std::span(tokens).first(kPrefill));
  PlanComparison comparison;
  DecodeAndCompare(&harness, 0, plan, std::span(tokens).last(kDecode), F32Tolerance(plan),
                   &reference, &comparison);
}

}  // namespace
}  // namespace tidal
