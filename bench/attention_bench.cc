// Attention over the paged cache: decode as bytes of cache read per second, prefill in operations
// per second. Shapes (heads/KV heads/head_dim) are those of SmolLM2-135M, Qwen2.5 0.5B and 1.5B and
// an 8B Llama.
//
//   build/bench/attention_bench --benchmark_filter='decode/9_3_64/f16.*avx2'
//   build/bench/attention_bench --benchmark_filter=prefill
//
// Counters: GB/s are 1e9 bytes of K and V rows (each once) per second of wall time, GFLOP/s 1e9
// multiplications and additions over the visible tokens. Layers rotate over kRotatedBytes in
// decode, several times what the last cache of a large server holds; compare with matmul_bench's
// `read`.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/isa.h"

namespace tidal {
namespace {

constexpr int64_t kRotatedBytes = int64_t{1} << 30;

struct Shape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};
constexpr Shape kShapes[] = {{9, 3, 64}, {14, 2, 64}, {12, 2, 128}, {32, 8, 128}};

struct Setup {
  Shape shape;
  CacheType cache_type;
  Isa isa;
  int num_threads;
  int32_t q_len;
  int32_t kv_len;
};

// One sequence over shuffled pages, and as many layers of its cache as make `bytes`.
class Cache {
 public:
  Cache(const Setup& setup, int64_t bytes)
      : layout_(KvLayout::Create(setup.shape.num_kv_heads, setup.shape.head_dim, setup.cache_type,
                                 setup.cache_type)
                    .value()),
        page_table_(static_cast<size_t>(CeilDiv(setup.kv_len, kPageSize))) {
    layer_bytes_ = static_cast<int64_t>(page_table_.size()) * layout_.page_bytes();
    num_layers_ = std::max<int64_t>(1, bytes / layer_bytes_);
    memory_ = AlignedBuffer::Create(num_layers_ * layer_bytes_).value();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::iota(page_table_.begin(), page_table_.end(), 0);
    std::shuffle(page_table_.begin(), page_table_.end(), random);
    std::vector<float> k(static_cast<size_t>(setup.shape.num_kv_heads) * setup.shape.head_dim);
    for (int32_t pos = 0; pos < setup.kv_len; ++pos) {
      for (float& x : k) x = normal(random);
      StoreKv(KernelsFor(setup.isa).elementwise, layout_,
              page_table_[static_cast<size_t>(pos / kPageSize)], pos % kPageSize, k.data(),
              k.data(), memory_.data());
    }
    for (int64_t layer = 1; layer < num_layers_; ++layer) {
      std::memcpy(memory_.data() + layer * layer_bytes_, memory_.data(),
                  static_cast<size_t>(layer_bytes_));
    }
  }

  const KvLayout& layout() const { return layout_; }
  const int32_t* page_table() const { return page_table_.data(); }
  const std::byte* NextLayer() { return memory_.data() + next_++ % num_layers_ * layer_bytes_; }

 private:
  KvLayout layout_;
  std::vector<int32_t> page_table_;
  AlignedBuffer memory_;
  int64_t layer_bytes_ = 0;
  int64_t num_layers_ = 0;
  int64_t next_ = 0;
};

void BenchAttention(benchmark::State& state, const Setup& setup) {
  const Shape& shape = setup.shape;
  Cache cache(setup, setup.q_len == 1 ? kRotatedBytes : 0);
  ThreadPool pool(setup.num_threads);
  const auto attention =
      CpuAttention::Create({.kernels = &KernelsFor(setup.isa),
                            .pool = &pool,
                            .layout = cache.layout(),
                            .num_heads = shape.num_heads,
                            .attn_scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
                            .max_rows = setup.q_len})
          .value();
  const AttendSeq sequence = {.row_begin = 0,
                              .q_len = setup.q_len,
                              .kv_len = setup.kv_len,
                              .page_table = cache.page_table()};
  if (!attention->Plan({&sequence, 1}).ok()) {
    state.SkipWithError("out of memory");
    return;
  }
  const int64_t row_floats = int64_t{shape.num_heads} * shape.head_dim;
  std::vector<float> q(static_cast<size_t>(setup.q_len * row_floats));
  for (size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(i % 37) / 18 - 1;
  std::vector<float> out(q.size());
  for (auto _ : state) attention->Run(cache.NextLayer(), q.data(), out.data());

  int64_t visible = 0;  // tokens, over all rows
  for (int32_t i = 0; i < setup.q_len; ++i) visible += setup.kv_len - setup.q_len + i + 1;
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(cache.layout().ReadBytes(setup.kv_len)) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = benchmark::Counter(4e-9 * static_cast<double>(visible * row_floats),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void Add(const Setup& setup) {
  const Shape& s = setup.shape;
  const std::string rows = setup.q_len == 1 ? "decode" : fmt::format("prefill{}", setup.q_len);
  const std::string name =
      fmt::format("{}/{}_{}_{}/{}/{}/{}/{}", rows, s.num_heads, s.num_kv_heads, s.head_dim,
                  NameOf(setup.cache_type), setup.kv_len, NameOf(setup.isa), setup.num_threads);
  auto* registered = benchmark::RegisterBenchmark(
      name.c_str(), [setup](benchmark::State& state) { BenchAttention(state, setup); });
  // One thread is timed by its own clock, which a busy machine disturbs less.
  if (setup.num_threads > 1) registered->UseRealTime();
}

void Register() {
  const int cores = UsableCores();
  std::vector<int> thread_counts = {1};
  if (cores > 1) thread_counts.push_back(cores);
  for (const Isa isa : MachineIsas()) {
    for (const Shape& shape : kShapes) {
      for (const int num_threads : thread_counts) {
        for (const CacheType type :
             {CacheType::kF16, CacheType::kQ8_0, CacheType::kBF16, CacheType::kF32}) {
          for (const int32_t kv_len : {2048, 8192, 16384})
            Add({shape, type, isa, num_threads, 1, kv_len});
        }
        Add({shape, CacheType::kF16, isa, num_threads, 512, 512});
        Add({shape, CacheType::kF16, isa, num_threads, 512, 2048});
        Add({shape, CacheType::kF16, isa, num_threads, 512, 8192});
      }
    }
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
