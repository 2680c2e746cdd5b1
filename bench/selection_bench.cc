// What a selection layer of one decoded token costs on the CPU: scoring by the key index or by the
// keys, merging the heads, top-k, and attention over the chosen tokens at random places. Shapes
// (heads/KV heads/head_dim) are those of attention_bench.
//
//   build/bench/selection_bench --benchmark_filter='choose/12_2_128/index4/16384.*avx2'
//   build/bench/selection_bench --benchmark_filter='gather/.*/f16'
//
// Counters: scan_us, merge_us and top_k_us are the parts of a choice; GB/s are 1e9 bytes of index,
// keys or K and V rows (each once) per second of wall time. Layers rotate over kRotatedBytes,
// several times what the last cache of a large server holds; compare with matmul_bench's `read`.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/isa.h"
#include "cpu/selection.h"

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
  Scorer scorer;
  Isa isa;
  int num_threads;
  int32_t kv_len;
  int32_t token_budget;
};

// A sequence over shuffled pages, as many layers of cache and index as make kRotatedBytes.
class Cache {
 public:
  explicit Cache(const Setup& setup)
      : layout_(KvLayout::Create(setup.shape.num_kv_heads, setup.shape.head_dim, setup.cache_type,
                                 setup.cache_type)
                    .value()),
        index_(setup.shape.num_kv_heads, setup.shape.head_dim,
               std::max(2, IndexBits(setup.scorer))),
        page_table_(static_cast<size_t>(CeilDiv(setup.kv_len, kPageSize))) {
    const auto pages = static_cast<int64_t>(page_table_.size());
    num_layers_ = std::max<int64_t>(1, kRotatedBytes / (pages * layout_.page_bytes()));
    memory_ = AlignedBuffer::Create(num_layers_ * pages * layout_.page_bytes()).value();
    index_memory_ = AlignedBuffer::Create(num_layers_ * pages * index_.page_bytes()).value();
    std::iota(page_table_.begin(), page_table_.end(), 0);
    std::shuffle(page_table_.begin(), page_table_.end(), random_);
    std::normal_distribution<float> normal;
    std::vector<float> k(static_cast<size_t>(setup.shape.num_kv_heads) * setup.shape.head_dim);
    const KernelTable& kernels = KernelsFor(setup.isa);
    for (int32_t pos = 0; pos < setup.kv_len; ++pos) {
      for (float& x : k) x = normal(random_);
      StoreKv(kernels.elementwise, layout_, page_table_[static_cast<size_t>(pos / kPageSize)],
              pos % kPageSize, k.data(), k.data(), KvBase(0));
    }
    for (const int32_t page : page_table_) Seal(kernels, 0, page);
    // The layers hold the same: it is their places in memory that count.
    for (int64_t layer = 1; layer < num_layers_; ++layer) {
      std::copy(KvBase(0), KvBase(1), KvBase(layer));
      std::copy(IndexBase(0), IndexBase(1), IndexBase(layer));
    }
  }

  const KvLayout& layout() const { return layout_; }
  const std::vector<int32_t>& page_table() const { return page_table_; }
  LayerKeys NextLayer() {
    const int64_t layer = next_++ % num_layers_;
    return {.layer = 0, .kv_base = KvBase(layer), .index_base = IndexBase(layer), .index = &index_};
  }
  std::vector<int32_t> RandomSlots(int32_t kv_len, int32_t count) {
    std::vector<int32_t> slots(static_cast<size_t>(kv_len));
    for (int32_t pos = 0; pos < kv_len; ++pos) {
      slots[static_cast<size_t>(pos)] =
          page_table_[static_cast<size_t>(pos / kPageSize)] * kPageSize + pos % kPageSize;
    }
    std::shuffle(slots.begin(), slots.end(), random_);
    slots.resize(static_cast<size_t>(count));
    return slots;
  }

 private:
  std::byte* KvBase(int64_t layer) const {
    return memory_.data() + layer * static_cast<int64_t>(page_table_.size()) * layout_.page_bytes();
  }
  std::byte* IndexBase(int64_t layer) const {
    return index_memory_.data() +
           layer * static_cast<int64_t>(page_table_.size()) * index_.page_bytes();
  }
  void Seal(const KernelTable& kernels, int64_t layer, int32_t page) {
    for (int32_t kv_head = 0; kv_head < layout_.num_kv_heads(); ++kv_head) {
      const auto* part =
          reinterpret_cast<const uint8_t*>(KvBase(layer) + layout_.PartOffset(page, kv_head));
      const CacheBlock keys = {
          .rows = part + layout_.k().rows_offset,
          .scales = reinterpret_cast<const uint16_t*>(part + layout_.k().scales_offset),
          .num_tokens = kPageSize,
          .head_dim = layout_.head_dim(),
          .prefetch = nullptr,
          .prefetch_bytes = 0};
      kernels.selection.seal_page[static_cast<size_t>(layout_.k().type)](
          keys, index_.bits(), index_.At(IndexBase(layer), page, kv_head));
    }
  }

  KvLayout layout_;
  KeyIndexLayout index_;
  std::vector<int32_t> page_table_;
  AlignedBuffer memory_;
  AlignedBuffer index_memory_;
  std::mt19937 random_{1};
  int64_t num_layers_ = 0;
  int64_t next_ = 0;
};

std::vector<float> Queries(const Shape& shape) {
  std::vector<float> q(static_cast<size_t>(shape.num_heads * shape.head_dim));
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(random);
  return q;
}

void BenchChoose(benchmark::State& state, const Setup& setup) {
  Cache cache(setup);
  ThreadPool pool(setup.num_threads);
  CpuSelection selection({.kernels = &KernelsFor(setup.isa),
                          .pool = &pool,
                          .layout = cache.layout(),
                          .num_layers = 1,
                          .num_heads = setup.shape.num_heads,
                          .attn_scale = 1 / std::sqrt(static_cast<float>(setup.shape.head_dim)),
                          .max_tokens = setup.kv_len});
  AttentionPlan plan;
  plan.preset = "tidal";
  plan.reads_all = {0};
  plan.selects = {1};
  plan.scorer = setup.scorer;
  plan.budget.value = setup.token_budget;
  plan.sinks = 4;
  plan.recent.value = 64;
  if (!selection.Prepare(0, plan).ok()) {
    state.SkipWithError("out of memory");
    return;
  }
  const StepSequence sequence = {
      .q_len = 1, .kv_len = setup.kv_len, .page_table = cache.page_table().data(), .plan = &plan};
  const std::vector<float> q = Queries(setup.shape);
  ExecutorProfile profile;
  selection.Choose(cache.NextLayer(), sequence, q.data(), &profile);  // memory becomes resident
  profile = {};
  for (auto _ : state) selection.Choose(cache.NextLayer(), sequence, q.data(), &profile);
  const auto per_choice = [&](double total) {
    return total / static_cast<double>(state.iterations());
  };
  state.counters["scan_us"] = per_choice(profile.scan_ms * 1000);
  state.counters["merge_us"] = per_choice(profile.merge_ms * 1000);
  state.counters["top_k_us"] = per_choice(profile.top_k_ms * 1000);
  state.counters["scan_GB/s"] = static_cast<double>(profile.scan_bytes) / profile.scan_ms * 1e-6;
}

void BenchGather(benchmark::State& state, const Setup& setup) {
  Cache cache(setup);
  ThreadPool pool(setup.num_threads);
  const auto attention =
      CpuAttention::Create({.kernels = &KernelsFor(setup.isa),
                            .pool = &pool,
                            .layout = cache.layout(),
                            .num_heads = setup.shape.num_heads,
                            .attn_scale = 1 / std::sqrt(static_cast<float>(setup.shape.head_dim)),
                            .max_rows = 1})
          .value();
  const std::vector<int32_t> slots = cache.RandomSlots(setup.kv_len, setup.token_budget);
  const SlotSet set = {slots.data(), setup.token_budget};
  const AttendSeq sequence = {.row_begin = 0,
                              .q_len = 1,
                              .kv_len = setup.kv_len,
                              .page_table = cache.page_table().data(),
                              .sets = {&set, 1}};
  const std::vector<float> q = Queries(setup.shape);
  std::vector<float> out(q.size());
  for (auto _ : state) {
    // Planned every time, as in every layer.
    if (!attention->Plan({&sequence, 1}).ok()) state.SkipWithError("out of memory");
    attention->Run(cache.NextLayer().kv_base, q.data(), out.data());
  }
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(cache.layout().ReadBytes(setup.token_budget)) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate);
}

using Bench = void (*)(benchmark::State&, const Setup&);

void Add(const std::string& what, const Setup& setup, Bench bench) {
  const Shape& s = setup.shape;
  const std::string name =
      fmt::format("{}/{}_{}_{}/{}/{}/{}/{}/{}", what, s.num_heads, s.num_kv_heads, s.head_dim,
                  bench == BenchChoose ? NameOf(setup.scorer) : NameOf(setup.cache_type),
                  setup.kv_len, setup.token_budget, NameOf(setup.isa), setup.num_threads);
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    bench(state, setup);
  })->UseRealTime();
}

void Register() {
  std::vector<int> thread_counts = {1};
  if (UsableCores() > 1) thread_counts.push_back(UsableCores());
  for (const Isa isa : MachineIsas()) {
    for (const Shape& shape : kShapes) {
      for (const int threads : thread_counts) {
        for (const int32_t kv_len : {8192, 16384, 32768}) {
          for (const Scorer scorer : {Scorer::kIndex4, Scorer::kIndex2, Scorer::kExact})
            Add("choose", {shape, CacheType::kF16, scorer, isa, threads, kv_len, 512}, BenchChoose);
        }
        for (const CacheType type :
             {CacheType::kF16, CacheType::kQ8_0, CacheType::kBF16, CacheType::kF32}) {
          for (const int32_t budget : {512, 1024, 8192}) {
            Add("gather", {shape, type, Scorer::kIndex4, isa, threads, 16384, budget}, BenchGather);
          }
        }
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
