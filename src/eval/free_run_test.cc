#include "eval/free_run.h"

#include <algorithm>
#include <cmath>

#include "eval/eval_testing.h"

namespace tidal {
namespace {

class FreeRuns : public RandomModelTest {
 protected:
  FreeRunRequest SomeRequest(const std::vector<std::string>& plans) const {
    FreeRunRequest request;
    request.documents = {RandomDocument("a", 300, 1)};
    for (const std::string& plan : plans) request.plans.push_back(PlanOf(plan));
    request.prefill = 150;
    request.generate = 100;  // more than is read at a time
    request.windows = 2;
    request.sampling.temperature = 0;
    return request;
  }
  FreeRunResult Measure(const FreeRunRequest& request, const EvalHooks& hooks = {}) const {
    const auto engine = Make(NeedsOf(request));
    Result<FreeRunResult> result = MeasureFreeRun(engine.get(), request, hooks);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? *std::move(result) : FreeRunResult();
  }
};

TEST_F(FreeRuns, FullAttentionReadsItsOwnTextToRounding) {
  const FreeRunResult result = Measure(SomeRequest({"full"}));
  ASSERT_EQ(result.plans[0].texts.size(), 2u);
  for (const FreeRunText& text : result.plans[0].texts) {
    ASSERT_EQ(text.kl.size(), text.tokens.size() - 1);
    // Rows of a chunk and rows alone round otherwise: 1e-6 of logits of up to ten, squared in a KL.
    for (const float kl : text.kl) EXPECT_LT(kl, 1e-6F);
  }
}

TEST_F(FreeRuns, TheKlAlongTheTextIsThatOfItsParts) {
  const FreeRunResult result = Measure(SomeRequest({"tidal:budget=24:recent=8:below=0"}));
  const FreeRunPlan& plan = result.plans[0];
  ASSERT_EQ(plan.kl_along.size(), static_cast<size_t>(kFreeRunParts));
  // 99 rows of 100 tokens: the first part of 100 / 16 tokens has seven, rows 0 to 6.
  double sum = 0;
  double count = 0;
  for (const FreeRunText& text : plan.texts) {
    for (size_t row = 0; row < std::min<size_t>(text.kl.size(), 7); ++row) {
      sum += static_cast<double>(text.kl[row]);
      ++count;
    }
  }
  EXPECT_DOUBLE_EQ(plan.kl_along[0], sum / count);
}

// The whole text scored at once by full attention, beside the same text decoded under the plan.
TEST_F(FreeRuns, TheKlIsThatOfTheSameTextForced) {
  const std::string plan = "tidal:budget=24:recent=8:below=0";
  const FreeRunRequest request = SomeRequest({plan, plan + ":correct=8"});
  const FreeRunResult result = Measure(request);
  for (size_t p = 0; p < 2; ++p) {
    const FreeRunText& text = result.plans[p].texts[0];
    LossRequest forced;
    EvalDocument document{"written", {}};
    const auto& source = request.documents[0].tokens;
    document.tokens.assign(source.begin(), source.begin() + 150);
    document.tokens.insert(document.tokens.end(), text.tokens.begin(), text.tokens.end());
    forced.documents = {document};
    forced.plans = {request.plans[p]};
    forced.prefill = 150;
    forced.decode = static_cast<int32_t>(text.kl.size());
    const auto engine = Make(NeedsOf(forced));
    const LossResult expected = MeasureLoss(engine.get(), forced, {}).value();
    for (size_t row = 0; row < text.kl.size(); ++row)
      EXPECT_NEAR(text.kl[row], expected.plans[0].windows[0].tokens[row].kl, 1e-4F)
          << "row " << row << ", rounding as above";
  }
  EXPECT_GT(result.plans[0].kl.value, 0.001);
  EXPECT_GT(result.plans[1].attention.correction.rows, 0);
}

TEST_F(FreeRuns, WindowsSideBySideWriteWhatTheyWriteOneByOne) {
  FreeRunRequest request = SomeRequest({"full", "tidal:budget=24:recent=8:below=0"});
  const FreeRunResult one_by_one = Measure(request);
  request.side_by_side = 2;
  const FreeRunResult together = Measure(request);
  ASSERT_EQ(together.windows.size(), one_by_one.windows.size());
  for (size_t p = 0; p < 2; ++p) {
    for (size_t w = 0; w < together.windows.size(); ++w) {
      EXPECT_EQ(together.windows[w].document, one_by_one.windows[w].document);
      EXPECT_EQ(together.plans[p].texts[w].tokens, one_by_one.plans[p].texts[w].tokens);
    }
  }
}

TEST_F(FreeRuns, FinishedWindowsAreKept) {
  const FreeRunRequest request = SomeRequest({"full"});
  int steps = 0;
  const FreeRunResult result = Measure(request, {[&] { return ++steps > 130; }, nullptr});
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.windows.size(), 1u);
  EXPECT_EQ(result.plans[0].texts.size(), 1u);
}

TEST(RepetitionRate, CountsSequencesThatOccurredBefore) {
  EXPECT_EQ(RepetitionRate({}), 0);
  EXPECT_EQ(RepetitionRate({1, 1, 1, 1, 1, 1, 1}), 0) << "too short";
  EXPECT_DOUBLE_EQ(RepetitionRate(std::vector<TokenId>(17, 5)), 0.9) << "ten sequences, one kind";
  EXPECT_EQ(RepetitionRate({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), 0);
}

}  // namespace
}  // namespace tidal
