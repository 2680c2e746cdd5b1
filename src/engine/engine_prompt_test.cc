// Saving a prompt from one engine and loading it into another, on a small random model.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/engine.h"
#include "model/test_model.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  Timings timings;
};

class EnginePromptTest : public testing::Test {
 protected:
  EnginePromptTest() : folder_(std::filesystem::path(testing::TempDir()) / "tidal_prompt_XXXXXX") {
    std::string name = folder_.string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    TestModelSpec spec;
    spec.num_layers = 3;
    EXPECT_TRUE(WriteRandomModel(File("model.gguf"), spec).ok());
    spec.seed = 2;
    EXPECT_TRUE(WriteRandomModel(File("other.gguf"), spec).ok());
  }
  ~EnginePromptTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string File(const std::string& name) const { return (folder_ / name).string(); }

  EngineOptions Options(const std::string& plan = "full") const {
    EngineOptions options;
    options.model_path = File("model.gguf");
    if (const char* device = std::getenv("TIDAL_TEST_DEVICE")) options.device = device;
    options.num_threads = 2;
    options.plans = {PlanSpec::Parse(plan).value()};
    return options;
  }
  static std::unique_ptr<Engine> Make(const EngineOptions& options) {
    auto engine = Engine::Create(options, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(engine).value();
  }

  // Greedy, with log-probabilities, under the engine's first plan.
  static Answer Run(Engine* engine, SequenceId sequence, const EngineOptions& options,
                    const std::vector<TokenId>& prompt, int32_t max_tokens) {
    Request request;
    request.prompt = prompt;
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0;
    request.ignore_eos = true;
    request.logprobs = 1;
    request.attention = engine->ResolvePlan(options.plans[0]).value();
    EXPECT_TRUE(engine->Submit(sequence, request).ok());
    Answer answer;
    std::vector<Event> events;
    while (!engine->idle()) {
      events.clear();
      EXPECT_TRUE(engine->Step(&events).ok());
      for (const Event& event : events) {
        if (event.kind == Event::Kind::kToken) {
          answer.tokens.push_back(event.token);
          answer.logprobs.push_back(event.logprob);
        }
        if (event.kind == Event::Kind::kFinished) answer.timings = event.timings;
      }
    }
    return answer;
  }

  void Save(const Engine& engine, SequenceId sequence, int32_t num_tokens) const {
    std::ofstream file(File("prompt.kv"), std::ios::binary);
    const Status status =
        engine.SavePrompt(sequence, num_tokens, [&](std::span<const std::byte> bytes) {
          file.write(reinterpret_cast<const char*>(bytes.data()),
                     static_cast<std::streamsize>(bytes.size()));
          return OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status.message();
  }
  SavedPrompt Saved() const { return SavedPrompt::Open(File("prompt.kv")).value(); }

  std::filesystem::path folder_;
  const std::vector<TokenId> prompt_ = SomeTokens(150, 3);
};

// Against an engine whose own cache holds the prompt: the same rows run, so the bits are the same.
TEST_F(EnginePromptTest, ALoadedPromptIsAsGoodAsOneThatWasRead) {
  // Plans that select by an index in other layers or of other bits: it is copied where the file has
  // the same one, and computed where not.
  const EngineOptions with_index = Options("tidal:below=0:budget=80");
  const EngineOptions without = Options();
  EngineOptions two_bits = with_index;
  two_bits.index_bits = 2;
  for (const EngineOptions& saver : {with_index, without}) {
    const auto first = Make(saver);
    const SequenceId sequence = first->OpenSequence().value();
    Run(first.get(), sequence, saver, prompt_, 6);
    Save(*first, sequence, 150);
    for (const EngineOptions& loader : {with_index, without, two_bits}) {
      const auto reader = Make(loader);
      const SequenceId read = reader->OpenSequence().value();
      Run(reader.get(), read, loader, prompt_, 0);
      const Answer expected = Run(reader.get(), read, loader, prompt_, 6);
      const auto second = Make(loader);
      const SequenceId loaded = second->OpenSequence().value();
      EXPECT_EQ(second->LoadPrompt(loaded, Saved(), prompt_).value(), 150);
      EXPECT_EQ(second->CachedTokens(loaded), 150);
      const Answer answer = Run(second.get(), loaded, loader, prompt_, 6);
      EXPECT_EQ(answer.timings.reused_tokens, 149) << "the newest token runs again";
      EXPECT_EQ(answer.tokens, expected.tokens);
      EXPECT_EQ(answer.logprobs, expected.logprobs);
    }
  }
}

TEST_F(EnginePromptTest, TheCommonBeginningIsLoaded) {
  const EngineOptions options = Options();
  const auto first = Make(options);
  const SequenceId sequence = first->OpenSequence().value();
  Run(first.get(), sequence, options, prompt_, 0);
  Save(*first, sequence, 150);
  for (const int32_t common : {0, 1, 63, 64, 65, 128, 149}) {
    std::vector<TokenId> prompt(prompt_.begin(), prompt_.begin() + common);
    prompt.push_back((prompt_[static_cast<size_t>(common)] + 1) % 250);
    const std::vector<TokenId> rest = SomeTokens(20, 9);
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    const auto second = Make(options);
    const SequenceId loaded = second->OpenSequence().value();
    EXPECT_EQ(second->LoadPrompt(loaded, Saved(), prompt).value(), common);
    const Answer answer = Run(second.get(), loaded, options, prompt, 4);
    EXPECT_EQ(answer.timings.reused_tokens, common);
    const auto plain = Make(options);
    EXPECT_EQ(answer.tokens,
              Run(plain.get(), plain->OpenSequence().value(), options, prompt, 4).tokens);
  }
}

TEST_F(EnginePromptTest, WhatTheCacheHoldsAlreadyIsNotReplacedByLess) {
  const EngineOptions options = Options();
  const auto engine = Make(options);
  const SequenceId sequence = engine->OpenSequence().value();
  Run(engine.get(), sequence, options, prompt_, 0);
  Save(*engine, sequence, 100);
  EXPECT_EQ(engine->LoadPrompt(sequence, Saved(), prompt_).value(), 150);
  EXPECT_EQ(engine->CachedTokens(sequence), 150);
  // Of a prompt that begins otherwise nothing is there.
  EXPECT_EQ(engine->LoadPrompt(sequence, Saved(), SomeTokens(20, 77)).value(), 0);
  // A shorter one takes what it needs.
  const std::vector<TokenId> shorter(prompt_.begin(), prompt_.begin() + 70);
  const auto other = Make(options);
  EXPECT_EQ(other->LoadPrompt(other->OpenSequence().value(), Saved(), shorter).value(), 70);
}

TEST_F(EnginePromptTest, APromptLongerThanTheContextIsLoadedAsFarAsItGoes) {
  const EngineOptions options = Options();
  const auto first = Make(options);
  const SequenceId sequence = first->OpenSequence().value();
  Run(first.get(), sequence, options, prompt_, 0);
  Save(*first, sequence, 150);
  EngineOptions small = options;
  small.ctx_size = 100;
  const auto second = Make(small);
  const SequenceId loaded = second->OpenSequence().value();
  EXPECT_EQ(second->LoadPrompt(loaded, Saved(), prompt_).value(), 100);
  Request request;
  request.prompt = prompt_;
  EXPECT_EQ(second->Submit(loaded, request).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(EnginePromptTest, OnlyCleanTokensAreSaved) {
  const EngineOptions sparse = Options("tidal:below=0:budget=80");
  const auto engine = Make(sparse);
  const SequenceId sequence = engine->OpenSequence().value();
  const auto nothing = [](std::span<const std::byte>) { return OkStatus(); };
  EXPECT_EQ(engine->SavePrompt(sequence, 1, nothing).code(), StatusCode::kInvalidArgument);
  Run(engine.get(), sequence, sparse, prompt_, 8);
  EXPECT_EQ(engine->CachedTokens(sequence), 157);
  EXPECT_EQ(engine->CleanTokens(sequence), 150) << "seven sparse rows";
  EXPECT_EQ(engine->SavePrompt(sequence, 0, nothing).code(), StatusCode::kInvalidArgument);
  const Status status = engine->SavePrompt(sequence, 151, nothing);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("151 tokens to save, expected 1 to 150"));
  EXPECT_EQ(
      engine->SavePrompt(sequence, 150, [](std::span<const std::byte>) { return IoError("full"); })
          .message(),
      "full");
}

TEST_F(EnginePromptTest, AnotherModelCacheOrPrecisionIsRefused) {
  const EngineOptions options = Options();
  const auto first = Make(options);
  const SequenceId sequence = first->OpenSequence().value();
  Run(first.get(), sequence, options, prompt_, 0);
  Save(*first, sequence, 150);
  EngineOptions model = options;
  model.model_path = File("other.gguf");
  EngineOptions k_type = options;
  k_type.k_cache_type = CacheType::kQ8_0;
  EngineOptions v_type = options;
  v_type.v_cache_type = CacheType::kF32;
  EngineOptions precision = options;
  precision.precision = Precision::kF32;
  EngineOptions rope = options;
  rope.rope_scaling = RopeScalingKind::kYarn;
  rope.rope_scale = 4;
  const std::pair<EngineOptions, const char*> cases[] = {
      {model, "saved with the model of hash"},
      {rope, " with --rope-scaling yarn --rope-scale 4\"; name another file"},
      {k_type,
       "K f16, V f16\", this run has \"cpu 1: 3 layers, 2 KV heads of 16, 64 tokens, K q8_0"},
      {v_type, "V f32"},
      {precision, "saved with --precision \"fast\", this run has \"f32\""}};
  for (const auto& [loader, message] : cases) {
    const auto second = Make(loader);
    const SequenceId loaded = second->OpenSequence().value();
    const Result<int32_t> result = second->LoadPrompt(loaded, Saved(), prompt_);
    EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(result.status().message(), HasSubstr(message));
    EXPECT_THAT(result.status().message(), HasSubstr("name another file"));
    EXPECT_EQ(second->CachedTokens(loaded), 0);
  }
}

TEST_F(EnginePromptTest, ADamagedPageLeavesAnEmptyCacheThatWorks) {
  const EngineOptions options = Options();
  const auto first = Make(options);
  const SequenceId sequence = first->OpenSequence().value();
  const Answer expected = Run(first.get(), sequence, options, prompt_, 4);
  Save(*first, sequence, 150);
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(File("prompt.kv")));
  std::fstream(File("prompt.kv")).seekp(size - 100).put('x').put('y');
  const auto second = Make(options);
  const SequenceId loaded = second->OpenSequence().value();
  const Result<int32_t> result = second->LoadPrompt(loaded, Saved(), prompt_);
  EXPECT_EQ(result.status().code(), StatusCode::kCorrupt);
  EXPECT_THAT(result.status().message(), HasSubstr("page 2 of 3 is damaged"));
  EXPECT_EQ(second->CachedTokens(loaded), 0);
  // The damage is past what this prompt needs.
  const std::vector<TokenId> shorter(prompt_.begin(), prompt_.begin() + 128);
  EXPECT_EQ(second->LoadPrompt(loaded, Saved(), shorter).value(), 128);
  EXPECT_EQ(Run(second.get(), loaded, options, prompt_, 4).tokens, expected.tokens);
}

}  // namespace
}  // namespace tidal
