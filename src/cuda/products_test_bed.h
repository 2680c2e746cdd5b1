// What tests of products share: matrices in a file's form and in double, rows of x, how large an
// error may be, and fixtures.
#ifndef TIDAL_CUDA_PRODUCTS_TEST_BED_H_
#define TIDAL_CUDA_PRODUCTS_TEST_BED_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/device_testing.h"
#include "cuda/products.h"
#include "cuda/weight_layout.h"
#include "quant/dtype.h"
#include "quant/quant_blocks.h"
#include "quant/quantize.h"

namespace tidal {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kNormEps = 1e-5f;
inline constexpr int64_t kMaxRows = 33;
inline constexpr int64_t kMaxCols = 14336;
// Smaller than the largest test matrix, so that it is widened in slices.
inline constexpr int64_t kMaxElems = 300 * 2304;

inline std::vector<float> RandomFloats(size_t count, float deviation, std::mt19937* random) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(*random);
  return values;
}

// A matrix in a file's form, as floats, and on the device.
struct TestMatrix {
  TestMatrix(DType dtype, int64_t rows, int64_t cols, CudaProducts* products, std::mt19937* random)
      : file(static_cast<size_t>(BytesOf(dtype, rows * cols)) + 1),
        values(static_cast<size_t>(rows * cols)),
        buffer(
            std::vector<uint8_t>(static_cast<size_t>(DeviceMatrixBytes(dtype, rows, cols)), 0xff)),
        device{.dtype = dtype, .rows = rows, .cols = cols, .data = buffer.data()} {
    values = RandomFloats(values.size(), 0.05f, random);
    // Rows of unlike size, so that a scale of the wrong row shows.
    for (int64_t i = 0; i < rows * cols; ++i) {
      values[static_cast<size_t>(i)] *= 1 + static_cast<float>(i / cols % 7);
    }
    QuantizeRow(dtype, values.data(), Odd(), rows * cols);
    Upload(products);
  }
  // Of the blocks of a file.
  TestMatrix(DType dtype, int64_t rows, int64_t cols, CudaProducts* products,
             const std::vector<std::byte>& blocks)
      : file(blocks.size() + 1),
        values(static_cast<size_t>(rows * cols)),
        buffer(
            std::vector<uint8_t>(static_cast<size_t>(DeviceMatrixBytes(dtype, rows, cols)), 0xff)),
        device{.dtype = dtype, .rows = rows, .cols = cols, .data = buffer.data()} {
    std::copy(blocks.begin(), blocks.end(), Odd());
    Upload(products);
  }

  std::byte* Odd() { return file.data() + 1; }  // files promise no alignment
  void Upload(CudaProducts* products) {
    DequantizeRow(device.dtype, Odd(), values.data(), device.rows * device.cols);
    const Status status =
        products->Upload(device.dtype, device.rows, device.cols, Odd(), buffer.data());
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(products->FinishUploads().ok());
  }
  const float* Row(int64_t row) const { return &values[static_cast<size_t>(row * device.cols)]; }

  std::vector<std::byte> file;
  std::vector<float> values;
  DeviceArray<uint8_t> buffer;
  DeviceMatrix device;
};

// A product in double, and how large an error of one unit in every term can make it.
struct Expected {
  double value = 0;
  double terms = 0;    // sum of |w x|
  double largest = 0;  // the largest |w| times the sum of |x|
  double weights = 0;  // sum of |w|
};

inline Expected Product(const TestMatrix& matrix, int64_t row, const std::vector<double>& x) {
  Expected expected;
  double largest = 0;
  double sum = 0;
  const float* w = matrix.Row(row);
  for (size_t i = 0; i < x.size(); ++i) {
    expected.value += w[i] * x[i];
    expected.terms += std::abs(w[i] * x[i]);
    largest = std::max(largest, std::abs(static_cast<double>(w[i])));
    sum += std::abs(x[i]);
    expected.weights += std::abs(static_cast<double>(w[i]));
  }
  expected.largest = largest * sum;
  return expected;
}

// float32 sums: an error of 8 units in the last place of the sum of all terms, each as large as the
// row's largest weight, covers any order of summing. Tensor cores cut off, where float32 rounds,
// what lies below the last place of the largest of their 17 addends. F16 and BF16 weights, with up
// to 8 rows, add up 64 columns there in 4 such sums, then go on in float32: in the worst case, all
// errors of one sign, 4 * 17 * 2 = 136 units of 64 columns' terms, but half of the 8 is what they
// reach. With packed weights two such sums make a group, whose largest addend (a code with its
// offset is up to twice a weight) times all x bounds them, so that 2 * 17 * 2 * 2 = 136 units are
// the worst case, all errors of one sign; 32 is the bound here, and ExactWhereSumsAreExact looks
// for what would hide in it. Many rows: operands of 8 or 11 bits, rounded to nearest, in the worst
// case of all terms; of f16 activations those below its normal numbers by up to 2^-25 times their
// scale of 32.
inline double Tolerance(const Expected& e, DType dtype, Precision precision, int64_t num_rows) {
  const bool on_tensor_cores = IsTiled(dtype) && precision == Precision::kFast;
  const double float_sums = (on_tensor_cores ? 32 : 8) * 0x1p-24 * e.largest;
  if (precision == Precision::kF32 || num_rows <= 8) return float_sums;
  if (dtype == DType::kBF16) return float_sums + 0x1p-8 * e.terms;
  return float_sums + 2 * 0x1p-11 * e.terms + 0x1p-20 * e.weights;
}

struct Shape {
  int64_t rows;
  int64_t cols;
};

inline std::vector<Shape> ShapesFor(DType dtype) {
  switch (InfoOf(dtype).quant_block_size) {
    case 1:
      return {{1, 1}, {37, 100}, {300, 577}, {530, 2304}, {34, 14336}};
    case 32:
      return {{1, 32}, {37, 96}, {70, 576}, {530, 2304}, {34, 14336}};
    default:
      return {{1, 256}, {37, 512}, {70, 2816}, {530, 2304}, {34, 14336}};
  }
}

// x, its normed form in double, and everything a call may need beside the weights.
struct TestRows {
  TestRows(int64_t num_rows, int64_t num_cols, std::mt19937* random)
      : cols(num_cols),
        stride(num_cols + 4),
        x(RandomFloats(static_cast<size_t>(num_rows * stride), 1, random)),
        norm(RandomFloats(static_cast<size_t>(num_cols), 1, random)),
        device_x(x),
        device_norm(norm) {
    for (size_t i = 0; i < x.size(); ++i) {  // rows of unlike size, up to thousands
      x[i] *= std::exp2(static_cast<float>(i / static_cast<size_t>(stride) % 13));
    }
    device_x = DeviceArray<float>(x);
  }
  std::vector<double> Row(int64_t row, bool normed) const {
    const float* from = &x[static_cast<size_t>(row * stride)];
    std::vector<double> values(from, from + cols);
    if (!normed) return values;
    double squares = 0;
    for (const double v : values) squares += v * v;
    const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + kNormEps);
    for (size_t i = 0; i < values.size(); ++i) values[i] *= factor * norm[i];
    return values;
  }

  int64_t cols;
  int64_t stride;
  std::vector<float> x;
  std::vector<float> norm;
  DeviceArray<float> device_x;
  DeviceArray<float> device_norm;
};

class ProductsTest : public CudaTest {
 protected:
  void Start(Precision precision, cudaStream_t stream = nullptr) {
    precision_ = precision;
    ProductOptions options = {.stream = stream,
                              .precision = precision,
                              .max_rows = kMaxRows,
                              .max_cols = kMaxCols,
                              .max_matrix_elems = kMaxElems};
    Result<std::unique_ptr<CudaProducts>> products = CudaProducts::Create(options);
    ASSERT_TRUE(products.ok()) << products.status().message();
    products_ = std::move(products).value();
  }

  // Compares out[n][row] (of `stride`, its padding still NaN) with expected values.
  template <typename ExpectedAt, typename ToleranceAt>
  void Compare(const DeviceArray<float>& out, int64_t num_rows, int64_t rows, int64_t stride,
               const std::string& what, ExpectedAt expected, ToleranceAt tolerance) {
    const std::vector<float> got = out.Read();
    ASSERT_TRUE(products_->status().ok()) << products_->status().message();
    double worst = 0;
    for (int64_t n = 0; n < num_rows; ++n) {
      for (int64_t row = 0; row < stride; ++row) {
        const float value = got[static_cast<size_t>(n * stride + row)];
        if (row >= rows) {
          ASSERT_TRUE(std::isnan(value)) << what << ": wrote past row " << n;
          continue;
        }
        const double error = std::abs(value - expected(n, row));
        const double allowed = tolerance(n, row);
        if (!(error <= allowed)) {
          FAIL() << what << " [" << n << "][" << row << "]: " << value << ", expected "
                 << expected(n, row) << " to " << allowed;
        }
        if (allowed > 0) worst = std::max(worst, error / allowed);
      }
    }
    worst_ = std::max(worst_, worst);
  }

  Precision precision_ = Precision::kFast;
  std::unique_ptr<CudaProducts> products_;
  std::mt19937 random_{20260711};
  double worst_ = 0;  // error, in tolerances
};

using TypeAndPrecision = std::tuple<int, Precision>;
inline std::string NameOfCase(const testing::TestParamInfo<TypeAndPrecision>& test) {
  return std::string(NameOf(static_cast<DType>(std::get<0>(test.param)))) +
         (std::get<1>(test.param) == Precision::kF32 ? "_F32" : "_Fast");
}

// With weights of a type, in a precision.
class TypedProductsTest : public ProductsTest,
                          public testing::WithParamInterface<TypeAndPrecision> {
 protected:
  void SetUp() override {
    ProductsTest::SetUp();
    if (IsSkipped()) return;
    Start(std::get<1>(GetParam()));
  }
  DType dtype() const { return static_cast<DType>(std::get<0>(GetParam())); }
  std::string What(const char* mode, const Shape& shape, int64_t num_rows) const {
    return fmt::format("{} {} {}x{} rows {}", NameOf(dtype()), mode, shape.rows, shape.cols,
                       num_rows);
  }
};

// Random blocks whose scales and minima are whole numbers: d (and dmin, m) is 1.
inline std::vector<std::byte> WholeBlocks(DType dtype, int64_t elements, std::mt19937* random) {
  constexpr uint16_t kOne = 0x3c00;  // as f16
  std::vector<std::byte> blocks(static_cast<size_t>(BytesOf(dtype, elements)));
  for (std::byte& byte : blocks) byte = static_cast<std::byte>((*random)());
  const auto block_bytes = static_cast<size_t>(InfoOf(dtype).quant_block_bytes);
  const bool has_min = dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K ||
                       dtype == DType::kQ5_K;
  const size_t d_offset = dtype == DType::kQ6_K ? offsetof(BlockQ6_K, d) : 0;
  for (size_t begin = 0; begin < blocks.size(); begin += block_bytes) {
    std::memcpy(&blocks[begin + d_offset], &kOne, sizeof(kOne));
    if (has_min) std::memcpy(&blocks[begin + sizeof(kOne)], &kOne, sizeof(kOne));
  }
  return blocks;
}

// Whole numbers from -8 to 8, or blocks of whole numbers.
inline std::vector<std::byte> WholeWeights(DType dtype, int64_t elements, std::mt19937* random) {
  if (IsTiled(dtype)) return WholeBlocks(dtype, elements, random);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& value : values) value = static_cast<float>((*random)() % 17) - 8;
  std::vector<std::byte> file(static_cast<size_t>(BytesOf(dtype, elements)));
  QuantizeRow(dtype, values.data(), file.data(), elements);
  return file;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_PRODUCTS_TEST_BED_H_
