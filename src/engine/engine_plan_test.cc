// Attention plans through the whole engine, on small random models: which rows run how, what of the
// cache is reused, correction, guard, sidecars and the key index's memory.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/engine_setup.h"
#include "model/model_hash.h"
#include "model/test_model.h"

namespace tidal {
namespace {

// A folder with a random model of four layers, removed with the test.
class EnginePlans : public testing::Test {
 protected:
  EnginePlans() : folder_(std::filesystem::path(testing::TempDir()) / "tidal_plans_XXXXXX") {
    std::string name = folder_.string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    TestModelSpec spec;
    spec.num_layers = kNumLayers;
    const Status status = WriteRandomModel(path(), spec);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  ~EnginePlans() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  static constexpr int32_t kNumLayers = 4;
  static constexpr int32_t kPromptTokens = 40;

  std::string path() const { return (folder_ / "random.gguf").string(); }
  std::string sidecar_path() const { return (folder_ / "random.tidal.json").string(); }

  // Everything in float32, so that chunks of another size agree to its rounding.
  EngineOptions Options(const std::vector<std::string>& plans = {}) const {
    EngineOptions options;
    options.model_path = path();
    options.ctx_size = 256;
    options.num_threads = 2;
    options.precision = Precision::kF32;
    options.k_cache_type = options.v_cache_type = CacheType::kF32;
    for (const std::string& text : plans) options.plans.push_back(PlanSpec::Parse(text).value());
    return options;
  }

  static std::unique_ptr<Engine> Make(const EngineOptions& options) {
    auto engine = Engine::Create(options, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(engine).value();
  }

  std::filesystem::path folder_;
};

Request GreedyRequest(const Engine& engine, std::vector<TokenId> prompt, int32_t max_tokens,
                      const std::string& plan) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  request.logprobs = 5;
  request.attention = engine.ResolvePlan(PlanSpec::Parse(plan).value()).value();
  return request;
}

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<float> row_masses;  // of kScore
  Event finished;
};

Answer RunAlone(Engine* engine, SequenceId sequence, Request request) {
  const Result<RequestId> id = engine->Submit(sequence, std::move(request));
  EXPECT_TRUE(id.ok()) << id.status().message();
  Answer answer;
  while (!engine->idle()) {
    std::vector<Event> events;
    const Status status = engine->Step(&events);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
    for (const Event& event : events) {
      if (event.kind == Event::Kind::kToken) {
        answer.tokens.push_back(event.token);
        answer.logprobs.push_back(event.logprob);
      }
      if (event.kind == Event::Kind::kScore) answer.row_masses.push_back(event.selected_mass);
      if (event.kind == Event::Kind::kFinished) answer.finished = event;
    }
  }
  return answer;
}

// The next turn of a conversation.
std::vector<TokenId> WithAnswer(std::vector<TokenId> prompt, const Answer& answer) {
  prompt.insert(prompt.end(), answer.tokens.begin(), answer.tokens.end());
  prompt.push_back(42);
  return prompt;
}

constexpr const char* kSparse = "tidal:budget=16:recent=4:below=0";

TEST_F(EnginePlans, AnotherRequestReusesOnlyCleanRows) {
  const auto engine = Make(Options({kSparse}));
  const SequenceId sequence = engine->OpenSequence().value();
  const auto prompt = SomeTokens(kPromptTokens, 1);
  const Answer first =
      RunAlone(engine.get(), sequence, GreedyRequest(*engine, prompt, 10, kSparse));
  EXPECT_EQ(first.finished.attention.sparse_rows, 9);
  EXPECT_EQ(first.finished.attention.full_rows, 0);
  EXPECT_EQ(engine->CachedTokens(sequence), kPromptTokens + 9);
  const auto next = WithAnswer(prompt, first);
  const Answer second = RunAlone(engine.get(), sequence, GreedyRequest(*engine, next, 10, "full"));
  EXPECT_EQ(second.finished.timings.reused_tokens, kPromptTokens);
  const auto fresh = Make(Options({kSparse}));
  const Answer alone =
      RunAlone(fresh.get(), fresh->OpenSequence().value(), GreedyRequest(*fresh, next, 10, "full"));
  EXPECT_EQ(second.tokens, alone.tokens);
}

TEST_F(EnginePlans, ACorrectedTurnLeavesACleanCache) {
  const std::string plan = std::string(kSparse) + ":correct=turn";
  const auto engine = Make(Options({plan}));
  const SequenceId sequence = engine->OpenSequence().value();
  const auto prompt = SomeTokens(kPromptTokens, 1);
  const Answer first = RunAlone(engine.get(), sequence, GreedyRequest(*engine, prompt, 10, plan));
  EXPECT_EQ(first.tokens.size(), 10u);
  EXPECT_EQ(first.finished.reason, FinishReason::kLength);
  const CorrectionStats& correction = first.finished.attention.correction;
  EXPECT_EQ(correction.runs, 1);
  EXPECT_EQ(correction.rows, 9);
  EXPECT_GT(correction.kl_mean, 0);
  EXPECT_GE(correction.kl_max, correction.kl_mean);
  const auto next = WithAnswer(prompt, first);
  const Answer second = RunAlone(engine.get(), sequence, GreedyRequest(*engine, next, 10, "full"));
  EXPECT_EQ(second.finished.timings.reused_tokens, kPromptTokens + 9);
  const auto fresh = Make(Options({plan}));
  const Answer alone =
      RunAlone(fresh.get(), fresh->OpenSequence().value(), GreedyRequest(*fresh, next, 10, "full"));
  ASSERT_EQ(second.tokens, alone.tokens);
  // Logits of size 1 to 10, sums over at most a few hundred products through four layers.
  constexpr double kTolerance = 64 * 1.2e-7 * 10 * 20;
  for (size_t i = 0; i < second.logprobs.size(); ++i)
    EXPECT_NEAR(second.logprobs[i], alone.logprobs[i], kTolerance) << i;
}

TEST_F(EnginePlans, CorrectionEveryFewRows) {
  const std::string plan = std::string(kSparse) + ":correct=4";
  const auto engine = Make(Options({plan}));
  const SequenceId sequence = engine->OpenSequence().value();
  const auto prompt = SomeTokens(kPromptTokens, 1);
  const Answer answer = RunAlone(engine.get(), sequence, GreedyRequest(*engine, prompt, 20, plan));
  EXPECT_EQ(answer.tokens.size(), 20u) << "no token is given twice";
  // 19 rows: before the 5th, 9th, 13th and 17th, four are dirty.
  EXPECT_EQ(answer.finished.attention.correction.runs, 4);
  EXPECT_EQ(answer.finished.attention.correction.rows, 16);
  EXPECT_EQ(answer.finished.attention.sparse_rows, 19);
  const Answer next = RunAlone(engine.get(), sequence,
                               GreedyRequest(*engine, WithAnswer(prompt, answer), 1, "full"));
  EXPECT_EQ(next.finished.timings.reused_tokens, kPromptTokens + 16);
}

TEST_F(EnginePlans, TheAnswerStandsWhereItsCorrectionIsCancelled) {
  EngineOptions options = Options();
  options.max_batch_tokens = 2;  // five steps of correction
  const std::string plan = std::string(kSparse) + ":correct=turn";
  const auto engine = Make(options);
  const SequenceId sequence = engine->OpenSequence().value();
  const auto prompt = SomeTokens(4, 1);
  const RequestId id = engine->Submit(sequence, GreedyRequest(*engine, prompt, 10, plan)).value();
  std::vector<Event> events;
  const auto num_tokens = [&] {
    return std::count_if(events.begin(), events.end(),
                         [](const Event& e) { return e.kind == Event::Kind::kToken; });
  };
  while (num_tokens() < 10) ASSERT_TRUE(engine->Step(&events).ok());
  ASSERT_TRUE(engine->Step(&events).ok());
  EXPECT_FALSE(engine->idle());
  engine->Cancel(id);
  ASSERT_TRUE(engine->Step(&events).ok());
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(num_tokens(), 10);
  EXPECT_EQ(events.back().reason, FinishReason::kLength);
  EXPECT_EQ(engine->CachedTokens(sequence), 6) << "what was clean or corrected";
  auto next = GreedyRequest(*engine, prompt, 3, "full");
  EXPECT_EQ(RunAlone(engine.get(), sequence, next).tokens.size(), 3u);
}

TEST_F(EnginePlans, TheGuardMakesEverySecondRowFull) {
  // No choice of 16 among 40 tokens holds all of the mass.
  const std::string plan = std::string(kSparse) + ":guard=1";
  const auto engine = Make(Options({plan}));
  const Answer answer = RunAlone(engine.get(), engine->OpenSequence().value(),
                                 GreedyRequest(*engine, SomeTokens(kPromptTokens, 1), 10, plan));
  const AttentionStats& stats = answer.finished.attention;
  EXPECT_EQ(stats.sparse_rows, 5);
  EXPECT_EQ(stats.full_rows, 4);
  EXPECT_EQ(stats.guard_rows, 4);
  EXPECT_LT(stats.MeanSelectedMass(), 1);
  EXPECT_LE(stats.LeastSelectedMass(), stats.MeanSelectedMass());
  EXPECT_EQ(stats.MeanTokensAttended(LayerRole::kSelection), 16);
}

TEST_F(EnginePlans, RowsBelowRunFull) {
  const std::string plan = "tidal:budget=16:recent=4:below=45";
  const auto engine = Make(Options({plan}));
  const Answer answer = RunAlone(engine.get(), engine->OpenSequence().value(),
                                 GreedyRequest(*engine, SomeTokens(kPromptTokens, 1), 10, plan));
  // Rows of 41 to 44 tokens.
  EXPECT_EQ(answer.finished.attention.full_rows, 4);
  EXPECT_EQ(answer.finished.attention.sparse_rows, 5);
  EXPECT_EQ(answer.finished.attention.guard_rows, 0);
  EXPECT_EQ(answer.finished.attention.MeanTokensAttended(LayerRole::kFull), 42.5);
}

TEST_F(EnginePlans, ScoresTellTheMassOfEachRow) {
  const auto engine = Make(Options({kSparse}));
  Request request = GreedyRequest(*engine, SomeTokens(60, 1), 0, kSparse);
  request.score_top = 0;
  request.score_prefill = 50;
  int32_t traced = 0;
  request.trace = [&](const LayerTrace& line) {
    EXPECT_EQ(line.step, traced / kNumLayers);
    EXPECT_EQ(line.pos, 50 + line.step);
    EXPECT_EQ(line.layer, traced++ % kNumLayers);
    ASSERT_EQ(line.positions.size(), 1u);
    EXPECT_EQ(line.positions[0].size(), 16u);
    EXPECT_EQ(line.positions[0].back(), line.pos);
  };
  const Answer answer = RunAlone(engine.get(), engine->OpenSequence().value(), request);
  EXPECT_EQ(traced, 10 * kNumLayers);
  ASSERT_EQ(answer.row_masses.size(), 60u);
  for (size_t pos = 0; pos < 60; ++pos) {
    if (pos < 50)
      EXPECT_EQ(answer.row_masses[pos], 1);
    else
      EXPECT_LT(answer.row_masses[pos], 1);
  }
}

TEST_F(EnginePlans, TheIndexIsChosenFromTheKnownPlans) {
  const auto index_bytes = [&](const std::vector<std::string>& plans, IndexLayers layers,
                               int32_t bits) {
    EngineOptions options = Options(plans);
    options.index_layers = layers;
    options.index_bits = bits;
    const MemoryUse memory = Make(options)->memory();
    EXPECT_EQ(memory.index_bytes == 0, memory.index_bytes_per_token == 0);
    return memory.index_bytes;
  };
  const int64_t every = index_bytes({}, IndexLayers::kAuto, 0);
  EXPECT_GT(every, 0);
  EXPECT_EQ(index_bytes({"tidal"}, IndexLayers::kAuto, 0), every);
  EXPECT_EQ(index_bytes({"full"}, IndexLayers::kAuto, 0), 0);
  EXPECT_EQ(index_bytes({"quest"}, IndexLayers::kAuto, 0), 0);
  EXPECT_EQ(index_bytes({"full"}, IndexLayers::kAll, 0), every);
  EXPECT_EQ(index_bytes({"tidal"}, IndexLayers::kNone, 0), 0);
  EXPECT_EQ(index_bytes({"full", "tidal:select=0"}, IndexLayers::kAuto, 0), every / kNumLayers);
  EXPECT_LT(index_bytes({"tidal"}, IndexLayers::kAuto, 2), every);
  EXPECT_EQ(index_bytes({"tidal:scorer=index2"}, IndexLayers::kAuto, 0),
            index_bytes({"tidal"}, IndexLayers::kAuto, 2));
}

TEST_F(EnginePlans, WhatDoesNotFitIsRefusedByName) {
  const auto engine = Engine::Create(Options({"full", "tidal:select=7"}), nullptr);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(engine.status().message().starts_with("--attention: ")) << engine.status().message();

  EngineOptions options = Options();
  options.index_bits = 3;
  EXPECT_EQ(Engine::Create(options, nullptr).status().message(),
            "--index-bits is 3, expected 4, 2, or 0 for auto");

  const auto fitting = Make(Options());
  const SequenceId sequence = fitting->OpenSequence().value();
  const auto message = [&](Request request) {
    const auto id = fitting->Submit(sequence, std::move(request));
    EXPECT_FALSE(id.ok());
    EXPECT_EQ(id.status().code(), StatusCode::kInvalidArgument);
    return id.status().message();
  };
  Request request = GreedyRequest(*fitting, SomeTokens(50, 1), 5, kSparse);
  request.attention.selects.push_back(1);
  EXPECT_NE(message(request).find("5 layers, the model has 4"), std::string::npos);
  // 10 % of 51 tokens are 6, of which 4 sinks and 4 recent ones would be kept.
  request = GreedyRequest(*fitting, SomeTokens(50, 1), 5, "tidal:budget=10%:recent=4:below=0");
  const std::string small = message(request);
  EXPECT_TRUE(small.starts_with("--attention: ")) << small;
  EXPECT_NE(small.find('6'), std::string::npos) << small;
  EXPECT_NE(small.find('8'), std::string::npos) << small;
  EXPECT_TRUE(fitting->idle());
}

TEST_F(EnginePlans, ASidecarIsReadAndUsed) {
  const std::string hash = ModelHash(Model::Load(path()).value()).value();
  const auto write = [&](const std::string& model_hash) {
    std::ofstream(sidecar_path()) << R"({"format":1,"model_hash":")" << model_hash
                                  << R"(","plans":[{"preset":"tidal","budget":1024,"below":0,)"
                                  << R"("select":[1,3],"full":[0,1],"scope":"shared",)"
                                  << R"("scorer":"index4"}]})";
  };
  EXPECT_EQ(Make(Options())->sidecar(), "");
  write(hash);
  const auto engine = Make(Options({"tidal"}));
  EXPECT_EQ(engine->sidecar(), sidecar_path());
  const AttentionPlan plan = engine->ResolvePlan(PlanSpec::Parse("tidal").value()).value();
  EXPECT_EQ(plan.selects, (std::vector<uint8_t>{0, 1, 0, 1}));
  EXPECT_EQ(plan.reads_all, (std::vector<uint8_t>{1, 1, 0, 0}));
  EXPECT_EQ(engine->memory().index_bytes * 2, Make(Options())->memory().index_bytes)
      << "the index is in the layers that the sidecar chooses in";

  write(std::string(64, '0'));
  const auto other = Engine::Create(Options(), nullptr);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.status().message().find("random.tidal.json"), std::string::npos);
  std::ofstream(sidecar_path()) << "{";
  const auto broken = Engine::Create(Options(), nullptr);
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.status().code(), StatusCode::kCorrupt);
  std::filesystem::remove(sidecar_path());
  std::filesystem::create_directory(sidecar_path());
  const auto directory = Engine::Create(Options(), nullptr);
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.status().code(), StatusCode::kIo);
}

TEST_F(EnginePlans, ABuiltInCalibrationServesWhereThereIsNoSidecar) {
  const Model model = Model::Load(path()).value();
  const auto text = [&](const std::string& layer) {
    return R"({"format":1,"model_hash":")" + ModelHash(model).value() +
           R"(","plans":[{"preset":"tidal","budget":64,"select":[)" + layer +
           R"(],"full":[0,1]}]})";
  };
  const std::string built_in = text("1");
  const EmbeddedText table[] = {{"random", built_in}};
  const auto found = ReadSidecar(path(), model, table);
  ASSERT_TRUE(found.ok() && found.value()) << found.status().message();
  EXPECT_EQ(found.value()->name(), "the built-in calibration of random");
  EXPECT_EQ(found.value()->entries()[0].select, std::vector<int32_t>{1});
  std::ofstream(sidecar_path()) << text("2");
  EXPECT_EQ(ReadSidecar(path(), model, table).value()->name(), sidecar_path())
      << "a sidecar beside the model comes first";
}

}  // namespace
}  // namespace tidal
