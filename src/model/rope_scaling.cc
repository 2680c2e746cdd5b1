#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/model_reader.h"

namespace tidal {
namespace {

// The share, from 0 to 1, of its own frequency that a pair keeps; the rest is the frequency divided
// by the factor.
double Llama3Share(const RopeScaling& scaling, double frequency) {
  const double turns =
      static_cast<double>(scaling.original_seq_len) * frequency / (2 * std::numbers::pi);
  const double share =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return std::clamp(share, 0.0, 1.0);
}

// The pair, as a fraction, that turns `turns` times within the original context.
double PairOfTurns(const RopeScaling& scaling, double turns, int32_t rope_dim, double theta) {
  const double wavelength = static_cast<double>(scaling.original_seq_len) / turns;
  return rope_dim * std::log(wavelength / (2 * std::numbers::pi)) / (2 * std::log(theta));
}

class YarnRamp {
 public:
  YarnRamp(const RopeScaling& scaling, int32_t rope_dim, double theta)
      : first_(PairOfTurns(scaling, scaling.beta_fast, rope_dim, theta)),
        last_(PairOfTurns(scaling, scaling.beta_slow, rope_dim, theta)) {
    if (scaling.round_range) {
      first_ = std::floor(first_);
      last_ = std::ceil(last_);
    }
    first_ = std::max(first_, 0.0);
    last_ = std::min(last_, rope_dim - 1.0);
    constexpr double kLeastWidth = 0.001;  // as the published code has it
    if (first_ == last_) last_ += kLeastWidth;
  }

  double ShareOf(int32_t pair) const {
    return 1 - std::clamp((pair - first_) / (last_ - first_), 0.0, 1.0);
  }

 private:
  double first_;
  double last_;
};

}  // namespace

double YarnAttnFactor(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

std::vector<float> RopeDivisors(const RopeScaling& scaling, int32_t rope_dim, double theta) {
  if (scaling.kind == RopeScalingKind::kNone) return {};
  const int32_t pairs = rope_dim / 2;
  std::vector<float> divisors(static_cast<size_t>(pairs), static_cast<float>(scaling.factor));
  if (scaling.kind == RopeScalingKind::kLinear) return divisors;
  const YarnRamp ramp(scaling, rope_dim, theta);
  for (int32_t pair = 0; pair < pairs; ++pair) {
    const double share = scaling.kind == RopeScalingKind::kYarn
                             ? ramp.ShareOf(pair)
                             : Llama3Share(scaling, std::pow(theta, -2.0 * pair / rope_dim));
    divisors[static_cast<size_t>(pair)] =
        static_cast<float>(1 / (share + (1 - share) / scaling.factor));
  }
  return divisors;
}

Status ApplyRopeScaling(const RopeScaling& scaling, ModelConfig* config) {
  const auto theta = static_cast<double>(config->rope_theta);
  if (scaling.kind == RopeScalingKind::kYarn && theta <= 1) {
    return Corrupt("RoPE has the base {}, expected more than 1 with YaRN", config->rope_theta);
  }
  config->rope_freq_divisors = RopeDivisors(scaling, config->rope_dim, theta);
  for (const float divisor : config->rope_freq_divisors) {
    if (std::isfinite(divisor) && divisor > 0) continue;
    return Corrupt("RoPE scaling divides a frequency by {}, expected a positive number", divisor);
  }
  if (scaling.kind != RopeScalingKind::kYarn) return OkStatus();
  config->rope_attn_factor = static_cast<float>(scaling.attn_factor);
  const double stretched = static_cast<double>(scaling.original_seq_len) * scaling.factor;
  config->trained_seq_len = static_cast<int32_t>(std::clamp(
      stretched, static_cast<double>(config->trained_seq_len), static_cast<double>(kMaxSeqLen)));
  return OkStatus();
}

}  // namespace tidal
