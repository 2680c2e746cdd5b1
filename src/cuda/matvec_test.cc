// The matrix-vector kernels one behind the other in graphs, and rows of x apart and together.
#include <algorithm>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "cuda/products_test_bed.h"

namespace tidal {
namespace {

// Where there are such kernels: packed weights in float32 mode go through cuBLAS.
class MatvecOfTypeTest : public TypedProductsTest {};

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

std::vector<TypeAndPrecision> CasesOfMatvec() {
  std::vector<TypeAndPrecision> cases;
  for (int type = 0; type < kNumKeptDTypes; ++type) {
    cases.emplace_back(type, Precision::kFast);
    if (!IsTiled(static_cast<DType>(type))) cases.emplace_back(type, Precision::kF32);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, MatvecOfTypeTest, testing::ValuesIn(CasesOfMatvec()), NameOfCase);

}  // namespace
}  // namespace tidal
