#include "base/float16.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

namespace tidal {
namespace {

// A 16-bit float format in plain double arithmetic, from its definition: the oracle of every test
// here.
class Format {
 public:
  Format(int exponent_bits, int mantissa_bits)
      : mantissa_bits_(mantissa_bits), bias_((1 << (exponent_bits - 1)) - 1) {
    infinity_ = static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
    for (int code = 0; code < infinity_; ++code) magnitudes_.push_back(Magnitude(code));
    // The value that the next exponent would have: what rounding compares with before it becomes
    // infinity.
    magnitudes_.push_back(Magnitude(infinity_));
  }

  uint16_t infinity() const { return infinity_; }

  // The exact value of a code; NaN for a NaN.
  double Value(uint16_t code) const {
    const int magnitude = code & 0x7fff;
    double value = std::numeric_limits<double>::quiet_NaN();
    if (magnitude < infinity_) value = magnitudes_[static_cast<size_t>(magnitude)];
    if (magnitude == infinity_) value = std::numeric_limits<double>::infinity();
    return (code & 0x8000) != 0 ? -value : value;
  }

  // The code nearest to a value that is not NaN, ties to the even code.
  uint16_t Nearest(double value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(value);
    const auto above = std::lower_bound(magnitudes_.begin(), magnitudes_.end(), magnitude);
    if (above == magnitudes_.end()) return static_cast<uint16_t>(sign | infinity_);
    auto code = static_cast<uint16_t>(above - magnitudes_.begin());
    if (*above != magnitude) {
      const double up = *above - magnitude;
      const double down = magnitude - *(above - 1);
      if (down < up || (down == up && code % 2 == 1)) --code;
    }
    return static_cast<uint16_t>(sign | code);
  }

 private:
  double Magnitude(int code) const {
    const int exponent = code >> mantissa_bits_;
    const int mantissa = code & ((1 << mantissa_bits_) - 1);
    const int implied = exponent == 0 ? 0 : 1 << mantissa_bits_;
    return std::ldexp(implied + mantissa, std::max(exponent, 1) - bias_ - mantissa_bits_);
  }

  int mantissa_bits_;
  int bias_;
  uint16_t infinity_;
  std::vector<double> magnitudes_;
};

struct Conversion {
  const char* name;
  int exponent_bits;
  int mantissa_bits;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
};

class Float16Test : public testing::TestWithParam<Conversion> {
 protected:
  const Format format_{GetParam().exponent_bits, GetParam().mantissa_bits};
};

TEST_P(Float16Test, EveryCodeWidensExactly) {
  for (uint32_t code = 0; code <= 0xffff; ++code) {
    const double expected = format_.Value(static_cast<uint16_t>(code));
    const float found = GetParam().widen(static_cast<uint16_t>(code));
    ASSERT_EQ(std::isnan(expected), std::isnan(found)) << std::hex << code;
    if (!std::isnan(expected)) {
      ASSERT_EQ(expected, static_cast<double>(found)) << std::hex << code;
    }
    ASSERT_EQ((code & 0x8000) != 0, std::signbit(found)) << std::hex << code;
  }
}

TEST_P(Float16Test, EveryCodeSurvivesTheRoundTrip) {
  for (uint32_t code = 0; code <= 0xffff; ++code) {
    const uint16_t back = GetParam().narrow(GetParam().widen(static_cast<uint16_t>(code)));
    if ((code & 0x7fff) > format_.infinity()) {
      ASSERT_GT(back & 0x7fff, format_.infinity()) << std::hex << code;
      ASSERT_EQ(back & 0x8000, code & 0x8000) << std::hex << code;
    } else {
      ASSERT_EQ(back, code) << std::hex << code;
    }
  }
}

TEST_P(Float16Test, RoundsToNearestEvenAroundEveryMidpoint) {
  for (uint16_t code = 0; code < format_.infinity(); ++code) {
    const double low = format_.Value(code);
    const bool last = code + 1 == format_.infinity();
    const double step = last ? low - format_.Value(code - 1) : format_.Value(code + 1) - low;
    const auto middle = static_cast<float>(low + step / 2);  // one bit more than the format: exact
    for (const float f :
         {middle, std::nextafterf(middle, 0.0f), std::nextafterf(middle, HUGE_VALF)}) {
      ASSERT_EQ(GetParam().narrow(f), format_.Nearest(f)) << f;
      ASSERT_EQ(GetParam().narrow(-f), format_.Nearest(-static_cast<double>(f))) << -f;
    }
  }
}

TEST_P(Float16Test, RoundsRandomBitPatterns) {
  constexpr uint32_t kSeed = 20240607;
  std::mt19937 random(kSeed);
  for (int i = 0; i < 400'000; ++i) {
    const auto f = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const uint16_t found = GetParam().narrow(f);
    if (std::isnan(f)) {
      ASSERT_GT(found & 0x7fff, format_.infinity());
    } else {
      ASSERT_EQ(found, format_.Nearest(f)) << f << " seed " << kSeed << " draw " << i;
    }
  }
}

TEST_P(Float16Test, ExtremesOfFloat) {
  using Limits = std::numeric_limits<float>;
  for (const float f : {0.0f, -0.0f, Limits::denorm_min(), -Limits::denorm_min(), Limits::min(),
                        Limits::max(), Limits::lowest(), Limits::infinity(), -Limits::infinity()}) {
    EXPECT_EQ(GetParam().narrow(f), format_.Nearest(f)) << f;
  }
  for (const uint32_t nan : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffc00000u}) {
    const uint16_t found = GetParam().narrow(std::bit_cast<float>(nan));
    EXPECT_GT(found & 0x7fff, format_.infinity()) << std::hex << nan;
    EXPECT_EQ(found >> 15, nan >> 31) << std::hex << nan;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Float16Test,
                         testing::Values(Conversion{"f16", 5, 10, F16ToF32, F32ToF16},
                                         Conversion{"bf16", 8, 7, Bf16ToF32, F32ToBf16}),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace tidal
