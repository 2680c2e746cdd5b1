// Sequences that share the pages of a common beginning, and whole rows of logits.
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <unistd.h>

#include "engine/engine.h"
#include "model/test_model.h"

namespace tidal {
namespace {

class EngineForks : public testing::Test {
 protected:
  EngineForks() : path_(std::filesystem::path(testing::TempDir()) / "tidal_fork_XXXXXX") {
    std::string name = path_.string();
    const int fd = mkstemp(name.data());
    EXPECT_GE(fd, 0);
    close(fd);
    path_ = name;
    EXPECT_TRUE(WriteRandomModel(path_, TestModelSpec()).ok());
  }
  ~EngineForks() override { std::filesystem::remove(path_); }

  Result<std::unique_ptr<Engine>> Create(int32_t sequences, int64_t cache_tokens) const {
    EngineOptions options;
    options.model_path = path_;
    options.ctx_size = 320;
    options.num_threads = 2;
    options.max_sequences = sequences;
    options.cache_tokens = cache_tokens;
    // Steps of one page, so that forks and fresh sequences run the same chunks.
    options.max_batch_tokens = kPageSize;
    return Engine::Create(options, nullptr);
  }

  std::filesystem::path path_;
};

// Rows of logits by position.
using Rows = std::map<int32_t, std::vector<float>>;

// Runs a request to its end and keeps the rows that on_logits tells of, and the events.
Rows RunRequest(Engine* engine, SequenceId sequence, Request request, std::vector<Event>* events) {
  Rows rows;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  request.on_logits = [&rows](int32_t pos, std::span<const float> logits) {
    EXPECT_TRUE(rows.emplace(pos, std::vector<float>(logits.begin(), logits.end())).second);
  };
  EXPECT_TRUE(engine->Submit(sequence, std::move(request)).ok());
  while (!engine->idle()) {
    const Status status = engine->Step(events);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
  }
  return rows;
}

Rows RunGreedy(Engine* engine, SequenceId sequence, std::vector<TokenId> prompt, int32_t tokens) {
  std::vector<Event> events;
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = tokens;
  return RunRequest(engine, sequence, std::move(request), &events);
}

int32_t Reused(const std::vector<Event>& events) { return events.back().timings.reused_tokens; }

TEST_F(EngineForks, AForkContinuesAsAFreshSequenceDoes) {
  const auto engine = Create(3, 0).value();
  const auto tokens = SomeTokens(200, 1);
  const SequenceId origin = engine->OpenSequence().value();
  RunGreedy(engine.get(), origin, tokens, 0);
  const SequenceId fork = engine->Fork(origin, 200).value();
  EXPECT_EQ(engine->CachedTokens(fork), 3 * kPageSize);
  const Rows expected = RunGreedy(engine.get(), engine->OpenSequence().value(), tokens, 20);
  EXPECT_TRUE(RunGreedy(engine.get(), fork, tokens, 20) == expected);
  EXPECT_EQ(expected.size(), 20u);
  EXPECT_EQ(expected.begin()->first, 199);
}

// What one writes after the shared pages, or in place of some, nobody else sees.
TEST_F(EngineForks, SharedPagesAreNeverWritten) {
  const auto engine = Create(4, 0).value();
  const auto tokens = SomeTokens(200, 2);
  const SequenceId origin = engine->OpenSequence().value();
  RunGreedy(engine.get(), origin, tokens, 0);
  const SequenceId first = engine->Fork(origin, 192).value();
  const SequenceId second = engine->Fork(origin, 192).value();
  auto other = tokens;
  other.resize(100);  // ends within a shared page
  const auto more = SomeTokens(90, 3);
  other.insert(other.end(), more.begin(), more.end());
  std::vector<Event> events;
  Request request;
  request.prompt = other;
  request.max_tokens = 30;
  RunRequest(engine.get(), first, request, &events);
  EXPECT_EQ(Reused(events), kPageSize);
  const Rows fork = RunGreedy(engine.get(), second, tokens, 20);
  const SequenceId third = engine->Fork(origin, 192).value();
  EXPECT_TRUE(RunGreedy(engine.get(), third, tokens, 20) == fork);
  engine->CloseSequence(first);
  EXPECT_TRUE(RunGreedy(engine.get(), engine->OpenSequence().value(), tokens, 20) == fork);
}

TEST_F(EngineForks, ASmallCacheHoldsManyForks) {
  const auto tokens = SomeTokens(256, 4);
  // Four shared pages, and one for each of eight forks.
  const auto engine = Create(9, 12 * kPageSize).value();
  EXPECT_EQ(engine->memory().kv_bytes, 12 * kPageSize * engine->memory().kv_bytes_per_token);
  const SequenceId origin = engine->OpenSequence().value();
  RunGreedy(engine.get(), origin, tokens, 0);
  Request request;
  request.prompt = tokens;
  request.max_tokens = 20;
  for (int i = 0; i < 8; ++i) {
    request.prompt.push_back(i);
    ASSERT_TRUE(engine->Submit(engine->Fork(origin, 256).value(), request).ok());
    request.prompt.pop_back();
  }
  EXPECT_EQ(engine->Fork(origin, 256).status().code(), StatusCode::kOutOfMemory);
  std::vector<Event> events;
  while (!engine->idle()) {
    const Status status = engine->Step(&events);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  for (const Event& event : events) {
    if (event.kind != Event::Kind::kFinished) continue;
    EXPECT_EQ(event.timings.reused_tokens, 256);
  }
  const auto too_large = Create(2, int64_t{1} << 50);
  ASSERT_FALSE(too_large.ok());
  EXPECT_EQ(too_large.status().code(), StatusCode::kOutOfMemory);
  EXPECT_NE(too_large.status().message().find("a cache of 1125899906842624 tokens"),
            std::string::npos);
}

// The rows of a scored text, and that its events go without what needs a row's sum.
TEST_F(EngineForks, WholeRowsOfAScoredText) {
  const auto engine = Create(1, 0).value();
  const SequenceId sequence = engine->OpenSequence().value();
  Request request;
  request.prompt = SomeTokens(60, 5);
  request.max_tokens = 0;
  request.score_top = 1;
  request.score_prefill = 40;
  request.score_from = 30;
  std::vector<Event> events;
  const Rows rows = RunRequest(engine.get(), sequence, request, &events);
  ASSERT_EQ(rows.size(), 30u);
  EXPECT_EQ(rows.begin()->first, 30);
  size_t scores = 0;
  for (const Event& event : events) {
    if (event.kind != Event::Kind::kScore) continue;
    ++scores;
    EXPECT_TRUE(event.top.empty());
    EXPECT_EQ(event.token, kNoToken);
    EXPECT_EQ(event.selected_mass, 1);
  }
  EXPECT_EQ(scores, 30u);
  events.clear();
  request.on_logits = nullptr;
  ASSERT_TRUE(engine->Submit(sequence, request).ok());
  while (!engine->idle()) ASSERT_TRUE(engine->Step(&events).ok());
  for (const Event& event : events) {
    if (event.kind != Event::Kind::kScore || event.token == kNoToken) continue;
    const std::vector<float>& logits = rows.at(event.done);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    const double logprob =
        static_cast<double>(logits[static_cast<size_t>(event.token)]) - std::log(sum);
    EXPECT_NEAR(static_cast<double>(event.logprob), logprob, 1e-5) << "float32 rounding";
  }
}

}  // namespace
}  // namespace tidal
