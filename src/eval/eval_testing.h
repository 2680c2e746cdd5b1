// Help for the tests of this folder: a small random model behind an engine, and random texts.
#ifndef TIDAL_EVAL_EVAL_TESTING_H_
#define TIDAL_EVAL_EVAL_TESTING_H_

#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "engine/engine.h"
#include "eval/loss.h"
#include "model/test_model.h"

namespace tidal {

// A folder with a random model of four layers, removed with the test.
class RandomModelTest : public testing::Test {
 protected:
  static constexpr int32_t kNumLayers = 4;

  RandomModelTest() : folder_(std::filesystem::path(testing::TempDir()) / "tidal_eval_XXXXXX") {
    std::string name = folder_.string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    TestModelSpec spec;
    spec.num_layers = kNumLayers;
    spec.trained_seq_len = 1024;
    const Status status = WriteRandomModel(path(), spec);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  ~RandomModelTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string path() const { return (folder_ / "random.gguf").string(); }
  std::string File(const std::string& name) const { return (folder_ / name).string(); }

  // Everything in float32.
  EngineOptions Options(const EvalNeeds& needs) const {
    EngineOptions options;
    options.model_path = path();
    options.num_threads = 2;
    options.precision = Precision::kF32;
    options.k_cache_type = options.v_cache_type = CacheType::kF32;
    options.index_layers = IndexLayers::kAll;
    options.ctx_size = needs.context;
    options.max_sequences = needs.sequences;
    options.cache_tokens = needs.cache_tokens;
    return options;
  }
  std::unique_ptr<Engine> Make(const EvalNeeds& needs) const {
    auto engine = Engine::Create(Options(needs), nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(engine).value();
  }

 private:
  std::filesystem::path folder_;
};

inline EvalDocument RandomDocument(const std::string& name, size_t num_tokens, uint32_t seed) {
  EvalDocument document{name, {}};
  for (uint32_t state = seed; document.tokens.size() < num_tokens;) {
    state = state * 1664525u + 1013904223u;
    document.tokens.push_back(static_cast<TokenId>((state >> 16) % 250));  // no special ones
  }
  return document;
}

// For a model of RandomModelTest.
inline EvalPlan PlanOf(const std::string& text) {
  const PlanModel model{.num_layers = 4, .num_heads = 4, .num_kv_heads = 2};
  Result<AttentionPlan> plan = PlanSpec::Parse(text).value().Resolve(model);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return {text, plan.ok() ? *plan : AttentionPlan()};
}

}  // namespace tidal

#endif  // TIDAL_EVAL_EVAL_TESTING_H_
