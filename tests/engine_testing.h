// Helpers of the end-to-end tests: an engine over a model, scored token by token.
#ifndef TIDAL_TESTS_ENGINE_TESTING_H_
#define TIDAL_TESTS_ENGINE_TESTING_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace tidal {

// The instruction sets that this machine can run, portable first. Prints those that it cannot,
// loudly.
std::vector<Isa> TestableIsas();

// What the tests run on: $TIDAL_TEST_DEVICE as --device has it, "cpu" where it is not set.
std::string TestDevice();

// The path of a real model under $TIDAL_MODELS_DIR (or models/ in the source tree); empty where it
// is not there.
std::optional<std::string> FindRealModel(const std::string& name);

// Runs until the engine is idle; fails the test on an error.
std::vector<Event> RunToEnd(Engine* engine);

// The scores of a prompt: per position its `top` best next tokens, and the log-probability of the
// next prompt token.
struct Scores {
  std::vector<std::vector<TokenLogprob>> top;
  std::vector<float> next_logprob;
};
Scores ScorePrompt(Engine* engine, SequenceId sequence, const std::vector<TokenId>& tokens,
                   int32_t top, int32_t prefill = -1);

}  // namespace tidal

#endif  // TIDAL_TESTS_ENGINE_TESTING_H_
