// Tokens sampled from the candidates that the executor leaves against those sampled from all
// logits, on a small random model.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <iterator>
#include <map>
#include <unistd.h>

#include "engine/engine.h"
#include "model/test_model.h"

namespace tidal {
namespace {

class EngineCandidatesTest : public testing::Test {
 protected:
  EngineCandidatesTest()
      : path_(testing::TempDir() + "/tidal_candidates_" + std::to_string(::getpid()) + ".gguf") {
    EXPECT_TRUE(WriteRandomModel(path_, TestModelSpec()).ok());
    EngineOptions options;
    options.model_path = path_;
    options.num_threads = 2;
    options.ctx_size = 256;
    options.max_sequences = 3;
    if (const char* device = std::getenv("TIDAL_TEST_DEVICE")) options.device = device;
    auto engine = Engine::Create(options, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(engine).value();
  }
  ~EngineCandidatesTest() override { std::filesystem::remove(path_); }

  static Request RequestFor(uint32_t seed, const SamplingParams& sampling) {
    Request request;
    request.prompt = SomeTokens(20, seed);
    request.max_tokens = 24;
    request.sampling = sampling;
    request.ignore_eos = true;
    return request;
  }
  // Whoever looks at a row's logits gets all of them, and the sampler too.
  static Request WithLogits(Request request) {
    request.on_logits = [](int32_t, std::span<const float>) {};
    return request;
  }
  // The tokens of each request, all running at once.
  std::vector<std::vector<TokenId>> Run(const std::vector<Request>& requests) {
    events_.clear();
    std::map<RequestId, std::vector<TokenId>> tokens;
    std::vector<SequenceId> sequences;
    for (const Request& request : requests) {
      sequences.push_back(engine_->OpenSequence().value());
      tokens[engine_->Submit(sequences.back(), request).value()];
    }
    std::vector<Event> events;
    while (!engine_->idle()) {
      events.clear();
      EXPECT_TRUE(engine_->Step(&events).ok());
      for (const Event& event : events)
        if (event.kind == Event::Kind::kToken) tokens[event.request].push_back(event.token);
      std::copy_if(events.begin(), events.end(), std::back_inserter(events_),
                   [](const Event& event) { return event.kind == Event::Kind::kToken; });
    }
    for (const SequenceId sequence : sequences) engine_->CloseSequence(sequence);
    std::vector<std::vector<TokenId>> result;
    for (const auto& [id, of_request] : tokens) result.push_back(of_request);
    return result;
  }

  std::string path_;
  std::unique_ptr<Engine> engine_;
  std::vector<Event> events_;  // the tokens of the last Run
};

SamplingParams Greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

std::vector<SamplingParams> ManySettings() {
  std::vector<SamplingParams> settings = {Greedy(), SamplingParams()};
  for (const int32_t top_k : {1, 3, 128}) {
    SamplingParams params;
    params.top_k = top_k;
    params.top_p = 1;
    params.min_p = 0;
    params.temperature = 2;
    settings.push_back(params);
  }
  for (const float temperature : {0.0f, 1.5f}) {
    SamplingParams params;
    params.temperature = temperature;
    params.repetition_penalty = 1.5f;
    params.frequency_penalty = 0.2f;
    params.logit_bias = {{3, -1.0f}};
    settings.push_back(params);
  }
  for (size_t i = 0; i < settings.size(); ++i) settings[i].seed = 11 * i;
  return settings;
}

TEST_F(EngineCandidatesTest, GiveTheTokensOfAllLogits) {
  for (const SamplingParams& sampling : ManySettings()) {
    const Request request = RequestFor(1, sampling);
    const auto expected = Run({WithLogits(request)});
    ASSERT_EQ(expected[0].size(), 24u);
    EXPECT_EQ(Run({request}), expected) << "top_k " << sampling.top_k;
  }
}

// A step may hand out candidates of some rows, of different numbers, and logits of others.
TEST_F(EngineCandidatesTest, BesideOtherRows) {
  const std::vector<SamplingParams> settings = ManySettings();
  for (size_t i = 0; i + 2 < settings.size(); ++i) {
    const Request a = RequestFor(4, settings[i]);
    const Request b = RequestFor(5, settings[i + 1]);
    const Request c = RequestFor(6, settings[i + 2]);
    const auto expected = Run({WithLogits(a), WithLogits(b), WithLogits(c)});
    EXPECT_EQ(Run({a, b, c}), expected);
    EXPECT_EQ(Run({a, WithLogits(b), c}), expected);
  }
}

TEST_F(EngineCandidatesTest, GiveTheLogprobsOfAllLogits) {
  for (const SamplingParams& sampling : ManySettings()) {
    for (const int32_t num_logprobs : {1, 50}) {
      Request request = RequestFor(7, sampling);
      request.logprobs = num_logprobs;
      Run({WithLogits(request)});
      const std::vector<Event> expected = events_;
      Run({request});
      ASSERT_EQ(events_.size(), expected.size());
      for (size_t i = 0; i < events_.size(); ++i) {
        ASSERT_EQ(events_[i].token, expected[i].token);
        // A device's sums are float32's.
        EXPECT_NEAR(events_[i].logprob, expected[i].logprob, 4e-6);
        ASSERT_EQ(events_[i].top.size(), static_cast<size_t>(num_logprobs));
        for (size_t k = 0; k < events_[i].top.size(); ++k) {
          EXPECT_EQ(events_[i].top[k].id, expected[i].top[k].id);
          EXPECT_NEAR(events_[i].top[k].logprob, expected[i].top[k].logprob, 4e-6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidal
