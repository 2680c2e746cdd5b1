// Products of packed weights: decode as a share of what the machine can read, prefill in operations
// per second. Shapes are those of SmolLM2-135M and Qwen2.5 0.5B and 1.5B.
//
//   build/bench/matmul_bench --benchmark_filter=decode
//   build/bench/matmul_bench --benchmark_filter='prefill/Q4_K.*avx2'
//
// Counters: GB/s are 1e9 bytes of packed weights per second of wall time, Gop/s 1e9 multiplications
// and additions. Weights rotate over kRotatedBytes, several times what the last cache of a large
// server holds.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/read_bandwidth.h"
#include "cpu/isa.h"
#include "cpu/matmul.h"
#include "cpu/matmul_test_util.h"

namespace tidal {
namespace {

constexpr int64_t kRotatedBytes = int64_t{1} << 30;

struct Shape {
  DType dtype;
  int64_t rows;
  int64_t cols;
};

constexpr Shape kShapes[] = {
    {DType::kQ4_1, 576, 576},    {DType::kQ4_1, 1536, 576},    {DType::kQ4_1, 576, 1536},
    {DType::kQ8_0, 49152, 576},  {DType::kQ5_0, 4864, 896},    {DType::kQ6_K, 896, 4864},
    {DType::kQ8_0, 151936, 896}, {DType::kQ4_K, 8960, 1536},   {DType::kQ4_K, 1536, 8960},
    {DType::kQ6_K, 1536, 8960},  {DType::kQ6_K, 151936, 1536}, {DType::kQ4_0, 8960, 1536},
    {DType::kQ5_K, 8960, 1536},  {DType::kQ8_0, 8960, 1536},   {DType::kF16, 8960, 1536},
    {DType::kBF16, 8960, 1536},  {DType::kF32, 8960, 1536},
};

// Copies of one matrix, one after the other.
class Weights {
 public:
  Weights(const Shape& shape, int64_t bytes, ThreadPool& pool) {
    const TestMatrix tile = MakeTestMatrix(shape.dtype, kRowTile, shape.cols, 1);
    const int64_t tile_bytes = PackedBytes(shape.dtype, kRowTile, shape.cols);
    const int64_t matrix_bytes = PackedBytes(shape.dtype, shape.rows, shape.cols);
    const int64_t copies = std::max<int64_t>(1, bytes / matrix_bytes);
    memory_ = AlignedBuffer::Create(copies * matrix_bytes).value();
    Pack(shape.dtype, kRowTile, shape.cols, tile.bytes.data(), memory_.data(), pool);
    for (int64_t at = tile_bytes; at < copies * matrix_bytes; at += tile_bytes)
      std::memcpy(memory_.data() + at, memory_.data(), static_cast<size_t>(tile_bytes));
    for (int64_t i = 0; i < copies; ++i) {
      matrices_.push_back(
          {PackedTypeOf(shape.dtype), shape.rows, shape.cols, memory_.data() + i * matrix_bytes});
    }
  }
  const PackedMatrix& Next() { return matrices_[next_++ % matrices_.size()]; }

 private:
  AlignedBuffer memory_;
  std::vector<PackedMatrix> matrices_;
  size_t next_ = 0;
};

struct Setup {
  Shape shape;
  Isa isa;
  Precision precision;
  int num_threads;
  int64_t num_tokens;
};

void BenchMatMul(benchmark::State& state, const Setup& setup) {
  const auto [shape, isa, precision, num_threads, num_tokens] = setup;
  const KernelTable& kernels = KernelsFor(isa);
  ThreadPool pool(num_threads);
  const bool decode = num_tokens <= 8;
  Weights weights(shape, decode ? kRotatedBytes : 0, pool);
  const MatMulScratch scratch = MatMulScratch::Create(num_threads).value();
  std::vector<float> x(static_cast<size_t>(num_tokens * shape.cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 37) - 18.0f;
  const ActivationBuffer buffer = ActivationBuffer::Create(num_tokens, shape.cols).value();
  if (shape.cols % kGroupCols == 0) {
    for (int64_t n = 0; n < num_tokens; ++n)
      kernels.matmul.quantize_row(x.data() + n * shape.cols, shape.cols, buffer.Row(n, shape.cols));
  }
  std::vector<float> out(static_cast<size_t>(num_tokens * shape.rows));
  const ActivationView view = {num_tokens, shape.cols, buffer.Row(0, shape.cols), x.data(),
                               shape.cols};
  int64_t bytes = 0;
  for (auto _ : state) {
    const PackedMatrix& weight = weights.Next();
    const MatMulJob job = {&weight, out.data(), shape.rows};
    MatMul(kernels, precision, pool, scratch, view, {&job, 1});
    bytes += weight.bytes();
  }
  const double operations = 2.0 * static_cast<double>(num_tokens * shape.rows * shape.cols) *
                            static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["Gop/s"] = benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsRate);
}

// The limit for decode, as `tidal bench` measures it.
void BenchRead(benchmark::State& state, int num_threads) {
  double gbps = 0;
  for (auto _ : state)
    gbps = std::max(gbps, MeasureReadGbps(ReadBufferBytes(), num_threads).value());
  state.counters["GB/s"] = gbps;
}

void BenchQuantize(benchmark::State& state, Isa isa) {
  constexpr int64_t kCols = 8960;
  std::vector<float> x(kCols);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 37) - 18.0f;
  std::vector<ActivationBlock> blocks(kCols / kGroupCols);
  for (auto _ : state) {
    KernelsFor(isa).matmul.quantize_row(x.data(), kCols, blocks.data());
    benchmark::DoNotOptimize(blocks.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kCols);
}

void BenchPack(benchmark::State& state, const Shape& shape, int num_threads) {
  ThreadPool pool(num_threads);
  const TestMatrix m = MakeTestMatrix(shape.dtype, 512, shape.cols, 1);
  const AlignedBuffer memory =
      AlignedBuffer::Create(PackedBytes(shape.dtype, 512, shape.cols)).value();
  for (auto _ : state) Pack(shape.dtype, 512, shape.cols, m.bytes.data(), memory.data(), pool);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(m.bytes.size()));
}

void Register() {
  const int cores = UsableCores();
  std::vector<int> thread_counts = {1};
  if (cores > 1) thread_counts.push_back(cores);
  // One thread is timed by its own clock, which a busy machine disturbs less.
  const auto add = [](const std::string& name, int threads, auto function) {
    auto* registered = benchmark::RegisterBenchmark(name.c_str(), function);
    if (threads > 1) registered->UseRealTime();
  };
  for (int threads : thread_counts) {
    add(fmt::format("read/{}", threads), threads,
        [threads](benchmark::State& state) { BenchRead(state, threads); });
  }
  for (Isa isa : MachineIsas()) {
    add(fmt::format("quantize/{}", NameOf(isa)), 1,
        [isa](benchmark::State& state) { BenchQuantize(state, isa); });
    for (const Shape& shape : kShapes) {
      for (int64_t tokens : {1, 2, 4, 8, 512}) {
        if (tokens == 512 && shape.rows > 10000) continue;
        for (Precision precision : {Precision::kFast, Precision::kF32}) {
          if (precision == Precision::kF32 && !IsQuantized(PackedTypeOf(shape.dtype))) continue;
          for (int threads : thread_counts) {
            const Setup setup = {shape, isa, precision, threads, tokens};
            add(fmt::format("{}/{}/{}/{}/{}x{}/{}/{}", tokens <= 8 ? "decode" : "prefill",
                            NameOf(shape.dtype), NameOf(isa), NameOf(precision), shape.rows,
                            shape.cols, tokens, threads),
                threads, [setup](benchmark::State& state) { BenchMatMul(state, setup); });
          }
        }
      }
    }
  }
  for (DType dtype : kAllDTypes) {
    add(fmt::format("pack/{}", NameOf(dtype)), 1, [dtype](benchmark::State& state) {
      BenchPack(state, {dtype, 512, 1536}, 1);
    });
  }
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) {
  tidal::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
