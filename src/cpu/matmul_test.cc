#include "cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>
#include <limits>

#include "cpu/isa.h"
#include "cpu/matmul_test_util.h"

namespace tidal {
namespace {

constexpr double kRound = 0x1p-24;  // largest relative error of a float32 rounding
constexpr float kUntouched = -12345.0f;

std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

struct Expected {
  std::vector<double> value;      // [num_tokens][rows]
  std::vector<double> tolerance;  // the same
};

// One product in double precision. `x` is [num_tokens][cols] as the product reads it.
Expected Reference(const TestMatrix& m, const std::vector<double>& x, int64_t num_tokens,
                   double roundings) {
  Expected expected;
  for (int64_t token = 0; token < num_tokens; ++token) {
    for (int64_t row = 0; row < m.rows; ++row) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < m.cols; ++k) {
        const size_t at = static_cast<size_t>(row * m.cols + k);
        const double xk = x[static_cast<size_t>(token * m.cols + k)];
        const double w = m.values[at];
        sum += w * xk;
        // Scale times code and the minimum are added up apart.
        magnitude += (std::abs(w) + 2 * std::abs(double{m.minimum[at]})) * std::abs(xk);
      }
      expected.value.push_back(sum);
      expected.tolerance.push_back(roundings * kRound * magnitude);
    }
  }
  return expected;
}

// A packed matrix with its memory and everything that a call of MatMul needs.
class Fixture {
 public:
  Fixture(const TestMatrix& m, const KernelTable& kernels, int num_threads)
      : kernels_(kernels),
        pool_(num_threads),
        memory_(PackedBytes(m.dtype, m.rows, m.cols)),
        packed_(Pack(m.dtype, m.rows, m.cols, m.bytes.data(), memory_.data(), pool_)),
        scratch_(MatMulScratch::Create(num_threads).value()) {
    for (int thread = 0; thread < num_threads; ++thread)
      std::memset(scratch_.OfThread(thread), 0xff, kMatMulScratchBytes);
  }

  std::vector<ActivationBlock> Quantize(const std::vector<float>& x, int64_t num_tokens) const {
    const int64_t cols = packed_.cols;
    std::vector<ActivationBlock> blocks(static_cast<size_t>(num_tokens * cols / kGroupCols));
    for (int64_t token = 0; token < num_tokens; ++token) {
      kernels_.matmul.quantize_row(x.data() + token * cols, cols,
                                   blocks.data() + token * cols / kGroupCols);
    }
    return blocks;
  }

  // Rows of the result, out_stride apart, gaps and everything before the call kUntouched.
  std::vector<float> Run(Precision precision, const std::vector<float>& x, int64_t num_tokens,
                         int64_t out_stride, const float* bias = nullptr,
                         OutputMode mode = OutputMode::kStore) {
    const std::vector<float> exact_x(x.begin(), x.begin() + num_tokens * packed_.cols);
    ActivationView view = {num_tokens, packed_.cols};
    std::vector<ActivationBlock> blocks;
    if (ReadsBlocks(packed_.type, precision)) {
      blocks = Quantize(exact_x, num_tokens);
      view.blocks = blocks.data();
    } else {
      view.x = exact_x.data();
      view.x_stride = packed_.cols;
    }
    std::vector<float> out(static_cast<size_t>(num_tokens * out_stride), kUntouched);
    const MatMulJob job = {&packed_, out.data(), out_stride, bias, mode};
    MatMul(kernels_, precision, pool_, scratch_, view, {&job, 1});
    return out;
  }

  const PackedMatrix& packed() const { return packed_; }

 private:
  const KernelTable& kernels_;
  ThreadPool pool_;
  TestMemory memory_;
  PackedMatrix packed_;
  MatMulScratch scratch_;
};

class MatMulTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = MachineIsas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "NOT TESTED: this machine does not have " << NameOf(GetParam());
  }
  const KernelTable& kernels() const { return KernelsFor(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Isas, MatMulTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& isa) { return std::string(NameOf(isa.param)); });

std::vector<int64_t> ColumnsFor(DType dtype) {
  if (UnitCols(PackedTypeOf(dtype)) == 256) return {256, 768};
  if (UnitCols(PackedTypeOf(dtype)) == 32) return {32, 256, 576};
  return {1, 7, 129, 300};
}

// What the product sees of x: itself, or codes times scales.
std::vector<double> AsRead(const Fixture& f, Precision precision, const std::vector<float>& x,
                           int64_t num_tokens) {
  std::vector<double> read(x.begin(), x.end());
  if (!ReadsBlocks(f.packed().type, precision)) return read;
  const std::vector<ActivationBlock> blocks = f.Quantize(x, num_tokens);
  for (size_t i = 0; i < read.size(); ++i)
    read[i] = double{blocks[i / 32].scale} * blocks[i / 32].codes[i % 32];
  return read;
}

// Worst error over tolerance; gaps between rows must be untouched.
double Worst(const std::vector<float>& out, int64_t out_stride, const Expected& expected,
             int64_t rows) {
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) % out_stride;
    const size_t at = static_cast<size_t>(static_cast<int64_t>(i) / out_stride * rows + row);
    if (row >= rows) {
      if (out[i] != kUntouched) return std::numeric_limits<double>::infinity();
      continue;
    }
    const double error = std::abs(out[i] - expected.value[at]);
    if (!(error <= expected.tolerance[at]))
      worst = std::max(worst, std::isnan(error) ? std::numeric_limits<double>::infinity()
                                                : error / expected.tolerance[at]);
    else if (error > 0)
      worst = std::max(worst, error / expected.tolerance[at]);
  }
  return worst;
}

double Roundings(DType dtype, Precision precision, int64_t cols) {
  // full: each product and sum may round, and so did the weight. Quantised: per group two products
  // and two sums, apart from those of the activation sum and of the weight.
  if (ReadsBlocks(PackedTypeOf(dtype), precision))
    return 4.0 * static_cast<double>(cols) / kGroupCols + 4;
  return 2.0 * static_cast<double>(cols) + 2;
}

// Every type, many shapes, both precisions. The results for fewer tokens must be those for the
// most, to the bit.
TEST_P(MatMulTest, EqualsDoublePrecision) {
  constexpr int64_t kMostTokens = 130;
  double worst_of_all = 0;
  for (DType dtype : kAllDTypes) {
    for (int64_t cols : ColumnsFor(dtype)) {
      const std::vector<float> x = RandomFloats(kMostTokens * cols, 3);
      for (int64_t rows : {1, 15, 16, 17, 63, 192}) {
        const TestMatrix m = MakeTestMatrix(dtype, rows, cols, static_cast<uint32_t>(rows));
        Fixture f(m, kernels(), 2);
        for (Precision precision : {Precision::kFast, Precision::kF32}) {
          SCOPED_TRACE(testing::Message() << NameOf(dtype) << " " << NameOf(precision) << " "
                                          << rows << " x " << cols);
          const int64_t stride = rows + 3;
          const std::vector<float> out = f.Run(precision, x, kMostTokens, stride);
          const Expected expected = Reference(m, AsRead(f, precision, x, kMostTokens), kMostTokens,
                                              Roundings(dtype, precision, cols));
          const double worst = Worst(out, stride, expected, rows);
          ASSERT_LE(worst, 1.0);
          worst_of_all = std::max(worst_of_all, worst);
          for (int64_t tokens : {1, 2, 3, 4, 5, 7, 8, 9, 33}) {
            const std::vector<float> fewer = f.Run(precision, x, tokens, stride);
            ASSERT_EQ(std::memcmp(fewer.data(), out.data(), fewer.size() * sizeof(float)), 0)
                << tokens << " tokens";
          }
        }
      }
    }
  }
  std::printf("worst error / tolerance: %.3f\n", worst_of_all);
}

TEST_P(MatMulTest, FullPrecisionReadsExactWeights) {
  for (DType dtype : kAllDTypes) {
    const int64_t cols = ColumnsFor(dtype)[1];
    const TestMatrix m = MakeTestMatrix(dtype, 17, cols, 5);
    Fixture f(m, kernels(), 1);
    std::vector<float> one_hot(static_cast<size_t>(cols * cols));
    for (int64_t k = 0; k < cols; ++k) one_hot[static_cast<size_t>(k * cols + k)] = 1.0f;
    const std::vector<float> out = f.Run(Precision::kF32, one_hot, cols, 17);
    for (int64_t k = 0; k < cols; ++k) {
      for (int64_t r = 0; r < 17; ++r)
        ASSERT_EQ(out[static_cast<size_t>(k * 17 + r)], m.values[static_cast<size_t>(r * cols + k)])
            << NameOf(dtype) << " " << r << ", " << k;
    }
  }
}

// The integer sums are largest, and 16-bit sums closest to overflowing, where every code and every
// activation is at its end.
TEST_P(MatMulTest, ExtremeCodesDoNotSaturate) {
  for (DType dtype : kAllDTypes) {
    if (!IsQuantized(PackedTypeOf(dtype))) continue;
    for (Codes codes : {Codes::kLargest, Codes::kSmallest}) {
      for (float scale : {0.01f, 60000.0f, 1e-7f}) {
        const TestMatrix m = MakeTestMatrix(dtype, 16, 512, 11, scale, codes);
        Fixture f(m, kernels(), 1);
        constexpr int64_t kTokens = 12;
        std::vector<float> x(kTokens * 512);
        // Tokens of one sign, of alternating sign, and with one sign in each half of a group.
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t kind = i / 512 % 4;
          const bool negative =
              kind == 1 || (kind == 2 && i % 2 == 1) || (kind == 3 && i % 32 < 16);
          x[i] = negative ? -3.0f : 3.0f;
        }
        for (int64_t tokens : {int64_t{1}, int64_t{3}, kTokens}) {
          const std::vector<float> out = f.Run(Precision::kFast, x, tokens, 16);
          const Expected expected = Reference(m, AsRead(f, Precision::kFast, x, kTokens), tokens,
                                              Roundings(dtype, Precision::kFast, 512));
          EXPECT_LE(Worst(out, 16, expected, 16), 1.0)
              << NameOf(dtype) << " scale " << scale << " " << tokens << " tokens";
        }
      }
    }
  }
}

// Against the activations as they were: off by at most half a step per activation.
TEST_P(MatMulTest, QuantisedActivationsCostHalfAStepAtMost) {
  for (DType dtype : {DType::kQ4_1, DType::kQ6_K, DType::kQ8_0}) {
    constexpr int64_t kTokens = 5, kCols = 512, kRows = 32;
    const TestMatrix m = MakeTestMatrix(dtype, kRows, kCols, 2);
    const std::vector<float> x = RandomFloats(kTokens * kCols, 9);
    Fixture f(m, kernels(), 1);
    const std::vector<float> out = f.Run(Precision::kFast, x, kTokens, kRows);
    for (int64_t token = 0; token < kTokens; ++token) {
      for (int64_t row = 0; row < kRows; ++row) {
        double exact = 0, bound = 0;
        for (int64_t group = 0; group < kCols; group += 32) {
          double most = 0, weights = 0;
          for (int64_t k = group; k < group + 32; ++k) {
            const double xk = x[static_cast<size_t>(token * kCols + k)];
            const double w = m.values[static_cast<size_t>(row * kCols + k)];
            exact += w * xk;
            most = std::max(most, std::abs(xk));
            weights += std::abs(w);
          }
          bound += most / 127 * 0.5 * weights * 1.001;  // and a little for float32 roundings
        }
        EXPECT_NEAR(out[static_cast<size_t>(token * kRows + row)], exact, bound);
      }
    }
  }
}

TEST_P(MatMulTest, QuantizeRowRoundsToNearest) {
  std::vector<float> x = RandomFloats(320, 4);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] *= std::ldexp(1.0f, static_cast<int>(i / 32) * 20 - 90);
  std::fill(x.begin() + 64, x.begin() + 96, 0.0f);
  std::vector<ActivationBlock> blocks(10);
  kernels().matmul.quantize_row(x.data(), 320, blocks.data());
  for (size_t g = 0; g < blocks.size(); ++g) {
    const ActivationBlock& block = blocks[g];
    float most = 0;
    for (size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(x[g * 32 + i]));
    EXPECT_EQ(block.scale, most / 127.0f);
    int halves[2] = {0, 0};
    for (size_t i = 0; i < 32; ++i) {
      halves[i / 16] += block.codes[i];
      EXPECT_GE(block.codes[i], -127);
      // The product by a rounded reciprocal may fall to the other side of a tie.
      EXPECT_LE(std::abs(x[g * 32 + i] - block.scale * block.codes[i]), block.scale * 0.50002f);
    }
    EXPECT_EQ(block.half_sums[0], halves[0]);
    EXPECT_EQ(block.half_sums[1], halves[1]);
    EXPECT_EQ(block.sum, block.scale * static_cast<float>(halves[0] + halves[1]));
  }
}

TEST_P(MatMulTest, TinyActivationsAreZeroAndBadOnesAreSeen) {
  const float kBad[] = {std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> x(32, 1e-38f);
  ActivationBlock block;
  kernels().matmul.quantize_row(x.data(), 32, &block);
  EXPECT_EQ(block.scale, 0.0f);
  EXPECT_EQ(block.sum, 0.0f);
  for (DType dtype : kAllDTypes) {
    const int64_t cols = UnitCols(PackedTypeOf(dtype)) == 1 ? 32 : UnitCols(PackedTypeOf(dtype));
    const TestMatrix m = MakeTestMatrix(dtype, 16, cols, 1);
    Fixture f(m, kernels(), 1);
    for (float bad : kBad) {
      std::vector<float> rows = RandomFloats(2 * cols, 5);
      rows[static_cast<size_t>(cols + 17)] = bad;
      const std::vector<float> out = f.Run(Precision::kFast, rows, 2, 16);
      for (size_t i = 0; i < 32; ++i)
        EXPECT_EQ(std::isfinite(out[i]), i < 16) << NameOf(dtype) << " " << bad;
    }
  }
}

TEST_P(MatMulTest, BiasAndAddition) {
  for (DType dtype : {DType::kF16, DType::kQ4_K, DType::kQ5_0}) {
    for (int64_t tokens : {1, 6}) {
      const TestMatrix m = MakeTestMatrix(dtype, 37, 256, 8);
      Fixture f(m, kernels(), 2);
      const std::vector<float> x = RandomFloats(tokens * 256, 6);
      const std::vector<float> bias = RandomFloats(37, 7);
      const std::vector<float> plain = f.Run(Precision::kFast, x, tokens, 37);
      const std::vector<float> biased = f.Run(Precision::kFast, x, tokens, 37, bias.data());
      const std::vector<float> added =
          f.Run(Precision::kFast, x, tokens, 37, bias.data(), OutputMode::kAdd);
      for (size_t i = 0; i < plain.size(); ++i) {
        EXPECT_EQ(biased[i], plain[i] + bias[i % 37]);
        EXPECT_EQ(added[i], kUntouched + (plain[i] + bias[i % 37]));
      }
    }
  }
}

// Q, K and V in one region give what each alone gives, for any number of threads.
TEST_P(MatMulTest, JobsAndThreadsDoNotChangeTheBits) {
  constexpr int64_t kCols = 512;
  const TestMatrix matrices[] = {MakeTestMatrix(DType::kQ4_K, 300, kCols, 1),
                                 MakeTestMatrix(DType::kQ6_K, 40, kCols, 2),
                                 MakeTestMatrix(DType::kF16, 24, kCols, 3)};
  for (int64_t tokens : {int64_t{1}, int64_t{5}, int64_t{600}}) {
    const std::vector<float> x = RandomFloats(tokens * kCols, 4);
    std::vector<std::vector<float>> alone;
    std::vector<std::unique_ptr<Fixture>> fixtures;
    for (const TestMatrix& m : matrices) {
      fixtures.push_back(std::make_unique<Fixture>(m, kernels(), 1));
      alone.push_back(fixtures.back()->Run(Precision::kFast, x, tokens, m.rows));
    }
    const std::vector<ActivationBlock> blocks = fixtures[0]->Quantize(x, tokens);
    for (int threads : {1, 2, 3, 8}) {
      ThreadPool pool(threads);
      const MatMulScratch scratch = MatMulScratch::Create(threads).value();
      std::vector<std::vector<float>> together;
      std::vector<MatMulJob> jobs;
      for (size_t i = 0; i < alone.size(); ++i) {
        together.emplace_back(alone[i].size(), kUntouched);
        jobs.push_back({&fixtures[i]->packed(), together[i].data(), matrices[i].rows});
      }
      MatMul(kernels(), Precision::kFast, pool, scratch,
             {tokens, kCols, blocks.data(), x.data(), kCols}, jobs);
      for (size_t i = 0; i < alone.size(); ++i)
        EXPECT_EQ(together[i], alone[i]) << threads << " threads, job " << i;
    }
  }
}

TEST(MatMulIsaTest, Avx2AndAvx512AgreeToTheBit) {
  if (MachineIsas().back() != Isa::kAvx512)
    GTEST_SKIP() << "NOT TESTED: this machine does not have " << NameOf(Isa::kAvx512);
  for (DType dtype : kAllDTypes) {
    const TestMatrix m = MakeTestMatrix(dtype, 50, 768, 1);
    const std::vector<float> x = RandomFloats(70 * 768, 2);
    for (Precision precision : {Precision::kFast, Precision::kF32}) {
      for (int64_t tokens : {1, 70}) {
        Fixture avx2(m, KernelsFor(Isa::kAvx2), 1);
        Fixture avx512(m, KernelsFor(Isa::kAvx512), 1);
        EXPECT_EQ(avx2.Run(precision, x, tokens, 50), avx512.Run(precision, x, tokens, 50))
            << NameOf(dtype) << " " << NameOf(precision);
      }
    }
  }
}

}  // namespace
}  // namespace tidal
