// Log-probabilities of real models against those of the official model code (oracle_prompts.h).

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "oracle_prompts.h"

namespace tidal {
namespace {

constexpr int kCompared =
    3;  // of the 8 stored: the mean over the three best is what the bounds speak of
constexpr int kAskedFor = 64;  // an oracle's third best lies well within our 64 best

struct Bounds {
  double mean;  // of the absolute difference over the three best
  double worst;
  double
      top1_gap;  // the best token must agree where the oracle's lead over its second exceeds this
};
// Plain float32: what is left is the order of sums over some hundred products a layer.
constexpr Bounds kF32{0.005, 0.02, 0.05};
// 8-bit activations, as other runtimes use them; they measure 0.083 (SmolLM2) and 0.044
// (Qwen2.5-Coder-0.5B) on this data.
constexpr double kNoWorst = INFINITY;
constexpr Bounds kFastSmollm2{0.085, kNoWorst, 1.0};
constexpr Bounds kFastQwen{0.045, kNoWorst, 1.0};
// An 8-bit cache adds an error of the size of the activations' own.
Bounds Doubled(const Bounds& bounds) {
  return {2 * bounds.mean, 2 * bounds.worst, bounds.top1_gap};
}

struct Outcome {
  double sum = 0;
  double worst = 0;
  int64_t count = 0;
  int changed_top1 = 0;
};

float LogprobIn(const std::vector<TokenLogprob>& top, TokenId id) {
  for (const TokenLogprob& entry : top) {
    if (entry.id == id) return entry.logprob;
  }
  return NAN;  // fails every comparison
}

void Compare(const Prompt& prompt, const Scores& scores, double top1_gap, Outcome* outcome) {
  for (size_t pos = 0; pos < prompt.top.size(); ++pos) {
    const auto& expected = prompt.top[pos];
    for (int i = 0; i < kCompared; ++i) {
      const double difference =
          std::abs(static_cast<double>(LogprobIn(scores.top[pos], expected[i].id)) -
                   static_cast<double>(expected[i].logprob));
      ASSERT_FALSE(std::isnan(difference))
          << prompt.name << " position " << pos << " lacks token " << expected[i].id;
      outcome->sum += difference;
      outcome->worst = std::max(outcome->worst, difference);
      ++outcome->count;
    }
    const bool clear_lead = expected[0].logprob - expected[1].logprob > top1_gap;
    if (clear_lead && scores.top[pos][0].id != expected[0].id) ++outcome->changed_top1;
  }
}

struct Mode {
  Precision precision = Precision::kFast;
  CacheType cache = CacheType::kF16;
  int32_t batch = 512;
  int32_t prefill = -1;     // as in Request::score_prefill
  size_t max_prompts = 99;  // row by row and portable code are slow: fewer prompts there
};

void CheckModel(const std::string& model, Isa isa, const Mode& mode, const Bounds& bounds) {
  const auto path = FindRealModel(model);
  if (!path) GTEST_SKIP() << model << " is not there";
  EngineOptions options{.model_path = *path,
                        .device = TestDevice(),
                        .ctx_size = 512,
                        .isa = isa,
                        .precision = mode.precision,
                        .k_cache_type = mode.cache,
                        .v_cache_type = mode.cache,
                        .max_batch_tokens = mode.batch};
  auto engine = Engine::Create(options, nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const SequenceId sequence = (*engine)->OpenSequence().value();
  Outcome outcome;
  std::vector<Prompt> prompts = ReadOracle(model);
  ASSERT_FALSE(prompts.empty());
  if (prompts.size() > mode.max_prompts) prompts.resize(mode.max_prompts);
  for (const Prompt& prompt : prompts) {
    const Scores scores = ScorePrompt(engine->get(), sequence, prompt.ids, kAskedFor, mode.prefill);
    Compare(prompt, scores, bounds.top1_gap, &outcome);
  }
  const double mean = outcome.sum / static_cast<double>(outcome.count);
  std::printf(
      "%s %s %s cache %s batch %d%s: mean %.4f (bound %.4f), worst %.3f, changed top-1 %d\n",
      model.c_str(), NameOf(isa), NameOf(mode.precision), NameOf(mode.cache), mode.batch,
      mode.prefill >= 0 ? " row by row" : "", mean, bounds.mean, outcome.worst,
      outcome.changed_top1);
  EXPECT_LE(mean, bounds.mean);
  EXPECT_LE(outcome.worst, bounds.worst);
  EXPECT_EQ(outcome.changed_top1, 0);
}

class OracleTest : public testing::TestWithParam<Isa> {
 protected:
  // Portable code runs several times slower: it sees fewer prompts.
  size_t Few() const { return GetParam() == Isa::kPortable ? 1 : 2; }
  size_t Many() const { return GetParam() == Isa::kPortable ? 2 : 99; }
};

TEST_P(OracleTest, Smollm2Float32) {
  const Mode whole{.precision = Precision::kF32, .cache = CacheType::kF32, .max_prompts = Many()};
  CheckModel("smollm2-135m", GetParam(), whole, kF32);
}

TEST_P(OracleTest, Smollm2Float32InChunks) {
  const Mode chunks{
      .precision = Precision::kF32, .cache = CacheType::kF32, .batch = 7, .max_prompts = Few()};
  CheckModel("smollm2-135m", GetParam(), chunks, kF32);
}

TEST_P(OracleTest, Smollm2Float32RowByRow) {
  const Mode rows{
      .precision = Precision::kF32, .cache = CacheType::kF32, .prefill = 1, .max_prompts = 1};
  CheckModel("smollm2-135m", GetParam(), rows, kF32);
}

TEST_P(OracleTest, Smollm2Fast) {
  CheckModel("smollm2-135m", GetParam(), {.max_prompts = Many()}, kFastSmollm2);
}

TEST_P(OracleTest, Smollm2FastInChunks) {
  CheckModel("smollm2-135m", GetParam(), {.batch = 16, .max_prompts = Many()}, kFastSmollm2);
}

TEST_P(OracleTest, Smollm2FastRowByRow) {
  CheckModel("smollm2-135m", GetParam(), {.prefill = 1, .max_prompts = Many()}, kFastSmollm2);
}

TEST_P(OracleTest, Smollm2FastQ8Cache) {
  CheckModel("smollm2-135m", GetParam(), {.cache = CacheType::kQ8_0, .max_prompts = Many()},
             Doubled(kFastSmollm2));
}

TEST_P(OracleTest, Smollm2FastQ8CacheRowByRow) {
  CheckModel("smollm2-135m", GetParam(),
             {.cache = CacheType::kQ8_0, .prefill = 1, .max_prompts = Many()},
             Doubled(kFastSmollm2));
}

TEST_P(OracleTest, Smollm2FastBf16Cache) {
  CheckModel("smollm2-135m", GetParam(), {.cache = CacheType::kBF16, .max_prompts = Many()},
             Doubled(kFastSmollm2));
}

// The larger models take minutes in portable code; they run on the SIMD paths.
class LargeOracleTest : public testing::TestWithParam<std::tuple<Isa, const char*>> {
 protected:
  void Check(const Mode& mode, const Bounds& bounds) {
    CheckModel(std::get<1>(GetParam()), std::get<0>(GetParam()), mode, bounds);
  }
};

TEST_P(LargeOracleTest, Float32) {
  Check({.precision = Precision::kF32, .cache = CacheType::kF32}, kF32);
}
TEST_P(LargeOracleTest, Fast) { Check({}, kFastQwen); }
TEST_P(LargeOracleTest, FastInChunks) { Check({.batch = 16}, kFastQwen); }
TEST_P(LargeOracleTest, FastRowByRow) { Check({.prefill = 1}, kFastQwen); }
TEST_P(LargeOracleTest, FastQ8Cache) { Check({.cache = CacheType::kQ8_0}, Doubled(kFastQwen)); }
TEST_P(LargeOracleTest, FastQ8CacheRowByRow) {
  Check({.cache = CacheType::kQ8_0, .prefill = 1}, Doubled(kFastQwen));
}

std::vector<Isa> SimdIsas() {
  std::vector<Isa> isas = TestableIsas();
  if (isas.size() > 1) isas.erase(isas.begin());
  return isas;
}

INSTANTIATE_TEST_SUITE_P(Isas, OracleTest, testing::ValuesIn(TestableIsas()),
                         [](const auto& param) { return std::string(NameOf(param.param)); });
INSTANTIATE_TEST_SUITE_P(
    Models, LargeOracleTest,
    testing::Combine(testing::ValuesIn(SimdIsas()),
                     testing::Values("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")),
    [](const auto& param) {
      return std::string(NameOf(std::get<0>(param.param))) +
             (std::string(std::get<1>(param.param)).find("0.5b") != std::string::npos
                  ? "_Qwen0_5B"
                  : "_Qwen1_5B");
    });

}  // namespace
}  // namespace tidal
