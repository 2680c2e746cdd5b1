// Attention plans at the edges of their numbers: every context from the first token on, budgets at
// and around the context, page edges, `below`, ties everywhere.

#include <gtest/gtest.h>

#include "engine_testing.h"
#include "plan_testing.h"

namespace tidal {
namespace {

class PlanBoundary : public testing::TestWithParam<Isa> {};

// Budgets of 32, 64 and 128 meet contexts one below, at and one above; pages of the cache end at 64
// and 128. No longer context fits, for sanitizers to see what is read or written beyond.
TEST_P(PlanBoundary, EveryContextFromTheFirstToken) {
  constexpr int32_t kLongest = 161;
  const RandomTestModel model(SmallModel(3, 2, 2, 64, 11));
  const auto tokens = SomeTokens(kLongest, 11);
  PlanComparison comparison;
  for (const char* text :
       {"tidal-paper:full=0:select=1:budget=32", "tidal:budget=64:recent=16",
        "tidal:budget=128:recent=31:scope=kv", "tidal:budget=64:recent=0:sinks=0:scope=head",
        "tidal:budget=10%:floor=8:recent=1", "tidal:mass=0.5:recent=3", "lessismore:budget=32",
        "quest:budget=64", "quest:budget=128:page=64:scorer=pages-meanstd", "streaming:budget=64",
        "tokenselect:budget=64:sinks=8:recent=16:refresh=cos0.5", "twilight:mass=0.5"}) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model.config(), std::string(text) + ":below=0");
    PlanHarness harness(model.model(), {.isa = GetParam(), .max_tokens = kLongest});
    PlanReference reference(&model.reference(), kLongest, CacheType::kF32, CacheType::kF32);
    DecodeAndCompare(&harness, 0, plan, tokens, F32Tolerance(plan), &reference, &comparison);
    if (HasFatalFailure()) return;
  }
  EXPECT_LE(comparison.sets_that_differ, comparison.sets / 100);
}

// Contexts around multiples of 32 and of pages up to some long ones.
TEST_P(PlanBoundary, ContextsAroundMultiples) {
  const RandomTestModel model(SmallModel(2, 1, 2, 64, 12));
  constexpr int32_t kLongest = 2050;
  const auto tokens = SomeTokens(kLongest, 12);
  const AttentionPlan plans[] = {
      PlanFor(model.config(), "tidal-paper:full=0:select=0:budget=31:below=0"),
      PlanFor(model.config(), "tidal:budget=97:recent=17:below=0"),
      PlanFor(model.config(), "quest:full=none:budget=160:page=32:below=0")};
  PlanReference prefix(&model.reference(), kLongest, CacheType::kF32, CacheType::kF32);
  PlanHarness harness(model.model(), {.isa = GetParam(), .max_tokens = kLongest});
  PlanComparison comparison;
  for (const int32_t multiple : {192, 224, 256, 480, 512, 544, 1024, 1500, 1984, 2048}) {
    const int32_t begin = multiple - 2;
    const auto gap = std::span(tokens).subspan(static_cast<size_t>(prefix.kv_len()),
                                               static_cast<size_t>(begin - prefix.kv_len()));
    prefix.Prefill(gap);
    harness.Prefill(0, gap);
    for (const AttentionPlan& plan : plans) {
      SCOPED_TRACE(plan.ToString());
      PlanReference reference = prefix;
      DecodeAndCompare(&harness, 0, plan, std::span(tokens).subspan(static_cast<size_t>(begin), 3),
                       F32Tolerance(plan), &reference, &comparison);
      harness.Truncate(0, begin);
    }
  }
}

const char* const kWholeContext[] = {"tidal:budget=256",
                                     "tidal:budget=103",
                                     "tidal:budget=100%:scorer=exact:merge=max",
                                     "tidal:budget=256:scope=kv",
                                     "tidal:budget=256:scope=head:merge=score",
                                     "tidal:budget=256:page=16",
                                     "tidal-paper:budget=256",
                                     "tidal-paper:budget=103:full=none:select=all",
                                     "lessismore:budget=256:full=none:select=all",
                                     "quest:budget=256:full=none",
                                     "streaming:budget=256",
                                     "tokenselect:budget=200:sinks=4:recent=4",
                                     "omnikv:budget=256:full=none:select=all",
                                     "kascade:budget=100%:full=none:select=all",
                                     "zipvl:mass=1:floor=256",
                                     "twilight:mass=1:floor=256:full=none"};

std::vector<DecodedRow> DecodeAll(PlanHarness* harness, const AttentionPlan* plan,
                                  std::span<const int32_t> tokens) {
  std::vector<DecodedRow> rows;
  for (const int32_t token : tokens) rows.push_back(harness->Decode(0, token, plan));
  return rows;
}

// Sets of the whole context and rows below `below` are full rows to the last bit, in both
// precisions and with every cache type.
TEST_P(PlanBoundary, SetsOfTheWholeContextAreFullRowsBitForBit) {
  constexpr size_t kPrompt = 100;
  const RandomTestModel model(SmallModel(5, 2, 3, 64, 13));
  const auto tokens = SomeTokens(kPrompt + 3, 13);
  struct Mode {
    Precision precision;
    CacheType k_type;
    CacheType v_type;
  };
  for (const Mode& mode : {Mode{Precision::kF32, CacheType::kF32, CacheType::kF32},
                           Mode{Precision::kFast, CacheType::kF16, CacheType::kF16},
                           Mode{Precision::kFast, CacheType::kQ8_0, CacheType::kBF16}}) {
    if (mode.k_type == CacheType::kQ8_0 && TestDevice() != "cpu") continue;  // only the CPU has it
    PlanHarness harness(model.model(), {.isa = GetParam(),
                                        .precision = mode.precision,
                                        .k_type = mode.k_type,
                                        .v_type = mode.v_type});
    harness.Prefill(0, std::span(tokens).first(kPrompt));
    const auto full = DecodeAll(&harness, nullptr, std::span(tokens).last(3));
    for (const char* text : kWholeContext) {
      SCOPED_TRACE(text);
      const AttentionPlan plan = PlanFor(model.config(), std::string(text) + ":below=0");
      harness.Truncate(0, kPrompt);
      const auto rows = DecodeAll(&harness, &plan, std::span(tokens).last(3));
      for (size_t i = 0; i < rows.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "row " << i);
        ExpectSameLogits(rows[i].logits, full[i].logits);
        EXPECT_FALSE(rows[i].selections.empty());
      }
    }
  }
}

// Layers that choose and read everything leave the row what it is.
TEST_P(PlanBoundary, ChoosingBesideReadingEverythingChangesNoBit) {
  const RandomTestModel model(SmallModel(4, 2, 2, 64, 14));
  const auto tokens = SomeTokens(153, 14);
  PlanHarness harness(model.model(), {.isa = GetParam()});
  harness.Prefill(0, std::span(tokens).first(150));
  const auto full = DecodeAll(&harness, nullptr, std::span(tokens).last(3));
  for (const char* text : {"tidal-paper:full=all:select=0+2:budget=16:below=0",
                           "tidal:full=all:select=all:budget=80:below=0",
                           "quest:full=all:select=1:budget=32:below=0"}) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model.config(), text);
    harness.Truncate(0, 150);
    const auto rows = DecodeAll(&harness, &plan, std::span(tokens).last(3));
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].logits, full[i].logits) << "row " << i;
      EXPECT_EQ(rows[i].report.layers[static_cast<int>(LayerRole::kFull)], 4);
      EXPECT_FALSE(rows[i].selections.empty());
    }
  }
}

TEST_P(PlanBoundary, RowsBelowBelowAreFull) {
  const RandomTestModel model(SmallModel(3, 2, 2, 64, 15));
  const auto tokens = SomeTokens(135, 15);
  const AttentionPlan plan = PlanFor(model.config(), "tidal:budget=32:recent=8:below=130");
  PlanHarness harness(model.model(), {.isa = GetParam()});
  PlanReference reference(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
  harness.Prefill(0, std::span(tokens).first(126));
  reference.Prefill(std::span(tokens).first(126));
  PlanComparison comparison;
  for (size_t i = 126; i < tokens.size(); ++i) {
    SCOPED_TRACE(i);
    const DecodedRow row = harness.Decode(0, tokens[i], &plan);
    const bool full = i + 1 < 130;  // the current token included
    EXPECT_EQ(row.report.layers[static_cast<int>(LayerRole::kFull)], full ? 3 : 0);
    CompareWithReference(row, plan, tokens[i], F32Tolerance(plan), &reference, &comparison);
  }
}

// With recent=0 the current token competes like any other (the paper's rule), with recent=1 it is
// always there.
TEST_P(PlanBoundary, TheCurrentTokenCompetesOrIsKept) {
  const RandomTestModel model(SmallModel(3, 2, 2, 64, 16));
  const auto tokens = SomeTokens(220, 16);
  for (const int32_t recent : {0, 1}) {
    const AttentionPlan plan =
        PlanFor(model.config(),
                "tidal-paper:full=0:select=0+1:budget=24:below=0:recent=" + std::to_string(recent));
    PlanHarness harness(model.model(), {.isa = GetParam()});
    harness.Prefill(0, std::span(tokens).first(200));
    int64_t sets = 0, with_current = 0;
    for (const int32_t token : std::span(tokens).last(20)) {
      for (const SeenSelection& selection : harness.Decode(0, token, &plan).selections) {
        for (const TokenMask& set : selection.sets) {
          ++sets;
          with_current += set.back();
          EXPECT_EQ(std::count(set.begin(), set.end(), 1), 24);
        }
      }
    }
    if (recent == 1) {
      EXPECT_EQ(with_current, sets);
    } else {
      EXPECT_LT(with_current, sets / 2);
      EXPECT_GT(with_current, 0);
    }
  }
}

// All keys are 0, and so all scores: every choice is a tie, and goes to the smaller positions.
TEST_P(PlanBoundary, TiesEverywhereGoToTheSmallerPositions) {
  TestModelSpec spec = SmallModel(3, 2, 2, 64, 18);
  ASSERT_EQ(spec.architecture, "llama");  // no bias
  GgufWriter file = BuildRandomModel(spec);
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + ".attn_k.weight";
    ASSERT_TRUE(file.RemoveTensor(name));
    const int64_t rows = int64_t{spec.num_kv_heads} * spec.head_dim;
    file.AddTensor(name, InfoOf(DType::kF32).ggml_type, {spec.model_dim, rows},
                   std::vector<std::byte>(static_cast<size_t>(rows * spec.model_dim * 4)));
  }
  const RandomTestModel model(file);
  const auto tokens = SomeTokens(140, 18);
  for (const char* text :
       {"tidal:budget=20:recent=3", "tidal:budget=20:recent=3:scorer=exact:merge=max",
        "tidal:budget=70:sinks=0:recent=0:scope=kv", "tidal-paper:select=0:full=none:budget=20",
        "lessismore:select=0:full=none:budget=20:recent=2", "quest:full=none:budget=48",
        "quest:full=none:budget=48:scorer=pages-meanstd", "twilight:full=none:mass=0.5"}) {
    SCOPED_TRACE(text);
    const AttentionPlan plan = PlanFor(model.config(), std::string(text) + ":below=0");
    PlanHarness harness(model.model(), {.isa = GetParam()});
    PlanReference reference(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
    harness.Prefill(0, std::span(tokens).first(137));
    reference.Prefill(std::span(tokens).first(137));
    PlanComparison comparison;
    DecodeAndCompare(&harness, 0, plan, std::span(tokens).last(3), F32Tolerance(plan), &reference,
                     &comparison);
    // A share of exactly one half may be reached a token sooner or later by rounding.
    EXPECT_LE(comparison.sets_that_differ, plan.mass > 0 ? comparison.sets : 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, PlanBoundary, testing::ValuesIn(TestableIsas()),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

}  // namespace
}  // namespace tidal
