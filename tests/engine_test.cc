// The engine on small random models: against double precision, and against itself in another batch,
// chunk, page order or number of threads (docs/architecture.md says which of these are bitwise).

#include "engine/engine.h"

#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "model/test_model.h"
#include "reference_forward.h"

namespace tidal {
namespace {

// A model file that lives as long as the test.
class TemporaryModel {
 public:
  explicit TemporaryModel(const TestModelSpec& spec) {
    path_ = testing::TempDir() + "/tidal_" + std::to_string(::getpid()) + "_" +
            std::to_string(reinterpret_cast<uintptr_t>(this)) + ".gguf";
    const Status status = WriteRandomModel(path_, spec);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  ~TemporaryModel() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<Engine> MakeEngine(const std::string& path, EngineOptions options = {}) {
  options.model_path = path;
  options.device = TestDevice();
  if (options.num_threads == 0) options.num_threads = 2;
  auto engine = Engine::Create(options, nullptr);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return std::move(engine).value();
}

// Greedy tokens with their log-probabilities; equal bits mean equal logits up to what one number a
// step can show.
struct Answer {
  std::vector<TokenId> tokens;
  std::vector<std::vector<TokenLogprob>> top;
  Timings timings;
  FinishReason reason = FinishReason::kStop;
};

Request GreedyRequest(std::vector<TokenId> prompt, int32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  request.logprobs = 20;
  return request;
}

std::vector<Answer> RunTogether(Engine* engine,
                                const std::vector<std::pair<SequenceId, Request>>& requests) {
  std::vector<Answer> answers(requests.size());
  std::vector<RequestId> ids;
  for (const auto& [sequence, request] : requests)
    ids.push_back(engine->Submit(sequence, request).value());
  for (const Event& event : RunToEnd(engine)) {
    const auto at =
        static_cast<size_t>(std::find(ids.begin(), ids.end(), event.request) - ids.begin());
    if (event.kind == Event::Kind::kToken) {
      answers[at].tokens.push_back(event.token);
      answers[at].top.push_back(event.top);
    }
    if (event.kind == Event::Kind::kFinished) {
      answers[at].timings = event.timings;
      answers[at].reason = event.reason;
    }
  }
  return answers;
}

Answer RunAlone(Engine* engine, SequenceId sequence, const Request& request) {
  return RunTogether(engine, {{sequence, request}})[0];
}

void ExpectSameBits(const Answer& a, const Answer& b) {
  ASSERT_EQ(a.tokens, b.tokens);
  for (size_t i = 0; i < a.top.size(); ++i) {
    for (size_t j = 0; j < a.top[i].size(); ++j) {
      EXPECT_EQ(a.top[i][j].id, b.top[i][j].id);
      EXPECT_EQ(a.top[i][j].logprob, b.top[i][j].logprob) << "token " << i << ", candidate " << j;
    }
  }
}

double WorstDifference(const Scores& a, const Scores& b) {
  double worst = 0;
  for (size_t i = 0; i < a.next_logprob.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(a.next_logprob[i]) - static_cast<double>(b.next_logprob[i]));
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  return worst;
}

// Logits of these models are of size 1 to 10, sums run over at most a few hundred products through
// two layers.
constexpr double kF32Tolerance = 32 * 1.2e-7 * 10 * 20;

class RandomModelTest : public testing::TestWithParam<std::tuple<Isa, std::string, DType>> {};

TEST_P(RandomModelTest, MatchesDoublePrecision) {
  const auto [isa, architecture, dtype] = GetParam();
  TestModelSpec spec;
  spec.architecture = architecture;
  spec.dtype = dtype;
  spec.model_dim = 256;
  spec.ffn_dim = 512;
  spec.num_heads = 8;
  spec.head_dim = 32;
  const TemporaryModel file(spec);
  const auto tokens = SomeTokens(70, 5);
  const auto engine = MakeEngine(file.path(), {.isa = isa,
                                               .precision = Precision::kF32,
                                               .k_cache_type = CacheType::kF32,
                                               .v_cache_type = CacheType::kF32});
  const SequenceId sequence = engine->OpenSequence().value();
  const Scores scores = ScorePrompt(engine.get(), sequence, tokens, 1);
  const auto logits = ReferenceLogits(engine->model(), tokens);
  for (size_t pos = 0; pos + 1 < tokens.size(); ++pos) {
    const auto& row = logits[pos];
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - largest);
    const double expected = row[static_cast<size_t>(tokens[pos + 1])] - largest - std::log(sum);
    ASSERT_NEAR(static_cast<double>(scores.next_logprob[pos]), expected, kF32Tolerance)
        << "position " << pos;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RandomModelTest,
                         testing::Combine(testing::ValuesIn(TestableIsas()),
                                          testing::Values("llama", "qwen2", "qwen3"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16,
                                                          DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                                          DType::kQ8_0, DType::kQ4_K, DType::kQ5_K,
                                                          DType::kQ6_K)),
                         [](const auto& param) {
                           return std::string(NameOf(std::get<0>(param.param))) + "_" +
                                  std::get<1>(param.param) + "_" + NameOf(std::get<2>(param.param));
                         });

class EngineTest : public testing::TestWithParam<Isa> {
 protected:
  EngineTest() : file_(Spec()) {}
  static TestModelSpec Spec() {
    TestModelSpec spec;
    spec.dtype = DType::kQ4_K;
    spec.model_dim = 256;
    spec.ffn_dim = 512;
    spec.num_heads = 8;
    spec.head_dim = 32;
    return spec;
  }
  EngineOptions Options() const { return {.isa = GetParam(), .max_sequences = 3}; }
  const std::string& path() const { return file_.path(); }

 private:
  TemporaryModel file_;
};

TEST_P(EngineTest, AloneAndInABatchGiveTheSameBits) {
  const auto engine = MakeEngine(path(), Options());
  const SequenceId a = engine->OpenSequence().value();
  const SequenceId b = engine->OpenSequence().value();
  const SequenceId c = engine->OpenSequence().value();
  const Request request = GreedyRequest(SomeTokens(100, 1), 40);
  const Answer alone = RunAlone(engine.get(), a, request);
  ASSERT_EQ(alone.tokens.size(), 40u);
  // The same prompt in another sequence beside two others of other lengths: its pages lie
  // elsewhere, too.
  const auto together = RunTogether(engine.get(), {{c, GreedyRequest(SomeTokens(7, 2), 60)},
                                                   {b, request},
                                                   {a, GreedyRequest(SomeTokens(150, 3), 20)}});
  ExpectSameBits(alone, together[1]);
}

TEST_P(EngineTest, TheNumberOfThreadsChangesNoBit) {
  const Request request = GreedyRequest(SomeTokens(300, 1), 30);
  std::optional<Answer> first;
  for (const int threads : {1, 2, 3}) {
    EngineOptions options = Options();
    options.num_threads = threads;
    const auto engine = MakeEngine(path(), options);
    const Answer answer = RunAlone(engine.get(), engine->OpenSequence().value(), request);
    if (first) ExpectSameBits(*first, answer);
    first = answer;
  }
}

TEST_P(EngineTest, ShuffledPagesChangeNoBit) {
  const auto engine = MakeEngine(path(), Options());
  const SequenceId a = engine->OpenSequence().value();
  const SequenceId b = engine->OpenSequence().value();
  const Request request = GreedyRequest(SomeTokens(200, 1), 150);
  const Answer in_order = RunAlone(engine.get(), a, request);
  engine->CloseSequence(a);
  const SequenceId c = engine->OpenSequence().value();
  // Two sequences that grow side by side take pages by turns.
  const auto by_turns =
      RunTogether(engine.get(), {{b, GreedyRequest(SomeTokens(10, 9), 300)}, {c, request}});
  ExpectSameBits(in_order, by_turns[1]);
}

TEST_P(EngineTest, ChunksOfAnySizeAgreeToRounding) {
  const auto tokens = SomeTokens(200, 4);
  std::optional<Scores> first;
  for (const int batch : {512, 1, 7, 64, 65}) {
    EngineOptions options = Options();
    options.precision = Precision::kF32;
    options.k_cache_type = options.v_cache_type = CacheType::kF32;
    options.max_batch_tokens = batch;
    const auto engine = MakeEngine(path(), options);
    const Scores scores = ScorePrompt(engine.get(), engine->OpenSequence().value(), tokens, 1);
    if (!first) first = scores;
    EXPECT_LE(WorstDifference(*first, scores), kF32Tolerance) << "chunks of " << batch;
  }
}

TEST_P(EngineTest, RowByRowAgreesWithPrefill) {
  const auto tokens = SomeTokens(150, 4);
  EngineOptions options = Options();
  options.precision = Precision::kF32;
  options.k_cache_type = options.v_cache_type = CacheType::kF32;
  const auto engine = MakeEngine(path(), options);
  const SequenceId sequence = engine->OpenSequence().value();
  const Scores prefilled = ScorePrompt(engine.get(), sequence, tokens, 1);
  const Scores decoded = ScorePrompt(engine.get(), sequence, tokens, 1, 20);
  EXPECT_LE(WorstDifference(prefilled, decoded), kF32Tolerance);
}

INSTANTIATE_TEST_SUITE_P(Isas, EngineTest, testing::ValuesIn(TestableIsas()),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

class EngineRequests : public testing::Test {
 protected:
  EngineRequests()
      : file_({}),
        engine_(MakeEngine(file_.path(), {.ctx_size = 128})),
        sequence_(engine_->OpenSequence().value()) {}
  TemporaryModel file_;
  std::unique_ptr<Engine> engine_;
  SequenceId sequence_;
};

TEST_F(EngineRequests, ReusesTheCommonPrefix) {
  const auto prompt = SomeTokens(50, 1);
  const Answer first = RunAlone(engine_.get(), sequence_, GreedyRequest(prompt, 10));
  EXPECT_EQ(first.timings.reused_tokens, 0);
  // The next turn: the prompt, the answer, and something new.
  auto next = prompt;
  next.insert(next.end(), first.tokens.begin(), first.tokens.end());
  next.push_back(42);
  const Answer second = RunAlone(engine_.get(), sequence_, GreedyRequest(next, 10));
  EXPECT_EQ(second.timings.reused_tokens, 59);  // the answer's last token was never run
  const auto fresh_engine = MakeEngine(file_.path(), {.ctx_size = 128});
  const Answer fresh =
      RunAlone(fresh_engine.get(), fresh_engine->OpenSequence().value(), GreedyRequest(next, 10));
  EXPECT_EQ(second.tokens, fresh.tokens);
}

TEST_F(EngineRequests, AFullContextEndsWithLength) {
  const Answer answer = RunAlone(engine_.get(), sequence_, GreedyRequest(SomeTokens(100, 1), -1));
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  EXPECT_EQ(answer.tokens.size(), 28u);
}

TEST_F(EngineRequests, MaxTokensEndsWithLength) {
  const Answer answer = RunAlone(engine_.get(), sequence_, GreedyRequest(SomeTokens(10, 1), 5));
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  EXPECT_EQ(answer.tokens.size(), 5u);
  EXPECT_EQ(answer.timings.predicted_tokens, 5);
}

TEST_F(EngineRequests, CancelKeepsWhatWasWritten) {
  const RequestId id = engine_->Submit(sequence_, GreedyRequest(SomeTokens(10, 1), 100)).value();
  std::vector<Event> events;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine_->Step(&events).ok());
  engine_->Cancel(id);
  ASSERT_TRUE(engine_->Step(&events).ok());
  EXPECT_TRUE(engine_->idle());
  EXPECT_EQ(events.back().kind, Event::Kind::kFinished);
  EXPECT_EQ(events.back().reason, FinishReason::kCancelled);
  EXPECT_EQ(engine_->CachedTokens(sequence_), 13);  // the prompt and three of four tokens
}

TEST_F(EngineRequests, PrefillOnlyFillsTheCache) {
  Request request = GreedyRequest(SomeTokens(90, 1), 0);
  const Answer answer = RunAlone(engine_.get(), sequence_, request);
  EXPECT_TRUE(answer.tokens.empty());
  EXPECT_EQ(engine_->CachedTokens(sequence_), 90);
  EXPECT_EQ(RunAlone(engine_.get(), sequence_, request).timings.reused_tokens, 90);
}

TEST_F(EngineRequests, ASeedGivesTheSameText) {
  Request request = GreedyRequest(SomeTokens(20, 1), 30);
  request.sampling.temperature = 1;
  request.sampling.seed = 7;
  const Answer first = RunAlone(engine_.get(), sequence_, request);
  EXPECT_EQ(first.tokens, RunAlone(engine_.get(), sequence_, request).tokens);
  request.sampling.seed = 8;
  EXPECT_NE(first.tokens, RunAlone(engine_.get(), sequence_, request).tokens);
}

TEST_F(EngineRequests, WrongRequestsAreRefused) {
  const auto message = [&](Request request) {
    const auto result = engine_->Submit(sequence_, std::move(request));
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
    return result.status().message();
  };
  EXPECT_NE(message(GreedyRequest({}, 1)).find("empty"), std::string::npos);
  EXPECT_NE(message(GreedyRequest({1, -5}, 1)).find("token 1 of the prompt is -5"),
            std::string::npos);
  EXPECT_NE(message(GreedyRequest({1, 1 << 20}, 1)).find("expected an id from 0"),
            std::string::npos);
  const std::string too_long = message(GreedyRequest(SomeTokens(129, 1), 1));
  EXPECT_NE(too_long.find("129"), std::string::npos);
  EXPECT_NE(too_long.find("128"), std::string::npos);
  EXPECT_TRUE(engine_->idle());
}

TEST(EngineCreate, RefusesAContextBeyondTheModel) {
  const TemporaryModel file({});
  const auto engine = Engine::Create({.model_path = file.path(), .ctx_size = 1 << 26}, nullptr);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), StatusCode::kInvalidArgument);
}

TEST(EngineCreate, RefusesAContextBeyondTheMemory) {
  TestModelSpec spec;
  spec.trained_seq_len = 1 << 27;
  const TemporaryModel file(spec);
  const auto engine = Engine::Create({.model_path = file.path(),
                                      .ctx_size = 1 << 27,
                                      .k_cache_type = CacheType::kF32,
                                      .v_cache_type = CacheType::kF32,
                                      .max_sequences = 64},
                                     nullptr);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), StatusCode::kOutOfMemory);
  EXPECT_NE(engine.status().message().find("the largest context that fits is"), std::string::npos);
}

}  // namespace
}  // namespace tidal
