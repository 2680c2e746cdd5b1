// Microseconds of each launch of a choice of tokens on a CUDA device, and the rate at which the key
// index is read beside the rate at which the device reads anything.
//
// usage: cuda_selection_bench [CONTEXT...]
//
// How  chains of choices, each of another layer's index, so that no cache helps, as one CUDA graph.
//      A launch's time is what a chain takes longer with it than without it, by its layers. Medians
//      of several replays. Keys are random: the plan is index4, one shared set, mass, 1024 tokens.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/key_index.h"
#include "cuda/selection_params.h"
#include "cuda/sum_words.h"

namespace tidal {
namespace {

void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

template <typename T>
T* Allocate(int64_t count) {
  void* data = nullptr;
  Check(cudaMalloc(&data, static_cast<size_t>(count) * sizeof(T)));
  Check(cudaMemset(data, 0, static_cast<size_t>(count) * sizeof(T)));
  return static_cast<T*>(data);
}
template <typename T>
T* OnDevice(const std::vector<T>& values) {
  T* data = Allocate<T>(static_cast<int64_t>(values.size()));
  Check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return data;
}

// Median milliseconds of a graph of what `enqueue` enqueues.
double Time(cudaStream_t stream, const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  Check(cudaStreamEndCapture(stream, &graph));
  Check(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin));
  Check(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) Check(cudaGraphLaunch(exec, stream));
  std::vector<float> times;
  for (int i = 0; i < 15; ++i) {
    Check(cudaEventRecord(begin, stream));
    Check(cudaGraphLaunch(exec, stream));
    Check(cudaEventRecord(end, stream));
    Check(cudaEventSynchronize(end));
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  Check(cudaGraphExecDestroy(exec));
  Check(cudaGraphDestroy(graph));
  return times[times.size() / 2];
}

struct Model {
  const char* name;
  int32_t num_kv_heads;
  int32_t gqa_ratio;
};
constexpr int32_t kHeadDim = 128;
constexpr int32_t kBudget = 1024;

// A random index of `pages` pages: plausible minima and steps, random codes.
uint8_t* RandomIndex(int64_t pages, int32_t num_kv_heads, int64_t page_bytes) {
  constexpr int64_t kDifferent = 16;  // pages; then they repeat
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(static_cast<size_t>(kDifferent * page_bytes));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const int64_t part = page_bytes / num_kv_heads;
  for (int64_t i = 0; i < kDifferent * num_kv_heads; ++i) {
    auto* halves = reinterpret_cast<uint16_t*>(bytes.data() + i * part);
    for (int32_t d = 0; d < kHeadDim; ++d) {
      halves[d] = static_cast<uint16_t>(0xc000 + random() % 512);             // about -2.5
      halves[kHeadDim + d] = static_cast<uint16_t>(0x3400 + random() % 512);  // about 0.3
    }
  }
  auto* index = Allocate<uint8_t>(pages * page_bytes);
  for (int64_t page = 0; page < pages; page += kDifferent) {
    Check(cudaMemcpy(index + page * page_bytes, bytes.data(),
                     static_cast<size_t>(std::min(kDifferent, pages - page) * page_bytes),
                     cudaMemcpyHostToDevice));
  }
  return index;
}

class Bench {
 public:
  Bench(const Model& model, int32_t kv_len, const ChoiceGeometry& geometry)
      : model_(model), kv_len_(kv_len), geometry_(geometry) {
    const int32_t heads = model.num_kv_heads * model.gqa_ratio;
    const int32_t pages = (kv_len + 63) / 64;
    const int32_t max_tokens = pages * 64;
    page_bytes_ = DeviceIndexPageBytes(model.num_kv_heads, kHeadDim, 4);
    num_layers_ =
        static_cast<int32_t>(std::clamp<int64_t>(400'000'000 / (pages * page_bytes_), 3, 48));
    index_ = RandomIndex(int64_t{pages} * num_layers_, model.num_kv_heads, page_bytes_);
    kv_.head_dim = kHeadDim;
    kv_.num_kv_heads = model.num_kv_heads;
    kv_.row_bytes = 2 * kHeadDim;
    kv_.kv_head_bytes = 2 * 64 * kv_.row_bytes;
    kv_.page_bytes = kv_.kv_head_bytes * model.num_kv_heads;
    kv_.type = CacheType::kBF16;
    kv_.base = Allocate<uint8_t>(kv_.page_bytes * pages);
    std::vector<int32_t> ids(static_cast<size_t>(pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::mt19937 random(2);
    std::shuffle(ids.begin(), ids.end(), random);
    std::vector<float> q(static_cast<size_t>(heads * kHeadDim));
    std::normal_distribution<float> normal(0, 1);
    for (float& x : q) x = normal(random);
    ChoiceParams params;
    params.scores = Allocate<uint16_t>(int64_t{heads} * max_tokens);
    params.page_max = Allocate<float>(int64_t{pages} * heads);
    params.unit_stats = Allocate<float2>(int64_t{pages} * heads);
    params.masses = params.values = Allocate<float>(max_tokens);
    params.ordered = Allocate<uint32_t>(max_tokens);
    bins_ = params.bins = Allocate<uint32_t>(kTopKBins);
    params.totals = Allocate<ChoiceTotals>(1);
    params.slots = Allocate<int32_t>(kBudget);
    params.counts = Allocate<int32_t>(1);
    params.capacity = kBudget;
    params.heads_per_set = heads;
    params.always_begin = 4;
    params.always_end = kv_len - 64;
    params.wanted = kBudget - 68;
    params.scorer = Scorer::kIndex4;
    params.merge = Merge::kMass;
    params.counts_bins = 1;
    launch_.step = {OnDevice(std::vector<DeviceSequence>{{.q_len = 1, .kv_len = kv_len}}),
                    OnDevice(ids), OnDevice(std::vector<uint8_t>{kChooses}), 1};
    launch_.kv = kv_;
    launch_.q = OnDevice(q);
    launch_.params = OnDevice(std::vector<ChoiceParams>{params});
    launch_.reports = Allocate<DeviceChoiceReport>(1);
    launch_.num_heads = heads;
    launch_.gqa_ratio = model.gqa_ratio;
    launch_.max_tokens = max_tokens;
    launch_.attn_scale = 0.088388f;
    Check(cudaStreamCreate(&stream_));
  }
  ~Bench() { Check(cudaDeviceReset()); }  // all of the above

  void Run() {
    const double scan = Microseconds(1);
    const double merge = Microseconds(2);
    Check(cudaMemset(bins_, 0, kTopKBins * 4));
    const double select = Microseconds(3);
    const double index_bytes = static_cast<double>(kv_len_ / 64) * static_cast<double>(page_bytes_);
    std::printf(
        "%-12s %7d  scan %7.2f us (%6.0f GB/s)  merge %6.2f us  select %6.2f us  all %7.2f us"
        " (%5.0f GB/s)  read limit %6.0f GB/s\n",
        model_.name, kv_len_, scan, index_bytes / scan / 1e3, merge - scan, select - merge, select,
        index_bytes / select / 1e3, ReadLimit());
  }

 private:
  // Per layer, of the first `launches` launches of a choice.
  double Microseconds(int launches) {
    const auto layers = [&](int32_t count) {
      return Time(stream_, [&] {
        for (int32_t layer = 0; layer < count; ++layer) {
          launch_.index = {index_ + int64_t{layer} * ((kv_len_ + 63) / 64) * page_bytes_,
                           page_bytes_, 4};
          Check(LaunchScan(launch_, geometry_, stream_));
          if (launches > 1) Check(LaunchMerge(launch_, geometry_, true, stream_));
          if (launches > 2) Check(LaunchCounted(launch_, geometry_, 1, 1, stream_));
        }
      });
    };
    const double all = layers(num_layers_);
    const double one = layers(1);
    return (all - one) / (num_layers_ - 1) * 1e3;
  }
  double ReadLimit() {
    const int64_t bytes = int64_t{num_layers_} * ((kv_len_ + 63) / 64) * page_bytes_ / 16 * 16;
    uint32_t* out = Allocate<uint32_t>(1);
    const double ms = Time(stream_, [&] { Check(SumWords(index_, bytes, out, stream_)); });
    return static_cast<double>(bytes) / ms / 1e6;
  }

  const Model model_;
  const int32_t kv_len_;
  const ChoiceGeometry geometry_;
  int64_t page_bytes_ = 0;
  int32_t num_layers_ = 0;
  uint8_t* index_ = nullptr;
  uint32_t* bins_ = nullptr;
  DeviceKv kv_;
  ChoiceLaunch launch_;
  cudaStream_t stream_ = nullptr;
};

int Main(const std::vector<int32_t>& contexts) {
  constexpr Model kModels[] = {{"Llama-2-7B", 32, 1}, {"Llama-3-8B", 8, 4}};
  for (const Model& model : kModels) {
    for (const int32_t context : contexts) {
      ChoiceGeometry geometry;
      Check(cudaDeviceGetAttribute(&geometry.num_sms, cudaDevAttrMultiProcessorCount, 0));
      Check(cudaDeviceGetAttribute(&geometry.max_shared_bytes,
                                   cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
      Check(PrepareTopK(&geometry));
      Bench(model, context, geometry).Run();
    }
  }
  return 0;
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) {
  std::vector<int32_t> contexts;
  for (int i = 1; i < argc; ++i) contexts.push_back(std::atoi(argv[i]));
  if (contexts.empty()) contexts = {10000, 32000, 100000};
  for (const int32_t context : contexts) {
    if (context >= 2048 && context <= 1 << 20) continue;
    std::fprintf(stderr, "a context is a number from 2048 to %d\n", 1 << 20);
    return 2;
  }
  return tidal::Main(contexts);
}
