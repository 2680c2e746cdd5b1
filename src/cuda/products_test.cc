// Every type, number of rows and output mode against sums in double over DequantizeRow's weights.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "cuda/products_test_bed.h"

namespace tidal {
namespace {

class ProductsOfTypeTest : public TypedProductsTest {
 protected:
  void CheckStore(const Shape& shape, int64_t num_rows);
  void CheckAdd(const Shape& shape, int64_t num_rows);
  void CheckSilu(const Shape& shape, int64_t num_rows);
};

constexpr int64_t kPadding = 3;

// Three jobs on normed rows, one of them with a bias.
void ProductsOfTypeTest::CheckStore(const Shape& shape, int64_t num_rows) {
  const TestRows rows(num_rows, shape.cols, &random_);
  const int64_t heights[] = {shape.rows, shape.rows / 2 + 1, 5};
  std::vector<TestMatrix> matrices;
  std::vector<DeviceArray<float>> outs;
  matrices.reserve(3);
  for (const int64_t height : heights) {
    matrices.emplace_back(dtype(), height, shape.cols, products_.get(), &random_);
    outs.emplace_back(
        std::vector<float>(static_cast<size_t>(num_rows * (height + kPadding)), kNan));
  }
  const std::vector<float> bias = RandomFloats(static_cast<size_t>(shape.rows), 1, &random_);
  const DeviceArray<float> device_bias(bias);
  std::vector<ProductJob> jobs;
  for (size_t i = 0; i < 3; ++i) {
    jobs.push_back({.weight = &matrices[i].device,
                    .out = outs[i].data(),
                    .out_stride = heights[i] + kPadding,
                    .bias = i == 0 ? device_bias.data() : nullptr});
  }
  products_->Multiply({.x = rows.device_x.data(),
                       .x_stride = rows.stride,
                       .num_rows = num_rows,
                       .norm = rows.device_norm.data(),
                       .norm_eps = kNormEps,
                       .jobs = jobs});
  for (size_t i = 0; i < 3; ++i) {
    std::vector<Expected> expected;
    for (int64_t n = 0; n < num_rows; ++n) {
      const std::vector<double> x = rows.Row(n, true);
      for (int64_t row = 0; row < heights[i]; ++row) {
        expected.push_back(Product(matrices[i], row, x));
        if (i == 0) expected.back().value += bias[static_cast<size_t>(row)];
      }
    }
    const auto at = [&](int64_t n, int64_t row) {
      return expected[static_cast<size_t>(n * heights[i] + row)];
    };
    Compare(
        outs[i], num_rows, heights[i], heights[i] + kPadding, What("store", shape, num_rows),
        [&](int64_t n, int64_t row) { return at(n, row).value; },
        [&](int64_t n, int64_t row) {
          return Tolerance(at(n, row), dtype(), precision_, num_rows) + 0x1p-22;
        });
  }
}

// One job on chosen rows, with a bias, added to what is there.
void ProductsOfTypeTest::CheckAdd(const Shape& shape, int64_t num_rows) {
  const TestRows rows(num_rows, shape.cols, &random_);
  const TestMatrix matrix(dtype(), shape.rows, shape.cols, products_.get(), &random_);
  const int64_t stride = shape.rows + kPadding;
  std::vector<float> before = RandomFloats(static_cast<size_t>(num_rows * stride), 1, &random_);
  for (size_t i = 0; i < before.size(); ++i) {
    if (static_cast<int64_t>(i) % stride >= shape.rows) before[i] = kNan;
  }
  const DeviceArray<float> out(before);
  const std::vector<float> bias = RandomFloats(static_cast<size_t>(shape.rows), 1, &random_);
  const DeviceArray<float> device_bias(bias);
  std::vector<int32_t> ids;
  for (int64_t n = 0; n < num_rows; ++n) ids.push_back(static_cast<int32_t>(num_rows - 1 - n));
  const DeviceArray<int32_t> device_ids(ids);
  const ProductJob job = {.weight = &matrix.device,
                          .out = out.data(),
                          .out_stride = stride,
                          .bias = device_bias.data()};
  products_->Multiply({.x = rows.device_x.data(),
                       .x_stride = rows.stride,
                       .num_rows = num_rows,
                       .row_ids = device_ids.data(),
                       .jobs = std::span(&job, 1),
                       .output = ProductOutput::kAdd});
  std::vector<Expected> expected;
  for (int64_t n = 0; n < num_rows; ++n) {
    const std::vector<double> x = rows.Row(num_rows - 1 - n, false);
    for (int64_t row = 0; row < shape.rows; ++row) {
      expected.push_back(Product(matrix, row, x));
      expected.back().value += static_cast<double>(bias[static_cast<size_t>(row)]) +
                               before[static_cast<size_t>(n * stride + row)];
    }
  }
  const auto at = [&](int64_t n, int64_t row) {
    return expected[static_cast<size_t>(n * shape.rows + row)];
  };
  Compare(
      out, num_rows, shape.rows, stride, What("add", shape, num_rows),
      [&](int64_t n, int64_t row) { return at(n, row).value; },
      [&](int64_t n, int64_t row) {
        return Tolerance(at(n, row), dtype(), precision_, num_rows) + 0x1p-21;
      });
}

// Weights are whole numbers of at most 128 * 63 and x is -1, 0 or 1, so that every sum of 512 terms
// is a whole number below 2^24, which float32 holds, whether it rounds or cuts off: any difference
// is a term lost or misread.
TEST_P(ProductsOfTypeTest, ExactWhereSumsAreExact) {
  if (!IsTiled(dtype())) return;  // their products are float32 sums of no groups
  const int64_t rows = 37;
  const int64_t cols = 512;
  const TestMatrix matrix(dtype(), rows, cols, products_.get(),
                          WholeBlocks(dtype(), rows * cols, &random_));
  for (const int64_t num_rows : {1, 2, 3, 5, 8}) {
    std::vector<float> x(static_cast<size_t>(num_rows * cols));
    for (float& value : x) value = static_cast<float>(random_() % 3) - 1;
    const DeviceArray<float> device_x(x);
    const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(num_rows * rows), kNan));
    const ProductJob job = {.weight = &matrix.device, .out = out.data(), .out_stride = rows};
    products_->Multiply(
        {.x = device_x.data(), .x_stride = cols, .num_rows = num_rows, .jobs = std::span(&job, 1)});
    Compare(
        out, num_rows, rows, rows, What("exact", {rows, cols}, num_rows),
        [&](int64_t n, int64_t row) {
          const auto begin = x.begin() + n * cols;
          return Product(matrix, row, std::vector<double>(begin, begin + cols)).value;
        },
        [](int64_t, int64_t) { return 0.0; });
  }
}

void ProductsOfTypeTest::CheckSilu(const Shape& shape, int64_t num_rows) {
  const TestRows rows(num_rows, shape.cols, &random_);
  const TestMatrix gate(dtype(), shape.rows, shape.cols, products_.get(), &random_);
  const TestMatrix up(dtype(), shape.rows, shape.cols, products_.get(), &random_);
  const int64_t stride = shape.rows + kPadding;
  const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(num_rows * stride), kNan));
  const ProductJob jobs[] = {{.weight = &gate.device, .out = out.data(), .out_stride = stride},
                             {.weight = &up.device}};
  products_->Multiply({.x = rows.device_x.data(),
                       .x_stride = rows.stride,
                       .num_rows = num_rows,
                       .norm = rows.device_norm.data(),
                       .norm_eps = kNormEps,
                       .jobs = jobs,
                       .output = ProductOutput::kSiluMul});
  std::vector<double> expected;
  std::vector<double> tolerance;
  for (int64_t n = 0; n < num_rows; ++n) {
    const std::vector<double> x = rows.Row(n, true);
    for (int64_t row = 0; row < shape.rows; ++row) {
      const Expected g = Product(gate, row, x);
      const Expected u = Product(up, row, x);
      const double g_error = Tolerance(g, dtype(), precision_, num_rows);
      const double u_error = Tolerance(u, dtype(), precision_, num_rows);
      const double silu = g.value / (1 + std::exp(-g.value));
      expected.push_back(silu * u.value);
      // silu's slope is at most 1.1.
      tolerance.push_back(1.1 * g_error * (std::abs(u.value) + u_error) + std::abs(silu) * u_error +
                          0x1p-21 * std::abs(expected.back()) + 0x1p-22);
    }
  }
  Compare(
      out, num_rows, shape.rows, stride, What("silu", shape, num_rows),
      [&](int64_t n, int64_t row) { return expected[static_cast<size_t>(n * shape.rows + row)]; },
      [&](int64_t n, int64_t row) { return tolerance[static_cast<size_t>(n * shape.rows + row)]; });
}

TEST_P(ProductsOfTypeTest, EqualSumsInDouble) {
  for (const Shape& shape : ShapesFor(dtype())) {
    for (const int64_t num_rows : {1, 2, 3, 5, 8, 9, 33}) {
      // The large shapes with the counts that differ in how shared memory is laid out.
      if (shape.rows * shape.cols > 100000 && (num_rows == 3 || num_rows == 9)) continue;
      CheckStore(shape, num_rows);
      CheckAdd(shape, num_rows);
      CheckSilu(shape, num_rows);
      if (HasFatalFailure()) return;
    }
  }
  RecordProperty("worst_in_tolerances", fmt::format("{:.3f}", worst_));
  printf("%s: worst error %.3f of the tolerance\n", NameOf(dtype()), worst_);
}

TEST_P(ProductsOfTypeTest, GatheredRowsAreTheReferencesToTheBit) {
  for (const Shape& shape : ShapesFor(dtype())) {
    const TestMatrix matrix(dtype(), shape.rows, shape.cols, products_.get(), &random_);
    const std::vector<int32_t> ids = {static_cast<int32_t>(shape.rows - 1), 0, -1,
                                      static_cast<int32_t>(shape.rows / 2),
                                      static_cast<int32_t>(shape.rows)};
    const int64_t stride = shape.cols + 1;
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> out(std::vector<float>(ids.size() * static_cast<size_t>(stride), 7));
    products_->GatherRows(matrix.device, device_ids.data(), static_cast<int64_t>(ids.size()),
                          out.data(), stride);
    const std::vector<float> got = out.Read();
    const std::vector<float> zeros(static_cast<size_t>(shape.cols));
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool inside = ids[i] >= 0 && ids[i] < shape.rows;
      const float* expected = inside ? matrix.Row(ids[i]) : zeros.data();
      const float* row = &got[i * static_cast<size_t>(stride)];
      EXPECT_TRUE(std::equal(row, row + shape.cols, expected)) << What("gather", shape, ids[i]);
      EXPECT_EQ(row[shape.cols], 7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ProductsOfTypeTest,
                         testing::Combine(testing::Range(0, kNumKeptDTypes),
                                          testing::Values(Precision::kFast, Precision::kF32)),
                         NameOfCase);
TEST_F(ProductsTest, JobsMayDifferInType) {
  Start(Precision::kFast);
  const TestRows rows(2, 512, &random_);
  const TestMatrix first(DType::kQ4_K, 40, 512, products_.get(), &random_);
  const TestMatrix second(DType::kQ6_K, 40, 512, products_.get(), &random_);
  const std::vector<float> empty(80, kNan);
  for (const ProductOutput output : {ProductOutput::kStore, ProductOutput::kSiluMul}) {
    const DeviceArray<float> first_out(empty);
    const DeviceArray<float> second_out(empty);
    const ProductJob jobs[] = {
        {.weight = &first.device, .out = first_out.data(), .out_stride = 40},
        {.weight = &second.device, .out = second_out.data(), .out_stride = 40}};
    products_->Multiply({.x = rows.device_x.data(),
                         .x_stride = rows.stride,
                         .num_rows = 2,
                         .norm = rows.device_norm.data(),
                         .norm_eps = kNormEps,
                         .jobs = jobs,
                         .output = output});
    ASSERT_TRUE(products_->status().ok()) << products_->status().message();
    const std::vector<float> got = first_out.Read();
    for (int64_t n = 0; n < 2; ++n) {
      for (int64_t row = 0; row < 40; ++row) {
        const std::vector<double> x = rows.Row(n, true);
        const Expected a = Product(first, row, x);
        const Expected b = Product(second, row, x);
        const double value = output == ProductOutput::kStore
                                 ? a.value
                                 : a.value / (1 + std::exp(-a.value)) * b.value;
        // Of two f16 products where they run as many rows would.
        const double unit = 0x1p-9;
        EXPECT_NEAR(got[static_cast<size_t>(n * 40 + row)], value,
                    unit * (a.terms + std::abs(a.value) * b.terms + a.terms * std::abs(b.value)));
      }
    }
  }
}

TEST_F(ProductsTest, TooMuchScratchIsAnError) {
  ProductOptions options = {
      .max_rows = int64_t{1} << 30, .max_cols = int64_t{1} << 16, .max_matrix_elems = 1};
  const Result<std::unique_ptr<CudaProducts>> products = CudaProducts::Create(options);
  ASSERT_FALSE(products.ok());
  EXPECT_EQ(products.status().code(), StatusCode::kOutOfMemory);
  Start(Precision::kFast);  // the device is still usable
  EXPECT_TRUE(products_->status().ok());
}

}  // namespace
}  // namespace tidal
