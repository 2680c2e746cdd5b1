// Tokens that the executor chooses against those that the sampler does, on a small random model.
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <unistd.h>

#include "engine/engine.h"
#include "model/test_model.h"

namespace tidal {
namespace {

std::vector<TokenId> SomeTokens(size_t n, uint32_t seed) {
  std::vector<TokenId> tokens;
  for (uint32_t state = seed; tokens.size() < n;) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back(static_cast<TokenId>((state >> 16) % 250));
  }
  return tokens;
}

class EngineGreedyTest : public testing::Test {
 protected:
  EngineGreedyTest()
      : path_(testing::TempDir() + "/tidal_greedy_" + std::to_string(::getpid()) + ".gguf") {
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
  ~EngineGreedyTest() override { std::filesystem::remove(path_); }

  static Request RequestFor(uint32_t seed, int32_t logprobs) {
    Request request;
    request.prompt = SomeTokens(20, seed);
    request.max_tokens = 24;
    request.sampling.temperature = 0;
    request.ignore_eos = true;
    request.logprobs = logprobs;
    return request;
  }
  // The tokens of each request, all running at once.
  std::vector<std::vector<TokenId>> Run(const std::vector<Request>& requests) {
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
    }
    for (const SequenceId sequence : sequences) engine_->CloseSequence(sequence);
    std::vector<std::vector<TokenId>> result;
    for (const auto& [id, of_request] : tokens) result.push_back(of_request);
    return result;
  }

  std::string path_;
  std::unique_ptr<Engine> engine_;
};

// Log-probabilities make the engine ask for logits; without them it asks for the token alone.
TEST_F(EngineGreedyTest, ChoosesAsTheSamplerDoes) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    const auto sampled = Run({RequestFor(seed, 1)});
    ASSERT_EQ(sampled[0].size(), 24u);
    EXPECT_EQ(Run({RequestFor(seed, 0)}), sampled);
  }
}

// A step may hand out tokens of some rows and logits of others.
TEST_F(EngineGreedyTest, BesideRowsThatAreSampled) {
  const auto apart = Run({RequestFor(4, 1), RequestFor(5, 1), RequestFor(6, 1)});
  EXPECT_EQ(Run({RequestFor(4, 0), RequestFor(5, 1), RequestFor(6, 0)}), apart);
  Request drawn = RequestFor(5, 0);
  drawn.sampling.temperature = 1;
  drawn.sampling.seed = 7;
  const auto alone = Run({RequestFor(4, 1), drawn, RequestFor(6, 1)});
  EXPECT_EQ(Run({RequestFor(4, 0), drawn, RequestFor(6, 0)}), alone);
}

}  // namespace
}  // namespace tidal
