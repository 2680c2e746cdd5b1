// The same tokens from a row's best alone.
#include "sampler/candidates.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

#include "sampler/sampler.h"
#include "sampler/sampler_testing.h"

namespace tidal {
namespace {

CandidateList ListOf(const std::vector<float>& logits, int32_t n, bool wants_softmax = false) {
  std::vector<Candidate> scratch;
  CandidateList list;
  ListBest(logits, n, wants_softmax, &scratch, &list);
  return list;
}

// Rows as samplers meet them and as they should not: `kind` counts through them.
constexpr int kRowKinds = 8;
std::vector<float> RowOf(int kind, uint32_t seed, size_t size) {
  std::vector<float> logits = RandomLogits(size, seed);
  std::mt19937 generator(seed);
  const auto any = [&] { return generator() % size; };
  switch (kind) {
    case 1:  // ties everywhere
      for (float& logit : logits) logit = std::round(logit);
      break;
    case 2:  // a few numbers among NaN and minus infinity
      for (size_t i = 0; i < size; ++i)
        if (i % 97 != seed % 97) logits[i] = i % 2 == 0 ? kNan : -kInf;
      break;
    case 3:
      for (int i = 0; i < 50; ++i) logits[any()] = i % 3 == 0 ? kInf : (i % 3 == 1 ? kNan : 3e38f);
      break;
    case 4:
      std::fill(logits.begin(), logits.end(), seed % 2 == 0 ? kNan : -2.5f);
      break;
    case 5:
      std::sort(logits.begin(), logits.end());
      break;
    case 6:  // zeros of both signs lead
      for (float& logit : logits) logit = logit > 0 ? (any() % 2 == 0 ? 0.0f : -0.0f) : logit;
      break;
    case 7:
      logits[any()] = logits[any()] = std::numeric_limits<float>::max();
      logits[any()] = kInf;
      break;
    default:
      break;
  }
  return logits;
}

TEST(Candidates, ListsAreTheBeginOfAFullSort) {
  for (const size_t size : {1, 2, 100, 3000}) {
    for (int kind = 0; kind < kRowKinds; ++kind) {
      const std::vector<float> logits = RowOf(kind, 7, size);
      std::vector<Candidate> sorted;
      for (size_t i = 0; i < size; ++i)
        if (logits[i] > -kInf) sorted.push_back({logits[i], static_cast<int32_t>(i)});
      std::stable_sort(sorted.begin(), sorted.end(),
                       [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
      for (const int32_t n : {1, 2, 40, kMaxCandidates}) {
        const CandidateList list = ListOf(logits, n, true);
        ASSERT_EQ(list.best().size(), std::min(sorted.size(), static_cast<size_t>(n)));
        for (size_t i = 0; i < list.best().size(); ++i) {
          EXPECT_EQ(list.candidates[i].id, sorted[i].id) << size << " " << kind << " " << n;
          EXPECT_EQ(list.candidates[i].logit, sorted[i].logit);
        }
        // To the bit: both add up the same row in one order.
        const std::vector<TokenLogprob> expected = TopLogprobs(logits, n);
        const std::vector<TokenLogprob> got = TopLogprobs(list, n);
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_EQ(got[i].id, expected[i].id);
          EXPECT_EQ(got[i].logprob, expected[i].logprob);
          EXPECT_EQ(LogprobOf(list, got[i].id), LogprobOf(logits, got[i].id));
        }
      }
    }
  }
  EXPECT_EQ(LogprobOf(ListOf({kNan, -kInf}, 2, true), 0), -kInf);
  EXPECT_TRUE(TopLogprobs(ListOf({1, 2}, 2, true), 0).empty());
}

TEST(Candidates, HowManyASamplerNeeds) {
  const auto count_of = [](const SamplingParams& params) {
    return Sampler(params, 1000).num_candidates();
  };
  EXPECT_EQ(count_of(SamplingParams()), 40);
  EXPECT_EQ(count_of(Greedy()), 1);
  EXPECT_EQ(count_of(Plain()), 0);  // all of them
  SamplingParams params;
  params.top_k = kMaxCandidates;
  EXPECT_EQ(count_of(params), kMaxCandidates);
  params.top_k = kMaxCandidates + 1;
  EXPECT_EQ(count_of(params), 0);
  params.temperature = 0;
  EXPECT_EQ(count_of(params), 1);
  params = SamplingParams();
  EXPECT_EQ(Sampler(params, 40).num_candidates(), 0);  // top_k leaves nothing out

  params.logit_bias = {{3, -1.0f}, {4, -kInf}};
  EXPECT_EQ(count_of(params), 42);
  params.logit_bias.emplace_back(5, 0.5f);  // raised
  EXPECT_EQ(count_of(params), 0);
  params.logit_bias.clear();
  params.repetition_penalty = 1.1f;
  Sampler sampler(params, 1000);
  EXPECT_EQ(sampler.num_candidates(), 40);
  for (int32_t id = 0; id < 10; ++id) sampler.Accept(id % 5);
  EXPECT_EQ(sampler.num_candidates(), 45);
  params.penalty_last_n = -1;
  Sampler endless(params, 1000);
  for (int32_t id = 0; id < 88; ++id) endless.Accept(id);
  EXPECT_EQ(endless.num_candidates(), kMaxCandidates);
  endless.Accept(88);
  EXPECT_EQ(endless.num_candidates(), 0);
  for (const auto change : {+[](SamplingParams* p) { p->repetition_penalty = 0.9f; },
                            +[](SamplingParams* p) { p->presence_penalty = -0.1f; },
                            +[](SamplingParams* p) { p->frequency_penalty = -0.1f; }}) {
    SamplingParams raising;
    change(&raising);
    EXPECT_EQ(count_of(raising), 0);
    raising.penalty_last_n = 0;  // there are no penalties
    EXPECT_EQ(count_of(raising), 40);
  }
}

TEST(Candidates, EveryTokenIsThatOfTheWholeRow) {
  std::vector<SamplingParams> settings = {Greedy(), SamplingParams(), SamplingParams()};
  settings[2].repetition_penalty = 1.3f;
  for (const int32_t top_k : {1, 2, 64, kMaxCandidates}) {
    for (const float top_p : {0.0f, 0.9f, 1.0f}) {
      SamplingParams params = Plain();
      params.top_k = top_k;
      params.top_p = top_p;
      params.min_p = top_k == 2 ? 0.3f : 0.0f;
      params.temperature = top_k == 64 ? 3e38f : 1.2f;
      settings.push_back(params);
    }
  }
  // Biases and penalties that lower, the greedy one among them.
  for (const size_t base : {size_t{0}, size_t{1}, size_t{2}}) {
    SamplingParams params = settings[base];
    params.repetition_penalty = 1.2f;
    params.presence_penalty = 0.4f;
    params.frequency_penalty = base == 2 ? 3e38f : 0.2f;
    params.logit_bias = {{3, -2.0f}, {17, -kInf}, {3, -0.25f}, {5, 0.0f}};
    params.penalty_last_n = 20;
    settings.push_back(params);
  }
  int num_compared = 0;
  for (size_t s = 0; s < settings.size(); ++s) {
    for (const int32_t vocab_size : {150, 5000}) {
      settings[s].seed = 100 + s;
      Sampler whole(settings[s], vocab_size);
      Sampler from_best(settings[s], vocab_size);
      for (int step = 0; step < 64; ++step) {
        const int kind = step % kRowKinds;
        const std::vector<float> logits =
            RowOf(kind, static_cast<uint32_t>(step), static_cast<size_t>(vocab_size));
        const int32_t expected = whole.Sample(logits);
        const int32_t n = from_best.num_candidates();
        ASSERT_GT(n, 0);
        // More than are needed change nothing.
        const CandidateList list = ListOf(logits, step % 2 == 0 ? n : kMaxCandidates);
        ASSERT_EQ(from_best.Sample(list.best()), expected) << "settings " << s << " step " << step;
        whole.Accept(expected);
        from_best.Accept(expected);
        // What leads is what penalties fall on.
        const int32_t leader = std::max(BestCandidate(logits).id, 0);
        whole.Accept(leader);
        from_best.Accept(leader);
        ++num_compared;
      }
    }
  }
  EXPECT_EQ(num_compared, 18 * 2 * 64);
}

}  // namespace
}  // namespace tidal
