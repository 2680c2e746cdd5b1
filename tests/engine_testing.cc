#include "engine_testing.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>

#include "cpu/isa.h"

namespace tidal {

namespace {

std::vector<Isa> FindTestableIsas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (ResolveIsa(isa).ok()) {
      isas.push_back(isa);
    } else {
      std::printf("SKIPPED: this machine cannot run %s; its kernels are not tested here\n",
                  NameOf(isa));
    }
  }
  return isas;
}

}  // namespace

std::vector<Isa> TestableIsas() {
  // Many suites ask; the machine is looked at, and the skip told, once.
  static const std::vector<Isa> isas = FindTestableIsas();
  return isas;
}

std::string TestDevice() {
  const char* device = std::getenv("TIDAL_TEST_DEVICE");
  return device != nullptr ? device : "cpu";
}

std::optional<std::string> FindRealModel(const std::string& name) {
  const char* dir = std::getenv("TIDAL_MODELS_DIR");
  const std::filesystem::path base = dir != nullptr ? dir : TIDAL_SOURCE_DIR "/models";
  const std::filesystem::path path = base / (name + ".gguf");
  if (std::filesystem::exists(path)) return path.string();
  std::printf("SKIPPED: %s is not there; scripts/fetch_models.sh fetches it\n", path.c_str());
  return std::nullopt;
}

std::vector<Event> RunToEnd(Engine* engine) {
  std::vector<Event> events;
  while (!engine->idle()) {
    const Status status = engine->Step(&events);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
  }
  return events;
}

Scores ScorePrompt(Engine* engine, SequenceId sequence, const std::vector<TokenId>& tokens,
                   int32_t top, int32_t prefill) {
  Request request;
  request.prompt = tokens;
  request.max_tokens = 0;
  request.score_top = top;
  request.score_prefill = prefill;
  const Result<RequestId> id = engine->Submit(sequence, request);
  EXPECT_TRUE(id.ok()) << id.status().message();
  Scores scores;
  for (Event& event : RunToEnd(engine)) {
    if (event.kind != Event::Kind::kScore) continue;
    EXPECT_EQ(event.done, static_cast<int32_t>(scores.top.size()));
    scores.top.push_back(std::move(event.top));
    if (scores.next_logprob.size() + 1 < tokens.size())
      scores.next_logprob.push_back(event.logprob);
  }
  EXPECT_EQ(scores.top.size(), tokens.size());
  return scores;
}

}  // namespace tidal
