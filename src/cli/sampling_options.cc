#include "cli/sampling_options.h"

#include <limits>
#include <random>

#include "cli/arguments.h"

namespace tidal {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr float kMaxFloat = std::numeric_limits<float>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// 0 is a range's end that a divisor must not reach.
constexpr float kMinDivisor = std::numeric_limits<float>::min();

Result<std::optional<uint64_t>> ParseSeed(const std::string& flag, const std::string& text) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t seed,
                         ParseInt(flag, text, {-1, std::numeric_limits<int64_t>::max()}));
  if (seed < 0) return std::optional<uint64_t>();
  return std::optional<uint64_t>(static_cast<uint64_t>(seed));
}

void AddPenalties(CLI::App* app, SamplingParams* params) {
  AddFloat(app,
           {"--repeat-penalty", "X",
            "Divide the positive and multiply the negative logits of recent tokens by X "
            "(default: 1, off)"},
           &params->repetition_penalty, {kMinDivisor, kMaxFloat});
  AddFloat(
      app,
      {"--presence-penalty", "X", "Subtract X from the logits of recent tokens (default: 0, off)"},
      &params->presence_penalty, {-kMaxFloat, kMaxFloat});
  AddFloat(app,
           {"--frequency-penalty", "X",
            "Subtract X from a token's logit for each time it occurred recently (default: 0, off)"},
           &params->frequency_penalty, {-kMaxFloat, kMaxFloat});
  AddInt(app,
         {"--repeat-last-n", "N",
          "How many of the newest tokens are recent: 0 none, -1 all (default: 64)"},
         &params->penalty_last_n, {-1, kMaxInt});
}

}  // namespace

void AddSamplingOptions(CLI::App* app, SamplingOptions* options) {
  SetHeading(app, "Sampling, in the order of application");
  SamplingParams* params = &options->params;
  AddOption(app,
            {"--logit-bias", "ID(+|-)BIAS",
             "Add BIAS to the logit of token ID; -inf bans it; may be given several times",
             Presence::kOptional, Arity::kRepeated},
            [params](const std::string& flag, const std::string& text) {
              TIDAL_ASSIGN_OR_RETURN(const auto bias, ParseLogitBias(flag, text));
              params->logit_bias.push_back(bias);
              return OkStatus();
            });
  AddPenalties(app, params);
  AddInt(app, {"--top-k", "N", "Keep the N best tokens, 0 all (default: 40)"}, &params->top_k,
         {0, kMaxInt});
  AddFloat(app, {"--top-p", "P", "Keep the fewest tokens that reach probability P (default: 0.95)"},
           &params->top_p, {0, 1});
  AddFloat(app,
           {"--min-p", "P",
            "Keep tokens with at least P times the best one's probability (default: 0.05)"},
           &params->min_p, {0, 1});
  AddFloat(app, {"--temp", "T", "Temperature; 0 takes the best token every time (default: 0.8)"},
           &params->temperature, {0, kMaxFloat});
  AddValue<std::optional<uint64_t>>(
      app, {"-s,--seed", "N", "Same seed, same text; -1 takes a new one each time (default: -1)"},
      &options->seed, ParseSeed);
  AddFlag(app, "--ignore-eos", &options->ignore_eos,
          "Generate on after a token that ends the answer");
}

SamplingParams WithSeed(const SamplingOptions& options) {
  SamplingParams params = options.params;
  // 32 bits, so that every JSON reader holds the number exactly.
  params.seed = options.seed ? *options.seed : std::random_device()();
  return params;
}

Result<std::pair<int32_t, float>> ParseLogitBias(const std::string& flag, const std::string& text) {
  const Status wrong = InvalidArgument(
      "{} is \"{}\", expected a token id, + or -, and a number, as in 15043+1 or 15043-inf", flag,
      text);
  const size_t sign = text.find_first_of("+-");
  if (sign == std::string::npos || sign + 1 >= text.size()) return wrong;
  const std::string_view digits = std::string_view(text).substr(0, sign);
  const std::string_view amount = std::string_view(text).substr(sign + 1);
  const Result<int64_t> id = ParseInt(flag, digits, {0, kMaxInt});
  const Result<float> bias = ParseFloat(flag, amount, {0, kInfinity});
  if (!id.ok() || !bias.ok() || amount[0] == '-') return wrong;
  return std::pair(static_cast<int32_t>(*id), text[sign] == '-' ? -*bias : *bias);
}

}  // namespace tidal
