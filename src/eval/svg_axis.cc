#include "eval/svg_axis.h"

#include <algorithm>
#include <cmath>

namespace tidal {
namespace {

constexpr int kWantedTicks = 5;
constexpr double kMargin = 0.05;  // of the range, kept free at both ends

// 1, 2 or 5 times a power of ten.
double NiceStep(double range) {
  const double rough = range / kWantedTicks;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough) return factor * power;
  return 10 * power;
}

}  // namespace

SvgAxis::SvgAxis(AxisScale scale, const std::vector<double>& values, double from, double to)
    : scale_(scale), low_(HUGE_VAL), high_(-HUGE_VAL), from_(from), to_(to) {
  for (const double value : values) {
    if (!Shows(value)) continue;
    low_ = std::min(low_, Position(value));
    high_ = std::max(high_, Position(value));
  }
  if (empty()) return;
  const bool starts_at_zero = scale_ == AxisScale::kLinear && low_ >= 0 && low_ < 0.5 * high_;
  const double margin =
      high_ > low_ ? kMargin * (high_ - low_) : std::max(std::fabs(high_), 1.0) / 2;
  low_ = starts_at_zero ? 0 : low_ - margin;
  high_ += margin;
  if (scale_ == AxisScale::kLinear)
    SetLinearTicks();
  else
    SetLogTicks();
}

bool SvgAxis::Shows(double value) const {
  return std::isfinite(value) && (scale_ == AxisScale::kLinear || value > 0);
}

double SvgAxis::Position(double value) const {
  if (scale_ == AxisScale::kLog10) return std::log10(value);
  return scale_ == AxisScale::kLog2 ? std::log2(value) : value;
}

double SvgAxis::At(double value) const {
  const double share = std::clamp((Position(value) - low_) / (high_ - low_), 0.0, 1.0);
  return from_ + share * (to_ - from_);
}

void SvgAxis::SetLinearTicks() {
  const double step = NiceStep(high_ - low_);
  for (double i = std::ceil(low_ / step); i * step <= high_; ++i) ticks_.push_back(i * step);
}

void SvgAxis::SetLogTicks() {
  const bool is_binary = scale_ == AxisScale::kLog2;
  const double decades = high_ - low_;
  // Few decades: also 2 and 5 in each; very few: every step of one significant digit.
  std::vector<double> factors = {1};
  if (!is_binary && decades < 3) factors = {1, 2, 5};
  if (!is_binary && decades < 0.7) factors = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const double stride = is_binary ? std::ceil(decades / 8) : std::ceil(decades / 6);
  for (double exponent = std::floor(low_); exponent <= high_; exponent += stride) {
    const double power = std::pow(is_binary ? 2.0 : 10.0, exponent);
    for (const double factor : factors) {
      const double at = Position(factor * power);
      if (at >= low_ && at <= high_) ticks_.push_back(factor * power);
    }
  }
}

}  // namespace tidal
