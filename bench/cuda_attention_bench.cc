// Attention on a CUDA device beside the card's read rate: few rows over everything and over sets,
// each as the marginal cost of a kernel inside a graph of many, over as many layers' caches as keep
// the L2 cache from helping; and prefill beside the card's rate of large matrix products.
// usage: cuda_attention_bench [prefill]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/float16.h"
#include "base/math.h"
#include "cuda/attention.h"
#include "cuda/device_testing.h"
#include "executor/options.h"

namespace tidal {
namespace {

constexpr int32_t kPageTokens = 64;
constexpr int32_t kHeadDim = 128;

void Must(cudaError_t error) {
  TIDAL_CHECK(error == cudaSuccess, "CUDA says {}", cudaGetErrorString(error));
}

// Milliseconds of a replay of what `enqueue` puts on the stream, the median of several.
template <typename Enqueue>
double GraphMs(const Enqueue& enqueue) {
  cudaStream_t stream = nullptr;
  Must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  enqueue(stream);
  Must(cudaStreamSynchronize(stream));
  Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue(stream);
  cudaGraph_t graph = nullptr;
  Must(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec = nullptr;
  Must(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  // Not before the device has been at it for a while: with 32 KV heads a long context is read a
  // tenth faster at first.
  constexpr float kWarmUpMs = 300;
  constexpr size_t kReplays = 10;
  std::vector<float> times;
  for (float warm_ms = 0; times.size() < kReplays;) {
    Must(cudaEventRecord(begin, stream));
    Must(cudaGraphLaunch(exec, stream));
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    if (warm_ms >= kWarmUpMs) times.push_back(ms);
    warm_ms += ms;
  }
  Must(cudaGraphExecDestroy(exec));
  Must(cudaGraphDestroy(graph));
  Must(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[times.size() / 2]);
}

// A few random megabytes, repeated: filling gigabytes on the host would take minutes.
DeviceArray<uint8_t> RandomHalves(CacheType type, int64_t count, std::mt19937* random) {
  std::vector<uint16_t> values(static_cast<size_t>(count));
  std::normal_distribution<float> normal;
  constexpr size_t kDistinct = 1 << 20;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i >= kDistinct) {
      values[i] = values[i - kDistinct];
    } else {
      const float x = normal(*random);
      values[i] = type == CacheType::kF16 ? F32ToF16(x) : F32ToBf16(x);
    }
  }
  std::vector<uint8_t> bytes(values.size() * 2);
  std::copy_n(reinterpret_cast<const uint8_t*>(values.data()), bytes.size(), bytes.data());
  return DeviceArray<uint8_t>(bytes);
}

// TFLOP/s of a product of two bf16 matrices of 8192 by 8192: what prefill is measured against.
double ProductTflops() {
  constexpr int kSize = 8192;
  std::mt19937 random(1);
  constexpr int64_t kCount = int64_t{kSize} * kSize;
  const DeviceArray<uint8_t> a = RandomHalves(CacheType::kBF16, kCount, &random);
  const DeviceArray<uint8_t> b = RandomHalves(CacheType::kBF16, kCount, &random);
  const DeviceArray<uint8_t> c = RandomHalves(CacheType::kBF16, kCount, &random);
  cublasHandle_t handle = nullptr;
  const auto must = [](cublasStatus_t status) {
    TIDAL_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLAS says {}", cublasGetStatusString(status));
  };
  must(cublasCreate(&handle));
  // A workspace of the caller's: capture does not allow the library to allocate one.
  constexpr size_t kWorkspaceBytes = size_t{32} << 20;
  const DeviceArray<uint8_t> workspace{std::vector<uint8_t>(kWorkspaceBytes)};
  const double ms = GraphMs([&](cudaStream_t stream) {
    must(cublasSetStream(handle, stream));
    must(cublasSetWorkspace(handle, workspace.data(), kWorkspaceBytes));
    const float one = 1;
    const float zero = 0;
    must(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, kSize, kSize, kSize, &one, a.data(),
                      CUDA_R_16BF, kSize, b.data(), CUDA_R_16BF, kSize, &zero, c.data(),
                      CUDA_R_16BF, kSize, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  });
  must(cublasDestroy(handle));
  return 2.0 * kSize * kSize * kSize / ms / 1e9;
}

class Bench {
 public:
  Bench(CacheType type, int32_t num_heads, int32_t num_kv_heads, int32_t context,
        int32_t num_layers)
      : type_(type),
        num_heads_(num_heads),
        num_kv_heads_(num_kv_heads),
        context_(context),
        num_layers_(num_layers),
        num_pages_(static_cast<int32_t>(CeilDiv(context, kPageTokens))),
        kv_(RandomRows(int64_t{num_layers} * LayerBytes())) {
    std::vector<int32_t> pages(static_cast<size_t>(num_pages_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), random_);
    page_ids_ = DeviceArray<int32_t>(pages);
  }

  static int32_t RowBytes(CacheType type) {
    return type == CacheType::kF8e4m3 ? kHeadDim : kHeadDim * 2;
  }
  // K and V of a token in a KV head, scales and all.
  static int64_t TokenBytes(CacheType type) {
    return 2 * RowBytes(type) + (type == CacheType::kF8e4m3 ? kTokenScaleBytes : 0);
  }
  int64_t LayerBytes() const {
    return int64_t{num_pages_} * num_kv_heads_ * kPageTokens * TokenBytes(type_);
  }

  // A set of `budget` tokens, or everything (0). `chosen`: in a layer that chooses, where nothing
  // of the set may be touched before the kernel in front has ended.
  void Decode(int32_t budget, bool chosen, int32_t num_sms) {
    const bool sets = budget > 0;
    const int flag = sets ? kReadsSets | (chosen ? kChooses : 0) : kReadsAll;
    const DeviceArray<DeviceSequence> steps({{0, 1, context_, 0, 0}});
    const DeviceArray<uint8_t> flags({static_cast<uint8_t>(flag)});
    std::vector<int32_t> slots(static_cast<size_t>(std::max(budget, 1)));
    for (int32_t& slot : slots)
      slot = static_cast<int32_t>(random_() % static_cast<uint32_t>(context_));
    const DeviceArray<int32_t> device_slots(slots);
    const DeviceArray<int32_t> counts({budget});
    const DeviceArray<DeviceSets> device_sets({{device_slots.data(), counts.data(), budget, 1}});
    const std::vector<float> q(static_cast<size_t>(num_heads_ * kHeadDim), 0.1F);
    const DeviceArray<float> device_q(q);
    const DeviceArray<float> out(q);
    const int32_t splits = AttentionSplits(num_sms, kHeadDim, type_, num_kv_heads_, 1);
    const DeviceArray<float> partial(std::vector<float>(
        static_cast<size_t>(AttentionPartialFloats(splits, 1, num_heads_, kHeadDim))));
    const DeviceArray<int32_t> counters(std::vector<int32_t>(static_cast<size_t>(num_heads_)));
    AttentionCall call = Call(steps, flags, device_q, out);
    call.sets = sets ? device_sets.data() : nullptr;
    call.num_splits = splits;
    call.workspace = {partial.data(), counters.data()};
    const auto run = [&](int32_t calls) {
      return GraphMs([&](cudaStream_t stream) {
        for (int32_t i = 0; i < calls; ++i) {
          call.kv.base = kv_.data() + (i % num_layers_) * LayerBytes();
          Must(AttendDecode(call, stream));
        }
      });
    };
    constexpr int32_t kCalls = 64;
    const double us = (run(2 * kCalls) - run(kCalls)) / kCalls * 1000;
    const double bytes =
        static_cast<double>(sets ? budget : context_) * num_kv_heads_ * TokenBytes(type_);
    const std::string what =
        sets ? "k=" + std::to_string(budget) + (chosen ? " chosen" : "") : "everything";
    std::printf("%-6s %2d heads %2d KV heads, %6d tokens, %-13s %8.2f us  %6.0f GB/s\n",
                NameOf(type_), num_heads_, num_kv_heads_, context_, what.c_str(), us,
                bytes / us / 1000);
  }

  void Prefill(int32_t q_len, double limit_tflops) {
    const DeviceArray<DeviceSequence> steps({{0, q_len, context_, 0, 0}});
    const DeviceArray<uint8_t> flags({kReadsAll});
    std::vector<float> q(static_cast<size_t>(q_len) * static_cast<size_t>(num_heads_ * kHeadDim));
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random_);
    const DeviceArray<float> device_q(q);
    const DeviceArray<float> out(q);
    AttentionCall call = Call(steps, flags, device_q, out);
    call.kv.base = kv_.data();
    const double ms =
        GraphMs([&](cudaStream_t stream) { Must(AttendPrefill(call, q_len, stream)); });
    const double flops = 4.0 * kHeadDim * num_heads_ * q_len * (context_ - (q_len - 1) / 2.0);
    const double tflops = flops / ms / 1e9;
    std::printf(
        "%2d heads %2d KV heads, %-6s prefill %5d rows of %d: %.3f ms, %.0f TFLOP/s, %.0f%%\n",
        num_heads_, num_kv_heads_, NameOf(type_), q_len, context_, ms, tflops,
        100 * tflops / limit_tflops);
  }

 private:
  DeviceArray<uint8_t> RandomRows(int64_t num_bytes) {
    if (type_ != CacheType::kF8e4m3) return RandomHalves(type_, num_bytes / 2, &random_);
    // Scales of 1 and any codes up to 2 in magnitude.
    std::vector<uint8_t> bytes(static_cast<size_t>(num_bytes));
    constexpr uint8_t kScales[] = {0x80, 0x3f, 0x80, 0x3f};
    const int64_t rows = 2 * kPageTokens * RowBytes(type_);
    for (int64_t i = 0; i < num_bytes; ++i) {
      const int64_t at = i % (kPageTokens * TokenBytes(type_));
      bytes[static_cast<size_t>(i)] =
          at >= rows ? kScales[at % 4] : static_cast<uint8_t>((i * 2654435761U >> 16) & 0xbfU);
    }
    return DeviceArray<uint8_t>(bytes);
  }

  AttentionCall Call(const DeviceArray<DeviceSequence>& steps, const DeviceArray<uint8_t>& flags,
                     const DeviceArray<float>& q, const DeviceArray<float>& out) const {
    AttentionCall call;
    call.step = {steps.data(), page_ids_.data(), flags.data(), 1};
    call.kv = {.base = kv_.data(),
               .page_bytes = num_kv_heads_ * kPageTokens * TokenBytes(type_),
               .kv_head_bytes = kPageTokens * TokenBytes(type_),
               .v_offset = int64_t{kPageTokens} * RowBytes(type_),
               .scales_offset = int64_t{2} * kPageTokens * RowBytes(type_),
               .row_bytes = RowBytes(type_),
               .head_dim = kHeadDim,
               .num_kv_heads = num_kv_heads_,
               .type = type_};
    call.q = q.data();
    call.out = out.data();
    call.num_heads = num_heads_;
    call.attn_scale = 0.088F;
    return call;
  }

  std::mt19937 random_{1};
  const CacheType type_;
  const int32_t num_heads_;
  const int32_t num_kv_heads_;
  const int32_t context_;
  const int32_t num_layers_;
  const int32_t num_pages_;
  DeviceArray<uint8_t> kv_;
  DeviceArray<int32_t> page_ids_{{}};
};

void Decodes(CacheType type, int32_t sms) {
  for (const int32_t context : {10240, 32768, 102400}) {
    for (const int32_t num_kv_heads : {32, 8}) {
      const int64_t layer_bytes = int64_t{context} * num_kv_heads * Bench::TokenBytes(type);
      const auto num_layers =
          static_cast<int32_t>(std::max<int64_t>(2, CeilDiv(int64_t{400} << 20, layer_bytes)));
      Bench bench(type, 32, num_kv_heads, context, num_layers);
      bench.Decode(0, false, sms);
      for (const int32_t budget : {256, 512, 1024, 4096})
        for (const bool chosen : {false, true}) bench.Decode(budget, chosen, sms);
    }
  }
}

void Prefills() {
  const double limit_tflops = ProductTflops();
  std::printf("a product of bf16 matrices: %.0f TFLOP/s\n", limit_tflops);
  for (const int32_t num_kv_heads : {32, 8}) {
    for (const CacheType type : {CacheType::kBF16, CacheType::kF16, CacheType::kF8e4m3}) {
      Bench bench(type, 32, num_kv_heads, 16384, 1);
      for (const int32_t q_len : {16384, 512}) bench.Prefill(q_len, limit_tflops);
    }
  }
}

int Main(bool only_prefill) {
  cudaDeviceProp properties;
  Must(cudaGetDeviceProperties(&properties, 0));
  const int32_t sms = properties.multiProcessorCount;
  std::printf("%s, %d multiprocessors\n", properties.name, sms);
  if (!only_prefill) {
    for (const CacheType type : {CacheType::kF16, CacheType::kF8e4m3}) Decodes(type, sms);
  }
  Prefills();
  return 0;
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) {
  const bool only_prefill = argc == 2 && std::string_view(argv[1]) == "prefill";
  if (argc > 1 && !only_prefill) {
    std::fprintf(stderr, "usage: cuda_attention_bench [prefill]\n");
    return 2;
  }
  return tidal::Main(only_prefill);
}
