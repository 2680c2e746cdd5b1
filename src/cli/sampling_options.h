// Options that say how a token is drawn.
#ifndef TIDAL_CLI_SAMPLING_OPTIONS_H_
#define TIDAL_CLI_SAMPLING_OPTIONS_H_

#include <optional>
#include <string>
#include <utility>

#include "sampler/sampler.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

struct SamplingOptions {
  SamplingParams params;
  std::optional<uint64_t> seed;  // none: a new one for each run
  bool ignore_eos = false;
};

void AddSamplingOptions(CLI::App* app, SamplingOptions* options);

// The parameters with a seed: the one given, or a random one.
SamplingParams WithSeed(const SamplingOptions& options);

// "15043+1.5", "15043-inf": a token id and what is added to its logit.
Result<std::pair<int32_t, float>> ParseLogitBias(const std::string& flag, const std::string& text);

}  // namespace tidal

#endif  // TIDAL_CLI_SAMPLING_OPTIONS_H_
