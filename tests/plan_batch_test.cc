// What may not change a sparse row: the other rows of its step, where its pages lie, how many
// threads there are, who else holds its pages, what its pages held before. All bit for bit.

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "plan_testing.h"

namespace tidal {
namespace {

constexpr int32_t kMaxTokens = 384;

void ExpectSameBits(const DecodedRow& a, const DecodedRow& b) {
  ExpectSameLogits(a.logits, b.logits);
  ASSERT_EQ(a.selections.size(), b.selections.size());
  if (TestDevice() != "cpu") return;  // near ties may fall the other way
  for (size_t i = 0; i < a.selections.size(); ++i) {
    EXPECT_EQ(a.selections[i].layer, b.selections[i].layer);
    EXPECT_EQ(a.selections[i].fresh, b.selections[i].fresh);
    EXPECT_TRUE(a.selections[i].sets == b.selections[i].sets) << "layer " << a.selections[i].layer;
  }
  const bool both_unknown =
      std::isnan(a.report.selected_mass) && std::isnan(b.report.selected_mass);
  EXPECT_TRUE(both_unknown || a.report.selected_mass == b.report.selected_mass);
  for (int role = 0; role < kNumLayerRoles; ++role) {
    EXPECT_EQ(a.report.layers[role], b.report.layers[role]);
    EXPECT_EQ(a.report.tokens_attended[role], b.report.tokens_attended[role]);
  }
}

// A sequence of a batch: its plan (empty: full), its prompt, and what is decoded.
struct Story {
  std::string plan;
  size_t prompt = 0;
  uint32_t seed = 0;
};

const Story kStories[] = {{"tidal:budget=48:recent=8", 190, 1},
                          {"", 77, 2},
                          {"tidal-paper:full=0:select=1+2:budget=32", 20, 3},  // shorter than k
                          {"quest:budget=64", 300, 4},
                          {"tokenselect:budget=60:sinks=4:recent=16:refresh=cos0.6", 140, 5},
                          {"lessismore:budget=40", 61, 6},
                          {"twilight:mass=0.6", 250, 7},
                          {"tidal:budget=32:recent=8:scope=kv:below=130", 125, 8},
                          {"streaming:budget=24", 64, 9}};
constexpr size_t kSteps = 8;

class PlanBatch : public testing::TestWithParam<std::tuple<Isa, Precision>> {
 protected:
  PlanBatch() : model_(SmallModel(4, 2, 2, 64, 21)) {
    for (const Story& story : kStories) {
      const bool below = story.plan.find("below") != std::string::npos;
      plans_.push_back(story.plan.empty()
                           ? AttentionPlan()
                           : PlanFor(model_.config(), story.plan + (below ? "" : ":below=0")));
    }
  }

  HarnessOptions Options() const {
    const Precision precision = std::get<1>(GetParam());
    const CacheType cache = precision == Precision::kF32 ? CacheType::kF32 : CacheType::kF16;
    return {.isa = std::get<0>(GetParam()),
            .precision = precision,
            .k_type = cache,
            .v_type = cache,
            .max_sequences = static_cast<int32_t>(std::size(kStories)),
            .max_tokens = kMaxTokens};
  }
  std::vector<int32_t> Tokens(size_t story) const {
    return SomeTokens(kStories[story].prompt + kSteps, kStories[story].seed);
  }
  const AttentionPlan* PlanOf(size_t story) const {
    return kStories[story].plan.empty() ? nullptr : &plans_[story];
  }

  // The rows of one story alone in a harness of its own.
  std::vector<DecodedRow> Alone(size_t story, HarnessOptions options) const {
    options.max_sequences = 1;
    PlanHarness harness(model_.model(), options);
    const auto tokens = Tokens(story);
    harness.Prefill(0, std::span(tokens).first(kStories[story].prompt));
    std::vector<DecodedRow> rows;
    for (const int32_t token : std::span(tokens).last(kSteps))
      rows.push_back(harness.Decode(0, token, PlanOf(story)));
    return rows;
  }

  RandomTestModel model_;
  std::vector<AttentionPlan> plans_;
};

TEST_P(PlanBatch, EachRowIsWhatItIsAlone) {
  PlanHarness harness(model_.model(), Options());
  for (size_t story = 0; story < std::size(kStories); ++story) {
    const auto tokens = Tokens(story);
    harness.Prefill(static_cast<int32_t>(story), std::span(tokens).first(kStories[story].prompt));
  }
  std::vector<std::vector<DecodedRow>> together(std::size(kStories));
  for (size_t step = 0; step < kSteps; ++step) {
    std::vector<PlanHarness::Row> rows;
    std::vector<size_t> stories;
    for (size_t i = 0; i < std::size(kStories); ++i) {
      // Another order and other neighbours at every step; each story misses some.
      const size_t story = (i * 4 + step) % std::size(kStories);
      const size_t at = together[story].size();
      if (at == kSteps || (story + step) % 5 == 4) continue;
      rows.push_back({.sequence = static_cast<int32_t>(story),
                      .token = Tokens(story)[kStories[story].prompt + at],
                      .plan = PlanOf(story)});
      stories.push_back(story);
    }
    const auto decoded = harness.Decode(rows);
    for (size_t i = 0; i < stories.size(); ++i) together[stories[i]].push_back(decoded[i]);
  }
  for (size_t story = 0; story < std::size(kStories); ++story) {
    SCOPED_TRACE("plan " + kStories[story].plan);
    const auto alone = Alone(story, Options());
    for (size_t i = 0; i < together[story].size(); ++i) {
      SCOPED_TRACE("row " + std::to_string(i));
      ExpectSameBits(together[story][i], alone[i]);
    }
  }
}

TEST_P(PlanBatch, PrefillBesideDecodedRowsChangesNothing) {
  PlanHarness harness(model_.model(), Options());
  const auto tokens = Tokens(0);
  harness.Prefill(0, std::span(tokens).first(kStories[0].prompt));
  const auto alone = Alone(0, Options());
  const auto other = SomeTokens(kSteps * 40, 99);
  for (size_t step = 0; step < kSteps; ++step) {
    const auto chunk = std::span(other).subspan(step * 40, 40);
    const auto decoded = harness.Decode(
        {{.sequence = 3, .token = chunk[0], .more = {chunk.begin() + 1, chunk.end()}},
         {.sequence = 0, .token = tokens[kStories[0].prompt + step], .plan = PlanOf(0)}});
    ExpectSameBits(decoded[1], alone[step]);
  }
}

TEST_P(PlanBatch, PagesInAnyOrderAndAnyNumberOfThreads) {
  for (size_t story = 0; story < std::size(kStories); ++story) {
    SCOPED_TRACE("plan " + kStories[story].plan);
    HarnessOptions options = Options();
    const auto shuffled = Alone(story, options);
    options.shuffled = false;
    const auto in_order = Alone(story, options);
    options.num_threads = 1;
    const auto one_thread = Alone(story, options);
    options.num_threads = 3;
    const auto three_threads = Alone(story, options);
    for (size_t i = 0; i < kSteps; ++i) {
      SCOPED_TRACE("row " + std::to_string(i));
      ExpectSameBits(shuffled[i], in_order[i]);
      ExpectSameBits(in_order[i], one_thread[i]);
      ExpectSameBits(one_thread[i], three_threads[i]);
    }
  }
}

// A fork holds the same pages and the same index.
TEST_P(PlanBatch, SharedPagesKeepTheirIndex) {
  const AttentionPlan plan = PlanFor(model_.config(), "tidal:budget=40:recent=8:below=0");
  const auto tokens = SomeTokens(260, 31);
  // Chunks as long as what is shared, so that both sequences compute their keys in the same steps.
  HarnessOptions options = Options();
  options.max_batch_tokens = 128;
  PlanHarness harness(model_.model(), options);
  harness.Prefill(0, std::span(tokens).first(200));
  PlanHarness alone(model_.model(), options);
  alone.Prefill(0, std::span(tokens).first(128));
  alone.Prefill(0, std::span(tokens).subspan(128, 122));
  ASSERT_EQ(harness.SharePages(0, 1, 150), 128);
  harness.Prefill(1, std::span(tokens).subspan(128, 122));
  for (const int32_t token : std::span(tokens).last(10)) {
    const auto rows = harness.Decode({{.sequence = 1, .token = token, .plan = &plan},
                                      {.sequence = 0, .token = token, .plan = &plan}});
    ExpectSameBits(rows[0], alone.Decode(0, token, &plan));
  }
}

// A page that is cut and filled with other tokens has the index of these, whoever filled it.
TEST_P(PlanBatch, RewrittenPagesAreSealedAgain) {
  const AttentionPlan plan = PlanFor(model_.config(), "tidal:budget=40:recent=8:below=0");
  const auto first = SomeTokens(200, 32);
  const auto second = SomeTokens(200, 33);
  const auto rewrite = [&](PlanHarness* harness, bool had_others) {
    if (had_others) {
      harness->Prefill(0, std::span(first));
      harness->Truncate(0, 40);
    } else {
      harness->Prefill(0, std::span(first).first(40));
    }
    harness->Prefill(0, std::span(second).first(110));  // to 150
    std::vector<DecodedRow> rows;
    for (const int32_t token : std::span(second).last(50))  // over the edge at 192
      rows.push_back(harness->Decode(0, token, &plan));
    return rows;
  };
  HarnessOptions options = Options();
  options.max_batch_tokens = 110;
  PlanHarness fresh(model_.model(), options);
  PlanHarness reused(model_.model(), options);
  const auto expected = rewrite(&fresh, false);
  const auto rows = rewrite(&reused, true);
  for (size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE("row " + std::to_string(i));
    ExpectSameBits(rows[i], expected[i]);
  }
}

// Kept choices belong to a sequence's state: told to forget, it chooses anew.
TEST_P(PlanBatch, ForgottenSetsAreChosenAnew) {
  AttentionPlan plan =
      PlanFor(model_.config(), "tokenselect:budget=60:sinks=4:recent=16:refresh=cos0.9:below=0");
  plan.refresh_cosine = -1;  // never of its own
  PlanHarness harness(model_.model(), Options());
  const auto tokens = SomeTokens(200, 34);
  harness.Prefill(0, std::span(tokens).first(150));
  for (size_t i = 150; i < 170; ++i) {
    const bool forget = i % 7 == 0;
    const auto row = harness.Decode(
        {{.sequence = 0, .token = tokens[i], .plan = &plan, .forget_sets = forget}})[0];
    for (const SeenSelection& selection : row.selections) {
      EXPECT_EQ(selection.fresh, i == 150 || forget) << "row " << i;
      const auto since = static_cast<long>(i == 150 ? 0 : std::min((i - 150), i % 7));
      EXPECT_EQ(std::count(selection.sets[0].begin(), selection.sets[0].end(), 1), 60 + since)
          << "row " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, PlanBatch,
                         testing::Combine(testing::ValuesIn(TestableIsas()),
                                          testing::Values(Precision::kF32, Precision::kFast)),
                         [](const auto& param) {
                           return std::string(NameOf(std::get<0>(param.param))) + "_" +
                                  NameOf(std::get<1>(param.param));
                         });

// Prefill in chunks of any size seals the same index, to rounding.
TEST(PlanChunks, AnyChunksSealTheIndex) {
  const RandomTestModel model(SmallModel(3, 2, 2, 64, 22));
  const auto tokens = SomeTokens(203, 35);
  const AttentionPlan plan = PlanFor(model.config(), "tidal:budget=40:recent=8:below=0");
  PlanReference prefix(&model.reference(), 256, CacheType::kF32, CacheType::kF32);
  prefix.Prefill(std::span(tokens).first(200));
  for (const int32_t chunk : {1, 7, 63, 64, 65, 200}) {
    SCOPED_TRACE("chunks of " + std::to_string(chunk));
    PlanHarness harness(model.model(), {.max_batch_tokens = chunk});
    harness.Prefill(0, std::span(tokens).first(200));
    PlanReference reference = prefix;
    PlanComparison comparison;
    DecodeAndCompare(&harness, 0, plan, std::span(tokens).last(3), F32Tolerance(plan), &reference,
                     &comparison);
  }
}

}  // namespace
}  // namespace tidal
