#include "eval/loss.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>

#include "eval/eval_testing.h"

namespace tidal {
namespace {

using testing::HasSubstr;

constexpr const char* kSparse = "tidal:budget=24:recent=8:below=0";

class Losses : public RandomModelTest {
 protected:
  LossRequest SomeRequest() const {
    LossRequest request;
    request.documents = {RandomDocument("a", 400, 1), RandomDocument("b", 300, 2)};
    request.plans = {PlanOf(kSparse), PlanOf("full"), PlanOf("tidal:below=5000"),
                     PlanOf("streaming:budget=24:below=0")};
    request.prefill = 150;  // no multiple of a page
    request.decode = 20;
    request.windows = 2;
    return request;
  }
  LossResult Measure(const LossRequest& request, const EvalHooks& hooks = {}) const {
    const auto engine = Make(NeedsOf(request));
    Result<LossResult> result = MeasureLoss(engine.get(), request, hooks);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? *std::move(result) : LossResult();
  }
};

// The distributions of a window's decoded rows, each token's probability, by scoring it alone.
std::vector<std::vector<double>> ScoredAlone(Engine* engine, std::span<const TokenId> window,
                                             int32_t prefill, const AttentionPlan& plan) {
  const SequenceId sequence = engine->OpenSequence().value();
  Request request;
  request.prompt.assign(window.begin(), window.end() - 1);
  request.max_tokens = 0;
  request.score_top = engine->model().config().vocab_size;
  request.score_prefill = prefill;
  request.score_from = prefill;
  request.attention = plan;
  EXPECT_TRUE(engine->Submit(sequence, std::move(request)).ok());
  std::vector<Event> events;
  while (!engine->idle()) EXPECT_TRUE(engine->Step(&events).ok());
  engine->CloseSequence(sequence);
  std::vector<std::vector<double>> rows;
  for (const Event& event : events) {
    if (event.kind != Event::Kind::kScore) continue;
    auto& row = rows.emplace_back(static_cast<size_t>(engine->model().config().vocab_size));
    for (const TokenLogprob& top : event.top)
      row[static_cast<size_t>(top.id)] = std::exp(static_cast<double>(top.logprob));
  }
  return rows;
}

TEST_F(Losses, AreThoseOfScoredTexts) {
  const LossRequest request = SomeRequest();
  const LossResult result = Measure(request);
  ASSERT_EQ(result.windows.size(), 4u);
  EXPECT_EQ(result.windows[1].begin, 400 - 171);
  EXPECT_EQ(result.windows[2].document, 1);
  const auto engine = Make({.context = 170, .sequences = 1, .cache_tokens = 0});
  for (const size_t w : {size_t{0}, size_t{3}}) {
    const LossWindow& window = result.windows[w];
    const auto& tokens = request.documents[static_cast<size_t>(window.document)].tokens;
    const auto text = std::span(tokens).subspan(static_cast<size_t>(window.begin), 171);
    const auto full = ScoredAlone(engine.get(), text, 150, AttentionPlan());
    for (const size_t p : {size_t{0}, size_t{3}}) {
      const auto sparse = ScoredAlone(engine.get(), text, 150, request.plans[p].plan);
      const auto& losses = result.plans[p].windows[w].tokens;
      ASSERT_EQ(losses.size(), full.size());
      for (size_t row = 0; row < full.size(); ++row) {
        double kl = 0;
        for (size_t i = 0; i < full[row].size(); ++i)
          kl += full[row][i] * std::log(full[row][i] / sparse[row][i]);
        const auto next = static_cast<size_t>(text[150 + row + 1]);
        // What is compared comes as float32 logarithms, and other chunks of the prefill round
        // otherwise: both some 1e-6 of logits of up to ten.
        EXPECT_NEAR(static_cast<double>(losses[row].kl), kl, 1e-4);
        EXPECT_NEAR(static_cast<double>(losses[row].extra_nats),
                    std::log(full[row][next] / sparse[row][next]), 1e-4);
        const auto best = [](const std::vector<double>& probs) {
          return std::max_element(probs.begin(), probs.end()) - probs.begin();
        };
        EXPECT_EQ(losses[row].agrees, best(full[row]) == best(sparse[row]));
      }
    }
  }
}

TEST_F(Losses, AFullRowLosesNothingExactly) {
  const LossResult result = Measure(SomeRequest());
  for (const size_t p : {size_t{1}, size_t{2}}) {  // full, and everything below `below`
    const LossSummary& summary = result.plans[p].summary;
    EXPECT_EQ(summary.kl.value, 0);
    EXPECT_EQ(summary.kl.high, 0);
    EXPECT_EQ(summary.kl_p99.value, 0);
    EXPECT_EQ(summary.extra_nats.value, 0);
    EXPECT_EQ(summary.agreement.value, 1);
    EXPECT_FALSE(result.plans[p].guard) << "no sparse row, nothing to predict";
  }
  EXPECT_GT(result.plans[0].summary.kl.value, 0.001) << "a plan that reads 24 of 150 tokens";
}

TEST_F(Losses, SummariesAreMeansOverTokens) {
  LossRequest request = SomeRequest();
  request.divergence = true;
  request.speed_steps = 3;
  const LossResult result = Measure(request);
  EXPECT_FALSE(result.interrupted);
  for (const PlanLoss& plan : result.plans) {
    double kl = 0;
    std::vector<double> all;
    for (const PlanWindow& window : plan.windows)
      for (const TokenLoss& token : window.tokens) all.push_back(static_cast<double>(token.kl));
    for (const double value : all) kl += value / static_cast<double>(all.size());
    EXPECT_EQ(plan.summary.tokens, 80);
    EXPECT_NEAR(plan.summary.kl.value, kl, 1e-12);
    EXPECT_LE(plan.summary.kl.low, plan.summary.kl.value);
    EXPECT_GE(plan.summary.kl.high, plan.summary.kl.value);
    // 20 tokens a window: the last quarter is 15 to 19.
    double last = 0;
    for (const PlanWindow& window : plan.windows)
      for (size_t row = 15; row < 20; ++row) last += static_cast<double>(window.tokens.at(row).kl);
    ASSERT_EQ(plan.summary.kl_along.size(), static_cast<size_t>(kLossParts));
    EXPECT_NEAR(plan.summary.kl_along[3], last / 20, 1e-12);
    EXPECT_NEAR(plan.summary.kl_over_first.value,
                plan.summary.kl.value - result.plans[0].summary.kl.value, 1e-12);
    ASSERT_TRUE(plan.summary.same_text);
    ASSERT_TRUE(plan.speed);
    EXPECT_GT(plan.speed->tokens_per_s, 0);
    EXPECT_EQ(plan.speed->context, 151);
  }
  EXPECT_EQ(result.plans[1].summary.same_text->value, 19) << "full attention against itself";
  EXPECT_GT(result.plans[0].speed->scan_bytes, 0);
  EXPECT_GT(result.plans[0].speed->gather_bytes, 0);
  EXPECT_EQ(result.plans[0].speed->full_bytes, 0);
  EXPECT_EQ(result.plans[1].speed->scan_bytes, 0);
  EXPECT_GT(result.full_speed->full_bytes, result.plans[0].speed->gather_bytes);
  ASSERT_TRUE(result.plans[0].guard);
  EXPECT_EQ(result.plans[0].guard->rows, 80);
  EXPECT_FALSE(result.plans[3].guard) << "streaming scores nothing";
  EXPECT_EQ(result.plans[0].attention.sparse_rows, 80);
}

TEST_F(Losses, LayersTellWhatTheirSetsHold) {
  LossRequest request = SomeRequest();
  request.plans = {PlanOf(kSparse), PlanOf("full"), PlanOf("streaming:budget=24:below=0"),
                   PlanOf("tidal:budget=24:recent=8:below=0:full=0:select=1")};
  const LossResult result = Measure(request);
  const auto rows_of = [&](size_t plan) {
    std::vector<int64_t> rows;
    for (const LayerMass& mass : result.plans[plan].layer_mass) rows.push_back(mass.rows);
    return rows;
  };
  EXPECT_EQ(rows_of(0), (std::vector<int64_t>(4, 4 * 20))) << "twenty rows of each of four windows";
  EXPECT_EQ(rows_of(1), (std::vector<int64_t>(4, 0))) << "full attention chooses nothing";
  EXPECT_EQ(rows_of(2), (std::vector<int64_t>(4, 0))) << "streaming scores nothing";
  EXPECT_EQ(rows_of(3), (std::vector<int64_t>{0, 80, 0, 0}));
  // The one layer that chooses has the row's mass; of four layers the row has the least.
  double row_sum = 0;
  for (const PlanWindow& window : result.plans[3].windows)
    for (const TokenLoss& token : window.tokens)
      row_sum += static_cast<double>(token.selected_mass);
  EXPECT_NEAR(result.plans[3].layer_mass[1].sum, row_sum, 1e-5);
  for (const LayerMass& mass : result.plans[0].layer_mass) {
    EXPECT_GT(mass.sum, 0);
    EXPECT_LE(mass.sum, 80.001);
  }
}

TEST_F(Losses, PlansBesideOthersLoseWhatTheyLoseAlone) {
  const LossResult together = Measure(SomeRequest());
  LossRequest request = SomeRequest();
  request.plans = {request.plans[3]};
  const LossResult alone = Measure(request);
  for (size_t w = 0; w < 4; ++w)
    for (size_t row = 0; row < 20; ++row)
      EXPECT_EQ(alone.plans[0].windows[w].tokens[row].kl,
                together.plans[3].windows[w].tokens[row].kl);
}

// Windows share steps, nothing else: a random model in float32 gives the same whatever is beside
// it.
TEST_F(Losses, WindowsSideBySideLoseWhatTheyLoseOneByOne) {
  LossRequest request = SomeRequest();
  request.divergence = true;
  request.speed_steps = 2;
  const LossResult one_by_one = Measure(request);
  request.side_by_side = 3;  // three, and one is left
  const LossResult together = Measure(request);
  ASSERT_EQ(together.windows.size(), 4u);
  for (size_t w = 0; w < 4; ++w) {
    EXPECT_EQ(together.windows[w].begin, one_by_one.windows[w].begin);
    EXPECT_EQ(together.windows[w].full_nats, one_by_one.windows[w].full_nats);
    for (size_t p = 0; p < request.plans.size(); ++p) {
      const PlanWindow& window = together.plans[p].windows[w];
      const PlanWindow& expected = one_by_one.plans[p].windows[w];
      EXPECT_EQ(window.same_text, expected.same_text);
      for (size_t row = 0; row < 20; ++row)
        EXPECT_EQ(window.tokens[row].kl, expected.tokens[row].kl);
    }
  }
  EXPECT_TRUE(together.full_speed);
}

// Such a plan's rows come later than those of full attention.
TEST_F(Losses, CorrectedPlansAreComparedRowByRow) {
  LossRequest request = SomeRequest();
  request.plans = {PlanOf(std::string(kSparse) + ":correct=4"), PlanOf(kSparse)};
  const LossResult result = Measure(request);
  EXPECT_EQ(result.plans[0].attention.correction.rows, 4 * 16) << "four times in twenty rows";
  for (const PlanWindow& window : result.plans[0].windows) {
    ASSERT_EQ(window.tokens.size(), 20u);
    for (const TokenLoss& token : window.tokens) EXPECT_GT(token.kl, 0);
  }
  // Until the first correction nothing differs.
  for (size_t row = 0; row < 4; ++row)
    EXPECT_EQ(result.plans[0].windows[0].tokens[row].kl, result.plans[1].windows[0].tokens[row].kl);
}

TEST_F(Losses, WhatWasFinishedIsKept) {
  const LossRequest request = SomeRequest();
  int steps = 0;
  const LossResult result = Measure(request, {[&] { return ++steps > 60; }, nullptr});
  EXPECT_TRUE(result.interrupted);
  ASSERT_EQ(result.windows.size(), 2u);
  const LossResult whole = Measure(request);
  for (size_t w = 0; w < 2; ++w)
    EXPECT_EQ(result.plans[0].windows[w].tokens[5].kl, whole.plans[0].windows[w].tokens[5].kl);
  EXPECT_EQ(result.plans[0].summary.tokens, 40);
  steps = 1000;
  EXPECT_TRUE(Measure(request, {[&] { return ++steps > 60; }, nullptr}).windows.empty());
}

TEST_F(Losses, ProgressRisesToTheEnd) {
  LossRequest request = SomeRequest();
  request.divergence = true;
  for (const int32_t side_by_side : {1, 3}) {
    request.side_by_side = side_by_side;
    double last = 0;
    Measure(request, {nullptr, [&](double fraction, const std::string& what) {
                        EXPECT_GE(fraction, last - 1e-12);
                        EXPECT_LE(fraction, 1.0000001);
                        EXPECT_THAT(what, HasSubstr(" of 4"));
                        last = fraction;
                      }});
    EXPECT_NEAR(last, 1, 1e-9);
  }
}

TEST(WindowBegins, SpreadsWindowsAndRefusesShortTexts) {
  const EvalDocument document = RandomDocument("short.txt", 100, 1);
  EXPECT_EQ(WindowBegins(document, 50, 20, 1).value(), (std::vector<int64_t>{0}));
  EXPECT_EQ(WindowBegins(document, 39, 20, 3).value(), (std::vector<int64_t>{0, 20, 40}));
  EXPECT_EQ(WindowBegins(document, 79, 20, 1).value(), (std::vector<int64_t>{0}));
  const auto wrong = WindowBegins(document, 40, 20, 3);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(wrong.status().message(),
              HasSubstr("short.txt has 100 tokens, but 3 windows of 40 prefilled and 20 decoded "
                        "tokens need 101"));
}

}  // namespace
}  // namespace tidal
