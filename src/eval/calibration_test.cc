// Calibrations of a small random model, beside brute force over the losses of tidal eval loss.
#include "eval/calibration.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <map>

#include "attention/sidecar.h"
#include "eval/calibration_speed.h"
#include "eval/eval_testing.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Calibrations : public RandomModelTest {
 protected:
  static constexpr int32_t kPrefill = 256;

  static CalibrationRequest SomeRequest() {
    CalibrationRequest request;
    request.texts = {RandomDocument("a", 400, 1), RandomDocument("b", 400, 2)};
    request.held_out = {RandomDocument("c", 400, 3), RandomDocument("d", 400, 4)};
    request.prefill = kPrefill;
    request.decode = 8;
    request.held_out_decode = 12;
    request.budgets = {72, 128};
    request.scopes = {SetScope::kShared, SetScope::kKvHead};
    return request;
  }
  Result<CalibrationResult> Run(const CalibrationRequest& request, CalibrationLog* log,
                                const EvalHooks& hooks = {}) const {
    return Calibrate(
        request,
        [this](const EvalNeeds& needs, int32_t bits) {
          EngineOptions options = Options(needs);
          options.index_bits = bits;
          return Engine::Create(options, nullptr);
        },
        log, hooks);
  }
  CalibrationResult Run(const CalibrationRequest& request) const {
    CalibrationLog log;
    Result<CalibrationResult> result = Run(request, &log);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? *std::move(result) : CalibrationResult();
  }

  // The loss of every set of layers with layer 0, by MeasureLoss.
  std::map<LayerSet, double> AllLosses(const CalibrationRequest& request,
                                       const std::vector<EvalDocument>& texts, int32_t decode,
                                       int32_t budget, SetScope scope) const {
    LossRequest loss;
    loss.documents = texts;
    loss.prefill = request.prefill;
    loss.decode = decode;
    std::vector<LayerSet> sets;
    for (uint32_t others = 0; others < 1U << (kNumLayers - 1); ++others) {
      LayerSet& set = sets.emplace_back(LayerSet{0});
      for (int32_t layer = 1; layer < kNumLayers; ++layer)
        if ((others >> (layer - 1) & 1U) != 0) set.push_back(layer);
      std::string layers = "0";
      for (size_t i = 1; i < set.size(); ++i) layers += "+" + std::to_string(set[i]);
      loss.plans.push_back(PlanOf("tidal:below=0:budget=" + std::to_string(budget) +
                                  ":select=" + layers + ":scope=" + NameOf(scope)));
    }
    // Windows of another length would begin elsewhere.
    for (EvalDocument& text : loss.documents)
      text.tokens.resize(static_cast<size_t>(loss.prefill + loss.decode) + 1);
    const auto engine = Make(NeedsOf(loss));
    const LossResult result = MeasureLoss(engine.get(), loss, {}).value();
    std::map<LayerSet, double> losses;
    for (size_t i = 0; i < sets.size(); ++i) losses[sets[i]] = result.plans[i].summary.kl.value;
    return losses;
  }
};

// Sets on the way from all layers to `fewest`, and from layer 0 to `most`, always by the least
// loss.
std::map<size_t, LayerSet> GreedySets(const std::map<LayerSet, double>& losses, size_t fewest = 1,
                                      size_t most = 4) {
  std::map<size_t, LayerSet> best;
  const auto offer = [&](const LayerSet& set) {
    const auto [of_size, is_new] = best.try_emplace(set.size(), set);
    if (!is_new && losses.at(set) < losses.at(of_size->second)) of_size->second = set;
  };
  for (const bool drops : {true, false}) {
    LayerSet set = drops ? LayerSet{0, 1, 2, 3} : LayerSet{0};
    offer(set);
    while (drops ? set.size() > fewest : set.size() < most) {
      LayerSet next;
      for (const auto& [other, loss] : losses) {
        const LayerSet& large = drops ? set : other;
        const LayerSet& small = drops ? other : set;
        if (small.size() + 1 != large.size() ||
            !std::includes(large.begin(), large.end(), small.begin(), small.end()))
          continue;
        offer(other);
        if (next.empty() || loss < losses.at(next)) next = other;
      }
      set = next;
    }
  }
  return best;
}

TEST_F(Calibrations, FindTheFewestLayersWithinALoss) {
  CalibrationRequest request = SomeRequest();
  request.scopes = {SetScope::kShared};
  request.budgets = {72};
  const auto losses = AllLosses(request, request.texts, request.decode, 72, SetScope::kShared);
  const auto sets = GreedySets(losses);
  const auto checked =
      AllLosses(request, request.held_out, request.held_out_decode, 72, SetScope::kShared);
  for (size_t size = 1; size <= 4; ++size) {
    // A target that this size meets just so.
    request.target.max_kl = losses.at(sets.at(size)) * (1 + 1e-6);
    const CalibrationResult result = Run(request);
    LayerSet expected;
    for (const auto& [fewest, set] : sets)
      if (expected.empty() && losses.at(set) <= request.target.max_kl) expected = set;
    ASSERT_EQ(result.plans.size(), 1u);
    const CalibratedPlan& plan = result.plans[0];
    EXPECT_EQ(plan.point.select, expected);
    EXPECT_TRUE(plan.meets_target);
    // The same rows beside others, and means in another order.
    EXPECT_NEAR(plan.point.kl, losses.at(expected), 1e-9);
    ASSERT_TRUE(plan.held_out_kl);
    EXPECT_NEAR(plan.held_out_kl->value, checked.at(expected), 1e-9);
    EXPECT_NEAR(plan.every_layer_kl->value, checked.at({0, 1, 2, 3}), 1e-9);
    EXPECT_LE(plan.held_out_kl->low, plan.held_out_kl->value);
  }
}

TEST_F(Calibrations, FindTheLeastLossWithinAScan) {
  CalibrationRequest request = SomeRequest();
  request.budgets = {72};
  // Float32 K and V take 64 bits a channel, an index of 4 bits 4.5 and its bounds of a page.
  for (const int32_t most : {1, 2, 3}) {
    request.target = {.max_scan_share = (most + 0.5) / kNumLayers * 4.5 / 64};
    const CalibrationResult result = Run(request);
    double least = HUGE_VAL;
    SetScope scope = SetScope::kShared;
    for (const SetScope tried : request.scopes) {
      const auto losses = AllLosses(request, request.texts, request.decode, 72, tried);
      const auto limit = static_cast<size_t>(most);
      for (const auto& [size, set] : GreedySets(losses, limit, limit)) {
        if (size > limit || losses.at(set) >= least) continue;
        least = losses.at(set);
        scope = tried;
      }
    }
    ASSERT_EQ(result.plans.size(), 1u);
    EXPECT_NEAR(result.plans[0].point.kl, least, 1e-9) << most;
    EXPECT_EQ(result.plans[0].point.scope, scope);
    EXPECT_LE(result.plans[0].point.scan_bytes, request.target.max_scan_share * result.all_bytes);
  }
}

TEST_F(Calibrations, EachBudgetGetsAPlanAndTheFrontIsOne) {
  CalibrationRequest request = SomeRequest();
  request.index_bits = {4, 2};
  const auto losses = AllLosses(request, request.texts, request.decode, 128, SetScope::kShared);
  request.target.max_kl = losses.at({0, 1, 2, 3}) * 1.2;
  const CalibrationResult result = Run(request);
  ASSERT_EQ(result.plans.size(), 2u);
  EXPECT_EQ(result.plans[0].point.budget, 72);
  EXPECT_EQ(result.plans[1].point.budget, 128);
  EXPECT_TRUE(result.plans[1].meets_target);
  for (const CalibratedPlan& plan : result.plans) {
    EXPECT_EQ(plan.point.index_bits, result.index_bits);
    if (plan.meets_target) {
      EXPECT_LE(plan.point.kl, request.target.max_kl);
    } else {
      EXPECT_THAT(plan.point.select, ElementsAre(0, 1, 2, 3)) << "then every layer chooses";
    }
  }
  const std::vector<CalibrationPoint> front = FrontOf(result.points);
  for (size_t i = 1; i < front.size(); ++i) {
    EXPECT_GT(front[i].bytes(), front[i - 1].bytes());
    EXPECT_LT(front[i].kl, front[i - 1].kl);
  }
  for (const CalibrationPoint& point : result.points)
    EXPECT_TRUE(std::any_of(front.begin(), front.end(), [&](const CalibrationPoint& other) {
      return other.bytes() <= point.bytes() && other.kl <= point.kl;
    }));
}

// All but times, which are never the same.
std::string Told(const CalibrationResult& result) {
  std::string text = std::to_string(result.index_bits) + " " + std::to_string(result.recommended);
  for (const CalibratedPlan& plan : result.plans)
    text += fmt::format("\n{} {} {} {}", PlanText(plan.point), plan.point.kl,
                        plan.held_out_kl->value, plan.every_layer_kl->high);
  for (const CalibrationPoint& point : result.points)
    text += fmt::format("\n{} {}", PlanText(point), point.kl);
  return text;
}

TEST_F(Calibrations, GoOnWhereTheyWereStopped) {
  CalibrationRequest request = SomeRequest();
  request.index_bits = {4, 2};
  request.target.max_kl = 1;
  const std::string whole = Told(Run(request));
  const std::string state = File("state");
  int runs = 0;
  std::optional<CalibrationResult> result;
  while (!result && ++runs < 50) {
    CalibrationLog log = CalibrationLog::Open(state, {}).value();
    int steps = 0;
    double last = 0;
    const EvalHooks hooks = {[&] { return ++steps > 60; },
                             [&](double fraction, const std::string&) {
                               EXPECT_GE(fraction, last - 1e-12);
                               EXPECT_LE(fraction, 1 + 1e-12);
                               last = fraction;
                             }};
    Result<CalibrationResult> part = Run(request, &log, hooks);
    if (part.ok()) {
      result = *std::move(part);
    } else {
      ASSERT_EQ(part.status().code(), StatusCode::kCancelled) << part.status().message();
      // The last stage times and keeps nothing.
      if (log.num_read() > 0 && runs > 40) break;
    }
  }
  EXPECT_GT(runs, 3);
  if (!result) {
    CalibrationLog log = CalibrationLog::Open(state, {}).value();
    result = Run(request, &log).value();
  }
  EXPECT_EQ(Told(*result), whole);
}

TEST_F(Calibrations, PlansAreThoseThatSelectAutoGives) {
  CalibrationRequest request = SomeRequest();
  request.target = {.max_scan_share = 2.5 / kNumLayers * 4.5 / 64};
  const CalibrationResult result = Run(request);
  std::vector<MeasuredEntry> entries;
  for (const CalibratedPlan& plan : result.plans) {
    SidecarEntry entry;
    entry.preset = "tidal";
    entry.budget = plan.point.budget;
    entry.below = 0;
    entry.select = plan.point.select;
    entry.scope = plan.point.scope;
    entry.scorer = Scorer::kIndex4;
    entries.push_back({entry, {.calibrated_on = "random text"}});
  }
  const std::string hash(64, 'a');
  const Sidecar sidecar =
      Sidecar::Parse("x", SidecarText(hash, entries, ""), hash, kNumLayers, 2).value();
  const PlanModel model = {
      .num_layers = kNumLayers, .num_heads = 4, .num_kv_heads = 2, .sidecar = &sidecar};
  for (const CalibratedPlan& plan : result.plans) {
    const std::string text = fmt::format("tidal:budget={}", plan.point.budget);
    EXPECT_EQ(PlanSpec::Parse(text)->Resolve(model)->ToString(),
              PlanOf(PlanText(plan.point)).plan.ToString());
  }
}

TEST_F(Calibrations, SayWhatIsWrong) {
  CalibrationLog log;
  CalibrationRequest request = SomeRequest();
  request.target.max_kl = 1e-9;
  Status status = Run(request, &log).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(
      status.message(),
      HasSubstr("no plan loses at most 1e-09 nats: the least, with up to 128 tokens, is 0."));
  request.target = {.max_scan_share = 1e-4};
  status = Run(request, &log).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("no plan scans at most 0.01 % of the cache"));
  request.held_out[1].tokens.resize(200);
  EXPECT_THAT(Run(request, &log).status().message(), HasSubstr("d has 200 tokens"));
}

TEST(CalibrationSpeed, BelowIsWhereItStaysFaster) {
  EXPECT_THAT(SpeedContexts(4096), ElementsAre(512, 768, 1024, 1536, 2048, 3072, 4096));
  EXPECT_THAT(SpeedContexts(300), ElementsAre(300));
  const std::vector<ContextSpeed> speeds = {
      {512, 100, {110, 90, 90, 110}}, {1024, 90, {80, 85, 80, 95}}, {2048, 80, {85, 79, 80, 81}}};
  EXPECT_EQ(BelowOf(speeds, 0), 2048) << "not before the longest context where it is slower";
  EXPECT_EQ(BelowOf(speeds, 1), 2049) << "slower at all";
  EXPECT_EQ(BelowOf(speeds, 2), 2049) << "as fast is not faster";
  EXPECT_EQ(BelowOf(speeds, 3), 512);
}

}  // namespace
}  // namespace tidal
