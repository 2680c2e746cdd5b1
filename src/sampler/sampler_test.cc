#include "sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <random>

#include "sampler/random.h"
#include "sampler/sampler_testing.h"

namespace tidal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// --- The definition, written down with full sorts in double. ---

struct Kept {
  std::vector<int32_t> ids;           // best first
  std::vector<double> probabilities;  // sum 1
};

// `history` is every token that was accepted, oldest first.
Kept ReferenceDistribution(const SamplingParams& params, std::vector<float> logits,
                           const std::vector<int32_t>& history = {}) {
  for (const auto& [id, bias] : params.logit_bias) logits[static_cast<size_t>(id)] += bias;
  const size_t last =
      params.penalty_last_n < 0
          ? history.size()
          : std::min<size_t>(history.size(), static_cast<size_t>(params.penalty_last_n));
  std::map<int32_t, int> counts;
  for (size_t i = history.size() - last; i < history.size(); ++i) ++counts[history[i]];
  for (const auto& [id, count] : counts) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit <= 0 ? logit * params.repetition_penalty : logit / params.repetition_penalty;
    logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
  }
  std::vector<int32_t> ids;
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > -kInf) ids.push_back(static_cast<int32_t>(i));
  const auto logit_of = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]}; };
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logit_of(a) > logit_of(b); });
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < ids.size())
    ids.resize(static_cast<size_t>(params.top_k));
  const double best = logit_of(ids[0]);
  double total = 0;
  for (const int32_t id : ids) total += std::exp(logit_of(id) - best);
  if (params.top_p < 1) {
    double reached = 0;
    size_t keep = 0;
    while (keep < ids.size()) {
      reached += std::exp(logit_of(ids[keep++]) - best);
      if (reached >= params.top_p * total) break;
    }
    ids.resize(keep);
  }
  if (params.min_p > 0)
    std::erase_if(ids,
                  [&](int32_t id) { return logit_of(id) - best < std::log(double{params.min_p}); });
  Kept kept{ids, {}};
  double sum = 0;
  for (const int32_t id : ids) {
    kept.probabilities.push_back(std::exp((logit_of(id) - best) / params.temperature));
    sum += kept.probabilities.back();
  }
  for (double& probability : kept.probabilities) probability /= sum;
  return kept;
}

// Pearson's statistic of `draws` samples against the reference; a token outside its support fails.
double ChiSquare(const SamplingParams& params, const std::vector<float>& logits, int draws) {
  const Kept expected = ReferenceDistribution(params, logits);
  std::map<int32_t, int> counts;
  Sampler sampler(params, static_cast<int32_t>(logits.size()));
  for (int i = 0; i < draws; ++i) ++counts[sampler.Sample(logits)];
  double statistic = 0;
  int seen = 0;
  for (size_t i = 0; i < expected.ids.size(); ++i) {
    const double mean = draws * expected.probabilities[i];
    const int count = counts[expected.ids[i]];
    seen += count;
    statistic += (count - mean) * (count - mean) / mean;
  }
  EXPECT_EQ(seen, draws) << "a token was drawn that the settings exclude";
  return statistic;
}

// The upper 0.1 % points of the chi-square distribution by degrees of freedom (from tables): with
// the seeds fixed a test either always passes or never does, and a right sampler had one chance in
// a thousand to be given a bad seed.
constexpr double kChiSquare2 = 13.82;
constexpr double kChiSquare3 = 16.27;
constexpr double kChiSquare4 = 18.47;
constexpr double kChiSquare5 = 20.52;

TEST(Random, PhiloxKnownAnswers) {
  // The generator's published test vectors.
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      Philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Random, DrawsAreUniformAndDependOnSeedAndNumber) {
  double sum = 0;
  constexpr int kDraws = 100000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = UniformDraw(7, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
  }
  // Five standard deviations of a mean of uniforms.
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NE(UniformDraw(7, 0), UniformDraw(8, 0));
  EXPECT_NE(UniformDraw(7, 0), UniformDraw(uint64_t{7} << 32, 0));
  EXPECT_NE(UniformDraw(7, 0), UniformDraw(7, uint64_t{1} << 32));
}

TEST(Sampler, GreedyTakesTheBestAndTheSmallerIdAmongEquals) {
  Sampler sampler(Greedy(), 5);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 3, 2, 3, -1}), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2, 2, 2, 2, 2}), 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-5, -5, -4, -4, -9}), 2);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-0.0f, 0.0f, -1, -1, -1}), 0);
}

TEST(Sampler, TiesAtTheTopKBoundaryGoToTheSmallerId) {
  SamplingParams params = Plain();
  params.top_k = 2;
  params.temperature = 100;  // nearly uniform over what is kept
  std::vector<float> logits(3000, 1.0f);
  logits[2999] = 2;
  Sampler sampler(params, 3000);
  std::map<int32_t, int> counts;
  for (int i = 0; i < 200; ++i) ++counts[sampler.Sample(logits)];
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_EQ(counts.count(0), 1u);
  EXPECT_EQ(counts.count(2999), 1u);
}

TEST(Sampler, PlainSoftmaxHasTheRightDistribution) {
  const std::vector<float> logits = {0, 1, 2, -1, 0.5f, 1.5f};
  EXPECT_LT(ChiSquare(Plain(), logits, 100000), kChiSquare5);
}

TEST(Sampler, TemperatureHasTheRightDistribution) {
  SamplingParams params = Plain();
  const std::vector<float> logits = {0, 1, 2, -1, 0.5f, 1.5f};
  for (const float temperature : {0.5f, 0.8f, 1.7f, 10.0f}) {
    params.temperature = temperature;
    params.seed = static_cast<uint64_t>(temperature * 10);
    EXPECT_LT(ChiSquare(params, logits, 100000), kChiSquare5) << temperature;
  }
}

TEST(Sampler, TopKHasTheRightDistribution) {
  SamplingParams params = Plain();
  params.top_k = 4;
  params.seed = 3;
  EXPECT_LT(ChiSquare(params, {0, 1, 2, -1, 0.5f, 1.5f}, 100000), kChiSquare3);
}

TEST(Sampler, TopPHasTheRightDistribution) {
  SamplingParams params = Plain();
  params.seed = 4;
  // Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625: three of them reach 0.8.
  const std::vector<float> logits = {std::log(2.0f), std::log(8.0f), 0.0f, std::log(4.0f), 0.0f};
  params.logit_bias = {{2, 0.0f}};
  params.top_p = 0.8f;
  const Kept kept = ReferenceDistribution(params, logits);
  ASSERT_THAT(kept.ids, ElementsAre(1, 3, 0));
  EXPECT_LT(ChiSquare(params, logits, 100000), kChiSquare2);
}

TEST(Sampler, MinPHasTheRightDistribution) {
  SamplingParams params = Plain();
  params.seed = 5;
  params.min_p = 0.3f;  // relative to the best: 1, 0.5, 0.4, 0.35, 0.31, 0.29
  std::vector<float> logits;
  for (const double relative : {0.29, 0.5, 1.0, 0.31, 0.35, 0.4})
    logits.push_back(static_cast<float>(std::log(relative) - 20));
  ASSERT_THAT(ReferenceDistribution(params, logits).ids, ElementsAre(2, 1, 5, 4, 3));
  EXPECT_LT(ChiSquare(params, logits, 100000), kChiSquare4);
}

// The exact test: which token each single draw gives, against the definition.
TEST(Sampler, EveryDrawEqualsTheReference) {
  struct Case {
    int32_t top_k;
    float top_p;
    float min_p;
    float temperature;
  };
  const Case cases[] = {{40, 0.95f, 0.05f, 0.8f},
                        {40, 1, 0, 1},
                        {0, 0.9f, 0, 1},
                        {0, 0.999f, 0, 2},
                        {0, 0.95f, 0.02f, 1},
                        {500, 0.9f, 0, 1.5f},
                        {1, 1, 0, 1},
                        {5000, 0.99f, 0, 0.7f},
                        {70, 0, 0, 1},
                        {64, 0.5f, 1, 1},
                        {999, 0.9999999f, 0, 5}};
  const std::vector<float> logits = RandomLogits(1000, 11);
  for (const Case& c : cases) {
    SamplingParams params = Plain();
    params.top_k = c.top_k;
    params.top_p = c.top_p;
    params.min_p = c.min_p;
    params.temperature = c.temperature;
    params.seed = 99;
    const Kept kept = ReferenceDistribution(params, logits);
    Sampler sampler(params, 1000);
    for (uint64_t draw = 0; draw < 300; ++draw) {
      const double u = UniformDraw(99, draw);
      double reached = 0;
      size_t i = 0;
      while (i + 1 < kept.ids.size() && (reached += kept.probabilities[i]) <= u) ++i;
      ASSERT_EQ(sampler.Sample(logits), kept.ids[i]) << "top_k " << c.top_k << " top_p " << c.top_p
                                                     << " min_p " << c.min_p << " draw " << draw;
    }
  }
}

TEST(Sampler, PenaltiesFollowTheirDefinition) {
  // Greedy shows the order of the adjusted logits. Token 0 leads with 4, token 1 follows with 3.
  const std::vector<float> logits = {4, 3, -1, -1.2f};
  SamplingParams params = Greedy();
  params.repetition_penalty = 2;
  Sampler repetition(params, 4);
  EXPECT_EQ(repetition.Sample(logits), 0);
  repetition.Accept(0);
  repetition.Accept(0);  // occurrences do not add up: 4 / 2 < 3
  EXPECT_EQ(repetition.Sample(logits), 1);
  repetition.Accept(1);  // 4 / 2 > 3 / 2
  EXPECT_EQ(repetition.Sample(logits), 0);
  // Negative logits are multiplied: token 2 goes to -2 and falls behind -1.2.
  Sampler negative(params, 2);
  negative.Accept(0);
  EXPECT_EQ(negative.Sample(std::vector<float>{-1, -1.2f}), 1);

  params = Greedy();
  params.presence_penalty = 0.6f;
  Sampler presence(params, 2);
  for (int i = 0; i < 5; ++i) presence.Accept(0);  // once, however often it occurred
  EXPECT_EQ(presence.Sample(std::vector<float>{4, 3}), 0);
  EXPECT_EQ(presence.Sample(std::vector<float>{4, 3.5f}), 1);

  params = Greedy();
  params.frequency_penalty = 0.6f;
  Sampler frequency(params, 2);
  frequency.Accept(0);
  EXPECT_EQ(frequency.Sample(std::vector<float>{4, 3}), 0);
  frequency.Accept(0);
  EXPECT_EQ(frequency.Sample(std::vector<float>{4, 3}), 1);
}

TEST(Sampler, PenaltiesLookAtTheNewestTokensOnly) {
  SamplingParams params = Greedy();
  params.presence_penalty = 10;
  params.penalty_last_n = 2;
  Sampler sampler(params, 4);
  const std::vector<float> logits = {4, 3, 2, 1};
  sampler.Accept(0);
  EXPECT_EQ(sampler.Sample(logits), 1);
  sampler.Accept(3);
  EXPECT_EQ(sampler.Sample(logits), 1);
  sampler.Accept(3);  // token 0 leaves the window
  EXPECT_EQ(sampler.Sample(logits), 0);
  params.penalty_last_n = 0;
  Sampler none(params, 4);
  none.Accept(0);
  EXPECT_EQ(none.Sample(logits), 0);
  params.penalty_last_n = -1;
  Sampler all(params, 4);
  all.Accept(0);
  for (int i = 0; i < 1000; ++i) all.Accept(3);
  EXPECT_EQ(all.Sample(logits), 1);
}

TEST(Sampler, PenaltiesWithAMovingWindowEqualTheReference) {
  for (const int32_t last_n : {1, 3, 64, -1}) {
    SamplingParams params = Greedy();
    params.repetition_penalty = 1.3f;
    params.presence_penalty = 0.4f;
    params.frequency_penalty = 0.2f;
    params.penalty_last_n = last_n;
    params.logit_bias = {{3, 1.5f}, {4, -2.0f}, {3, 0.25f}};
    Sampler sampler(params, 50);
    std::vector<int32_t> history;
    for (uint32_t step = 0; step < 300; ++step) {
      const std::vector<float> logits = RandomLogits(50, 1000 + step, 1);
      const int32_t id = sampler.Sample(logits);
      ASSERT_EQ(id, ReferenceDistribution(
                        [&] {
                          SamplingParams reference = params;
                          reference.temperature = 1;
                          return reference;
                        }(),
                        logits, history)
                        .ids[0])
          << "last_n " << last_n << " step " << step;
      sampler.Accept(id);
      history.push_back(id);
    }
  }
}

TEST(Sampler, LogitBiasBansAndForces) {
  SamplingParams params = Plain();
  params.logit_bias = {{0, -kInf}};
  Sampler ban(params, 3);
  for (int i = 0; i < 200; ++i) EXPECT_NE(ban.Sample(std::vector<float>{50, 1, 1}), 0);
  params.logit_bias = {{2, kInf}};
  Sampler force(params, 3);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(force.Sample(std::vector<float>{50, 1, 1}), 2);
  // A ban and a demand for one token cancel to NaN, which is never drawn.
  params.logit_bias = {{0, kInf}, {0, -kInf}};
  Sampler both(params, 3);
  for (int i = 0; i < 200; ++i) EXPECT_NE(both.Sample(std::vector<float>{50, 1, 1}), 0);
  for (const int32_t top_k : {0, 2}) {
    params.top_k = top_k;
    params.logit_bias = {{1, kInf}, {2, kInf}};
    Sampler two(params, 3);
    std::map<int32_t, int> counts;
    for (int i = 0; i < 1000; ++i) ++counts[two.Sample(std::vector<float>{50, 1, 9})];
    EXPECT_EQ(counts.count(0), 0u);
    EXPECT_GT(counts[1], 400);  // equal weights; 400 is six standard deviations below
    EXPECT_GT(counts[2], 400);
  }
}

TEST(Sampler, NotANumberNeverCrashesAndIsNeverDrawn) {
  const std::vector<std::vector<float>> rows = {
      {kNan, 1, kNan, 2, 3, kNan},
      {kNan, kNan, kNan, kNan, -kInf, 0},
      {kInf, kNan, -kInf, kInf, 1, 2},
      {-kInf, -kInf, -3e38f, -kInf, -kInf, kNan},
  };
  for (const int32_t top_k : {0, 1, 3, 6, 100})
    for (const float top_p : {0.0f, 0.5f, 1.0f})
      for (const float min_p : {0.0f, 0.1f, 1.0f})
        for (const float temperature : {0.0f, 1e-45f, 1.0f, 3e38f}) {
          SamplingParams params = Plain();
          params.top_k = top_k;
          params.top_p = top_p;
          params.min_p = min_p;
          params.temperature = temperature;
          params.repetition_penalty = 1.1f;
          Sampler sampler(params, 6);
          for (const std::vector<float>& row : rows) {
            const int32_t id = sampler.Sample(row);
            ASSERT_GT(row[static_cast<size_t>(id)], -kInf);
            sampler.Accept(id);
          }
          EXPECT_EQ(sampler.Sample(std::vector<float>(6, kNan)), 0);
          EXPECT_EQ(sampler.Sample(std::vector<float>(6, -kInf)), 0);
        }
}

TEST(Sampler, EdgeSettingsKeepOneOrAll) {
  const std::vector<float> logits = RandomLogits(200, 21);
  const int32_t best =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  for (const auto change :
       {+[](SamplingParams* p) { p->top_k = 1; }, +[](SamplingParams* p) { p->top_p = 0; },
        +[](SamplingParams* p) { p->min_p = 1; },
        +[](SamplingParams* p) { p->temperature = 1e-30f; }}) {
    SamplingParams params = Plain();
    change(&params);
    Sampler sampler(params, 200);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.Sample(logits), best);
  }
  SamplingParams params = Plain();
  params.top_k = 1000000;  // more than there are: all
  params.temperature = 3e38f;
  Sampler sampler(params, 200);
  std::map<int32_t, int> counts;
  for (int i = 0; i < 20000; ++i) ++counts[sampler.Sample(logits)];
  EXPECT_EQ(counts.size(), 200u);  // e^-100 x 200 is the chance that one is missed
  Sampler single(Plain(), 1);
  EXPECT_EQ(single.Sample(std::vector<float>{-3}), 0);
}

TEST(Sampler, SameSeedSameTokensOtherSeedOthers) {
  SamplingParams params;
  params.seed = 42;
  const auto run = [](const SamplingParams& p) {
    Sampler sampler(p, 5000);
    std::vector<int32_t> ids;
    for (uint32_t i = 0; i < 50; ++i) {
      ids.push_back(sampler.Sample(RandomLogits(5000, i, 1)));
      sampler.Accept(ids.back());
    }
    return ids;
  };
  const std::vector<int32_t> first = run(params);
  EXPECT_EQ(first, run(params));
  params.seed = 43;
  EXPECT_NE(first, run(params));
}

TEST(Sampler, LogitsAreLeftAlone) {
  SamplingParams params;
  params.logit_bias = {{0, 5.0f}};
  params.repetition_penalty = 2;
  Sampler sampler(params, 100);
  sampler.Accept(3);
  const std::vector<float> logits = RandomLogits(100, 1);
  std::vector<float> given = logits;
  sampler.Sample(given);
  EXPECT_EQ(given, logits);
}

TEST(Logprobs, EqualTheSoftmaxInDouble) {
  const std::vector<float> logits = RandomLogits(50000, 5, 4);
  double best = logits[0];
  for (const float logit : logits) best = std::max<double>(best, logit);
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit) - best);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  const std::vector<TokenLogprob> top = TopLogprobs(logits, 20);
  ASSERT_EQ(top.size(), 20u);
  for (size_t i = 0; i < top.size(); ++i) {
    EXPECT_EQ(top[i].id, order[i]);
    const double expected = static_cast<double>(logits[static_cast<size_t>(order[i])]) - best -
                            static_cast<double>(std::log(sum));
    // Half a unit in the last place of the float result, and as much again for the sum in double.
    EXPECT_NEAR(top[i].logprob, expected, std::abs(expected) * 0x1p-23);
    EXPECT_EQ(top[i].logprob, LogprobOf(logits, order[i]));
  }
}

TEST(Logprobs, EdgesOfTheInput) {
  EXPECT_TRUE(TopLogprobs(std::vector<float>{1, 2}, 0).empty());
  EXPECT_EQ(TopLogprobs(std::vector<float>{1, 2}, 100).size(), 2u);
  EXPECT_TRUE(TopLogprobs(std::vector<float>{kNan, -kInf}, 2).empty());
  EXPECT_EQ(LogprobOf(std::vector<float>{kNan, 1}, 0), -kInf);
  EXPECT_EQ(LogprobOf(std::vector<float>{kNan, 1}, 1), 0);
  EXPECT_EQ(LogprobOf(std::vector<float>{kInf, 1}, 0), 0);
  EXPECT_NEAR(LogprobOf(std::vector<float>(4, 3e38f), 2), -std::log(4.0), 4 * 0x1p-24);
  const std::vector<TokenLogprob> ties = TopLogprobs(std::vector<float>{1, 5, 5, 5}, 2);
  EXPECT_EQ(ties[0].id, 1);
  EXPECT_EQ(ties[1].id, 2);
}

TEST(Validate, NamesFieldValueAndWhatIsAllowed) {
  struct Case {
    void (*change)(SamplingParams*);
    const char* message;
  };
  const Case cases[] = {
      {[](SamplingParams* p) { p->temperature = -1; }, "temperature is -1, expected"},
      {[](SamplingParams* p) { p->temperature = kNan; }, "temperature is nan"},
      {[](SamplingParams* p) { p->temperature = kInf; }, "temperature is inf"},
      {[](SamplingParams* p) { p->top_k = -1; }, "top_k is -1, expected at least 1, or 0"},
      {[](SamplingParams* p) { p->top_p = 1.5f; }, "top_p is 1.5, expected a number from 0 to 1"},
      {[](SamplingParams* p) { p->top_p = kNan; }, "top_p is nan"},
      {[](SamplingParams* p) { p->min_p = -0.1f; }, "min_p is -0.1"},
      {[](SamplingParams* p) { p->repetition_penalty = 0; }, "repetition_penalty is 0"},
      {[](SamplingParams* p) { p->repetition_penalty = kNan; }, "repetition_penalty is nan"},
      {[](SamplingParams* p) { p->presence_penalty = kInf; }, "presence_penalty is inf"},
      {[](SamplingParams* p) { p->frequency_penalty = kNan; }, "frequency_penalty is nan"},
      {[](SamplingParams* p) { p->penalty_last_n = -2; }, "penalty_last_n is -2"},
      {[](SamplingParams* p) {
         p->logit_bias = {{10, 1.0f}};
       },
       "token 10, the vocabulary has 0 to 9"},
      {[](SamplingParams* p) {
         p->logit_bias = {{-1, 1.0f}};
       },
       "token -1"},
      {[](SamplingParams* p) {
         p->logit_bias = {{1, kNan}};
       },
       "logit_bias of token 1 is nan"},
  };
  EXPECT_TRUE(Validate(SamplingParams(), 10).ok());
  for (const Case& c : cases) {
    SamplingParams params;
    c.change(&params);
    const Status status = Validate(params, 10);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace tidal
