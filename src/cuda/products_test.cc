// Every type, number of rows and output mode against sums in double over DequantizeRow's weights.
#include "cuda/products.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/device_testing.h"
#include "cuda/weight_layout.h"
#include "quant/dtype.h"
#include "quant/quant_blocks.h"
#include "quant/quantize.h"

namespace tidal {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kNormEps = 1e-5f;
constexpr int64_t kMaxRows = 33;
constexpr int64_t kMaxCols = 14336;
// Smaller than the largest test matrix, so that it is widened in slices.
constexpr int64_t kMaxElems = 300 * 2304;

std::vector<float> RandomFloats(size_t count, float deviation, std::mt19937* random) {
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

Expected Product(const TestMatrix& matrix, int64_t row, const std::vector<double>& x) {
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
// what lies below the last place of the largest of their 17 addends: two such sums make a group,
// whose largest addend (a code with its offset is up to twice a weight) times all x bounds them, so
// that 2 * 17 * 2 * 2 = 136 units are the worst case, all errors of one sign; 32 is the bound here,
// and ExactWhereSumsAreExact looks for what would hide in it. Many rows: operands of 8 or 11 bits,
// rounded to nearest, in the worst case of all terms; of f16 activations those below its normal
// numbers by up to 2^-25 times their scale of 32.
double Tolerance(const Expected& e, DType dtype, Precision precision, int64_t num_rows) {
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

std::vector<Shape> ShapesFor(DType dtype) {
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

class ProductsOfTypeTest : public ProductsTest,
                           public testing::WithParamInterface<std::tuple<int, Precision>> {
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

  void CheckStore(const Shape& shape, int64_t num_rows);
  void CheckAdd(const Shape& shape, int64_t num_rows);
  void CheckSilu(const Shape& shape, int64_t num_rows);
};

// Where there are matrix-vector kernels: packed weights in float32 mode go through cuBLAS.
class MatvecOfTypeTest : public ProductsOfTypeTest {};

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

// Random blocks whose scales and minima are whole numbers: d (and dmin, m) is 1.
std::vector<std::byte> WholeBlocks(DType dtype, int64_t elements, std::mt19937* random) {
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

// Whole numbers from -8 to 8, or blocks of whole numbers.
std::vector<std::byte> WholeWeights(DType dtype, int64_t elements, std::mt19937* random) {
  if (IsTiled(dtype)) return WholeBlocks(dtype, elements, random);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& value : values) value = static_cast<float>((*random)() % 17) - 8;
  std::vector<std::byte> file(static_cast<size_t>(BytesOf(dtype, elements)));
  QuantizeRow(dtype, values.data(), file.data(), elements);
  return file;
}

// A graph of what `enqueue` enqueues on a stream of its own.
class ReplayedGraph {
 public:
  ReplayedGraph() { Check(cudaStreamCreate(&stream_)); }
  ~ReplayedGraph() {
    Forget();
    Check(cudaStreamDestroy(stream_));
  }
  template <typename Enqueue>
  void Capture(Enqueue enqueue) {
    Forget();
    cudaGraph_t graph = nullptr;
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    enqueue();
    Check(cudaStreamEndCapture(stream_, &graph));
    Check(cudaGraphInstantiate(&exec_, graph, 0));
    Check(cudaGraphDestroy(graph));
  }
  void Replay() { Check(cudaGraphLaunch(exec_, stream_)); }
  void Wait() { Check(cudaStreamSynchronize(stream_)); }
  cudaStream_t stream() const { return stream_; }

 private:
  static void Check(cudaError_t error) { EXPECT_EQ(error, cudaSuccess); }
  void Forget() {
    if (exec_ != nullptr) Check(cudaGraphExecDestroy(exec_));
    exec_ = nullptr;
  }

  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

// Products one behind the other, of fewer tasks than warps or blocks, as many, one more and many
// more, and of all task sizes, each added to what is there: a task that nobody does, or two do,
// shows. All sums are exact.
TEST_P(MatvecOfTypeTest, ExactOneBehindTheOtherInReplayedGraphs) {
  constexpr int64_t kCols = 4096;
  constexpr int64_t kWarps = 132 * 8;
  constexpr int64_t kMost = 9 * kWarps + 5;
  const int64_t heights[] = {kMost,      7,          kWarps,     kWarps + 1,     2 * kWarps,
                             kMost,      6 * kWarps, 3 * kWarps, 2 * kWarps + 1, 4 * kWarps,
                             8 * kWarps, 1,          kMost,      4 * kWarps + 1, 6 * kWarps + 1};
  ReplayedGraph graph;
  Start(precision_, graph.stream());
  const TestMatrix matrix(dtype(), kMost, kCols, products_.get(),
                          WholeWeights(dtype(), kMost * kCols, &random_));
  for (const int64_t num_rows : {1, 2, 3}) {
    std::vector<float> x(static_cast<size_t>(num_rows * kCols));
    for (float& value : x) value = static_cast<float>(random_() % 3) - 1;
    const DeviceArray<float> device_x(x);
    const std::vector<float> before(static_cast<size_t>(num_rows * kMost), 3);
    std::vector<float> after;  // [num_rows][kMost]
    for (int64_t n = 0; n < num_rows; ++n) {
      const auto begin = x.begin() + n * kCols;
      const std::vector<double> row_of_x(begin, begin + kCols);
      for (int64_t row = 0; row < kMost; ++row)
        after.push_back(static_cast<float>(3 + Product(matrix, row, row_of_x).value));
    }
    std::vector<DeviceMatrix> weights(std::size(heights), matrix.device);  // its first rows
    std::vector<DeviceArray<float>> outs;
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i].rows = heights[i];
      outs.emplace_back(before);
    }
    const auto multiply_all = [&] {
      for (size_t i = 0; i < weights.size(); ++i) {
        const ProductJob job = {.weight = &weights[i], .out = outs[i].data(), .out_stride = kMost};
        products_->Multiply({.x = device_x.data(),
                             .x_stride = kCols,
                             .num_rows = num_rows,
                             .jobs = std::span(&job, 1),
                             .output = ProductOutput::kAdd});
      }
    };
    graph.Capture(multiply_all);
    for (int run = 0; run < 6; ++run) {
      for (DeviceArray<float>& out : outs) out.Write(before);
      if (run == 3) {  // between replays
        multiply_all();
      } else {
        graph.Replay();
      }
      graph.Wait();
      for (size_t i = 0; i < outs.size(); ++i) {
        const std::vector<float> got = outs[i].Read();
        for (size_t at = 0; at < got.size(); ++at) {
          const bool written = static_cast<int64_t>(at) % kMost < heights[i];
          ASSERT_EQ(got[at], written ? after[at] : before[at])
              << What("add", {heights[i], kCols}, num_rows) << " [" << at << "], product " << i
              << " of run " << run;
        }
      }
    }
    ASSERT_TRUE(products_->status().ok()) << products_->status().message();
  }
  products_.reset();  // before its stream
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

TEST_P(MatvecOfTypeTest, ARowDoesNotDependOnTheOthers) {
  for (const Shape& shape : ShapesFor(dtype())) {
    const TestRows rows(8, shape.cols, &random_);
    const TestMatrix matrix(dtype(), shape.rows, shape.cols, products_.get(), &random_);
    const std::vector<float> empty(static_cast<size_t>(8 * shape.rows), kNan);
    const DeviceArray<float> together(empty);
    const auto multiply = [&](int64_t first, int64_t count, float* out) {
      const ProductJob job = {.weight = &matrix.device, .out = out, .out_stride = shape.rows};
      products_->Multiply({.x = rows.device_x.data() + first * rows.stride,
                           .x_stride = rows.stride,
                           .num_rows = count,
                           .norm = rows.device_norm.data(),
                           .norm_eps = kNormEps,
                           .jobs = std::span(&job, 1)});
    };
    multiply(0, 8, together.data());
    for (const int64_t count : {1, 2, 3, 5, 7}) {
      const DeviceArray<float> apart(empty);
      for (int64_t row = 0; row < 8; row += count) {
        multiply(row, std::min<int64_t>(count, 8 - row), apart.data() + row * shape.rows);
      }
      EXPECT_EQ(apart.Read(), together.Read()) << What("apart", shape, count);
    }
  }
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

using TypeAndPrecision = std::tuple<int, Precision>;
std::string NameOfCase(const testing::TestParamInfo<TypeAndPrecision>& test) {
  return std::string(NameOf(static_cast<DType>(std::get<0>(test.param)))) +
         (std::get<1>(test.param) == Precision::kF32 ? "_F32" : "_Fast");
}

std::vector<TypeAndPrecision> CasesOfMatvec() {
  std::vector<TypeAndPrecision> cases;
  for (int type = 0; type < kNumKeptDTypes; ++type) {
    cases.emplace_back(type, Precision::kFast);
    if (!IsTiled(static_cast<DType>(type))) cases.emplace_back(type, Precision::kF32);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, ProductsOfTypeTest,
                         testing::Combine(testing::Range(0, kNumKeptDTypes),
                                          testing::Values(Precision::kFast, Precision::kF32)),
                         NameOfCase);
INSTANTIATE_TEST_SUITE_P(All, MatvecOfTypeTest, testing::ValuesIn(CasesOfMatvec()), NameOfCase);

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
