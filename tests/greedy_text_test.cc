// Long greedy text of real models on the test device, token by token against plain float32 on the
// CPU, which is shown the same text: where its best token leads by more than both may be off, the
// device must have taken it.
#include <cstdio>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "oracle_prompts.h"

namespace tidal {
namespace {

constexpr int32_t kTokens = 256;
constexpr int32_t kContext = 1024;

struct Mode {
  Precision precision = Precision::kFast;
  CacheType cache = CacheType::kF16;
  // What two log-probabilities may move against each other. Float32: twice the worst difference
  // that the stored references allow one (0.02). Otherwise their bound for the lead of a best
  // token, of products with activations of 8 bits as the CPU has them.
  double lead = 0;
};
constexpr Mode kF32{Precision::kF32, CacheType::kF32, 0.04};
constexpr Mode kFast{Precision::kFast, CacheType::kF16, 1.0};

std::unique_ptr<Engine> MakeEngine(const std::string& path, const std::string& device,
                                   const Mode& mode) {
  auto engine = Engine::Create({.model_path = path,
                                .device = device,
                                .ctx_size = kContext,
                                .precision = mode.precision,
                                .k_cache_type = mode.cache,
                                .v_cache_type = mode.cache},
                               nullptr);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(engine).value() : nullptr;
}

std::vector<TokenId> GreedyText(Engine* engine, const std::vector<TokenId>& prompt) {
  Request request;
  request.prompt = prompt;
  request.max_tokens = kTokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  const Result<RequestId> id = engine->Submit(engine->OpenSequence().value(), request);
  EXPECT_TRUE(id.ok()) << id.status().message();
  std::vector<TokenId> text;
  for (const Event& event : RunToEnd(engine)) {
    if (event.kind == Event::Kind::kToken) text.push_back(event.token);
  }
  EXPECT_EQ(text.size(), static_cast<size_t>(kTokens));
  return text;
}

void CheckModel(const std::string& model, const Mode& mode) {
  const auto path = FindRealModel(model);
  if (!path) GTEST_SKIP() << model << " is not there";
  const auto device = MakeEngine(*path, TestDevice(), mode);
  const auto reference = MakeEngine(*path, "cpu", kF32);
  ASSERT_TRUE(device != nullptr && reference != nullptr);
  const Prompt prompt = ReadOracle(model).front();
  const std::vector<TokenId> text = GreedyText(device.get(), prompt.ids);
  std::vector<TokenId> all = prompt.ids;
  all.insert(all.end(), text.begin(), text.end());
  const Scores scores = ScorePrompt(reference.get(), reference->OpenSequence().value(), all, 2);
  int32_t clear = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::vector<TokenLogprob>& best = scores.top[prompt.ids.size() - 1 + i];
    if (best[0].logprob - best[1].logprob <= mode.lead) continue;
    ++clear;
    EXPECT_EQ(text[i], best[0].id) << "token " << i << " of the text";
  }
  std::printf("%s %s on %s: %d of %d tokens have a clear lead\n", model.c_str(),
              NameOf(mode.precision), TestDevice().c_str(), clear, kTokens);
  EXPECT_GE(2 * clear, kTokens);  // otherwise little was compared
}

class GreedyTextTest : public testing::TestWithParam<const char*> {};

TEST_P(GreedyTextTest, Float32) { CheckModel(GetParam(), kF32); }
TEST_P(GreedyTextTest, Fast) { CheckModel(GetParam(), kFast); }

INSTANTIATE_TEST_SUITE_P(Models, GreedyTextTest,
                         testing::Values("smollm2-135m", "qwen2.5-coder-0.5b",
                                         "qwen2.5-coder-1.5b"),
                         [](const auto& param) {
                           const std::string model = param.param;
                           if (model == "smollm2-135m") return std::string("Smollm2");
                           return std::string(model == "qwen2.5-coder-0.5b" ? "Qwen0_5B"
                                                                            : "Qwen1_5B");
                         });

}  // namespace
}  // namespace tidal
