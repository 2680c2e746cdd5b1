// Which layers choose, read everything and reuse, and that each row's choices are its own: the
// schedule of position-persistent attention.

#include <algorithm>
#include <gtest/gtest.h>

#include "plan_testing.h"

namespace tidal {
namespace {

constexpr int32_t kLayers = 6;

class PlanSchedule : public testing::Test {
 protected:
  PlanSchedule()
      : model_(SmallModel(kLayers, 2, 2, 64, 41)),
        tokens_(SomeTokens(180, 41)),
        harness_(model_.model(), {}),
        reference_(&model_.reference(), 256, CacheType::kF32, CacheType::kF32) {
    harness_.Prefill(0, std::span(tokens_).first(kPrompt));
    reference_.Prefill(std::span(tokens_).first(kPrompt));
  }

  AttentionPlan Plan(const std::string& text) const {
    return PlanFor(model_.config(), text + ":below=0");
  }
  // The first row after the prompt.
  DecodedRow FirstRow(const AttentionPlan& plan) {
    harness_.Truncate(0, kPrompt);
    return harness_.Decode(0, tokens_[kPrompt], &plan);
  }
  static std::vector<int32_t> ChoosingLayers(const DecodedRow& row) {
    std::vector<int32_t> layers;
    for (const SeenSelection& selection : row.selections) layers.push_back(selection.layer);
    return layers;
  }

  static constexpr size_t kPrompt = 170;
  RandomTestModel model_;
  std::vector<int32_t> tokens_;
  PlanHarness harness_;
  PlanReference reference_;
};

// F .. F, S, reuse .. reuse, R, reuse .. reuse for every S and R; where they are the same layer
// there is one selection.
TEST_F(PlanSchedule, OnlySelectionLayersChoose) {
  for (int32_t s = 0; s < kLayers; ++s) {
    for (int32_t r = s; r < kLayers; ++r) {
      SCOPED_TRACE("S " + std::to_string(s) + ", R " + std::to_string(r));
      std::string full;
      for (int32_t layer = 0; layer < s; ++layer) full += std::to_string(layer) + "+";
      const std::string both =
          std::to_string(s) + (r > s ? "+" + std::to_string(r) : std::string());
      full += both;
      const std::string paper = "tidal-paper:full=" + full + ":select=" + both + ":budget=32";
      const DecodedRow row = FirstRow(Plan(paper));
      const auto selections = r > s ? std::vector<int32_t>{s, r} : std::vector<int32_t>{s};
      EXPECT_EQ(ChoosingLayers(row), selections);
      const auto num_full = s + static_cast<int32_t>(selections.size());
      const RowReport& report = row.report;
      EXPECT_EQ(report.layers[static_cast<int>(LayerRole::kFull)], num_full);
      EXPECT_EQ(report.layers[static_cast<int>(LayerRole::kSelection)], 0);
      EXPECT_EQ(report.layers[static_cast<int>(LayerRole::kReuse)], kLayers - num_full);
      EXPECT_EQ(report.tokens_attended[static_cast<int>(LayerRole::kFull)],
                num_full * static_cast<double>(kPrompt + 1));
      EXPECT_EQ(report.tokens_attended[static_cast<int>(LayerRole::kReuse)],
                (kLayers - num_full) * 32.0);
      // The same with layers that read their own choice.
      const DecodedRow own = FirstRow(Plan("tidal-paper:select=" + both + ":budget=32"));
      EXPECT_EQ(ChoosingLayers(own), selections);
      EXPECT_EQ(own.report.layers[static_cast<int>(LayerRole::kFull)], s);
      EXPECT_EQ(own.report.layers[static_cast<int>(LayerRole::kSelection)],
                static_cast<int32_t>(selections.size()));
    }
  }
}

// Layers before S do not know of any choice: a set at S or after it changes nothing before.
TEST_F(PlanSchedule, ALaterChoiceDoesNotReachBack) {
  const DecodedRow two = FirstRow(Plan("tidal:select=1+3:budget=40:recent=4"));
  const DecodedRow three = FirstRow(Plan("tidal:select=1+3+5:budget=40:recent=4"));
  ASSERT_EQ(three.selections.size(), 3u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(two.selections[i].sets, three.selections[i].sets);
  EXPECT_NE(two.logits, three.logits);
}

// A re-selection replaces: where all layers up to R read everything, what S chose has no reader.
TEST_F(PlanSchedule, ReselectionReplacesTheSet) {
  const DecodedRow with_s = FirstRow(Plan("tidal:full=0+1+2+3:select=1+3:budget=40:recent=4"));
  const DecodedRow without = FirstRow(Plan("tidal:full=0+1+2+3:select=3:budget=40:recent=4"));
  ASSERT_EQ(with_s.selections.size(), 2u);
  EXPECT_NE(with_s.selections[0].sets, with_s.selections[1].sets);
  EXPECT_EQ(with_s.selections[1].sets, without.selections[0].sets);
  EXPECT_EQ(with_s.logits, without.logits);
}

// The comparison with the reference would notice a wrong set: give it one, at S and at R, for one
// head and with a single token exchanged.
TEST_F(PlanSchedule, AWrongSetWouldBeNoticed) {
  const AttentionPlan plan = Plan("tidal-paper:full=0:select=1+3:budget=32");
  const DecodedRow row = FirstRow(plan);
  const auto with_wrong_set = [&](int32_t layer) {
    PlanReference reference = reference_;
    const ReferenceRow wrong = reference.Decode(
        tokens_[kPrompt], plan, {},
        [&](const ReferenceSelection& selection, std::vector<TokenMask>* sets) {
          if (selection.layer != layer) return;
          TokenMask& set = sets->back();
          const auto [least, most] = std::minmax_element(set.begin(), set.end());
          std::swap(*least, *most);  // the first token outside for the first inside
        });
    return WorstDifference(row.logits, wrong.logits);
  };
  EXPECT_LE(with_wrong_set(-1), kF32Logits);
  EXPECT_GT(with_wrong_set(1), 20 * kF32Logits);
  EXPECT_GT(with_wrong_set(3), 20 * kF32Logits);
}

// Head h of a reuse layer uses set h: exchanging the sets of two heads would be noticed as well.
TEST_F(PlanSchedule, HeadsUseTheirOwnSets) {
  const AttentionPlan plan = Plan("tidal-paper:full=0:select=1:budget=32");
  const DecodedRow row = FirstRow(plan);
  PlanReference reference = reference_;
  const ReferenceRow swapped = reference.Decode(
      tokens_[kPrompt], plan, {}, [](const ReferenceSelection&, std::vector<TokenMask>* sets) {
        std::swap((*sets)[0], (*sets)[1]);
      });
  EXPECT_GT(WorstDifference(row.logits, swapped.logits), 20 * kF32Logits);
}

// Each step chooses from scratch: sets change from row to row, and a row after another plan's row
// is what it is without that.
TEST_F(PlanSchedule, EveryStepChoosesAnew) {
  const AttentionPlan plan = Plan("tidal:select=1+3:budget=40:recent=4");
  const DecodedRow first = FirstRow(plan);
  const DecodedRow second = harness_.Decode(0, tokens_[kPrompt + 1], &plan);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(second.selections[i].fresh);
    TokenMask grown = first.selections[i].sets[0];
    grown.push_back(1);
    EXPECT_NE(second.selections[i].sets[0], grown);
  }
  const AttentionPlan other = Plan("tidal-paper:full=0:select=1+3:budget=16");
  FirstRow(other);
  const DecodedRow again = FirstRow(plan);
  EXPECT_EQ(again.selections[0].sets, first.selections[0].sets);
  EXPECT_EQ(again.logits, first.logits);
}

// No layer's cache is another's: after sparse rows a full row reads what every layer's rows wrote.
TEST_F(PlanSchedule, EveryLayerKeepsItsOwnKeysAndValues) {
  const AttentionPlan sparse = Plan("tidal:select=0+2:budget=32:recent=4");
  harness_.Truncate(0, kPrompt);
  PlanComparison comparison;
  DecodeAndCompare(&harness_, 0, sparse, std::span(tokens_).subspan(kPrompt, 6),
                   F32Tolerance(sparse), &reference_, &comparison);
  for (int32_t layer = 1; layer < kLayers; ++layer)
    ASSERT_NE(reference_.kv(layer).keys, reference_.kv(layer - 1).keys);
  const AttentionPlan full;
  DecodeAndCompare(&harness_, 0, full, std::span(tokens_).last(4), F32Tolerance(full), &reference_,
                   &comparison);
}

}  // namespace
}  // namespace tidal
