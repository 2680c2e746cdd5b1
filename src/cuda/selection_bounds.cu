// What      A bound per page of a plan (`page` tokens) and head: pages-minmax, pages-meanstd.
// Shapes    keys by page; bounds float32 [num_heads][max_tokens], a page of the plan each.
// Launch    two blocks of 8 warps per multiprocessor; a warp per KV head and page of the plan,
//           dealt out in turn; a lane has every 32nd channel.
// Bytes     all keys, once.
// Numerics  float32; deviations from the page's first key, so that a channel's bias does not eat
//           them up. Deterministic.
// Oracle    selection_test.cc.
#include "cuda/seal_page.cuh"
#include "cuda/selection_device.cuh"

namespace tidal {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kLaneChannels = kMaxSealHeadDim / 32;

// Of a lane's channels over the keys of a page of the plan.
struct Extent {
  float first[kLaneChannels];
  float low[kLaneChannels];  // these relative to `first`
  float high[kLaneChannels];
  float sum[kLaneChannels];
  float squares[kLaneChannels];
};

__device__ __forceinline__ void AddKey(const PageKeys& keys, int32_t head_dim, int32_t token,
                                       bool is_first, Extent* extent) {
#pragma unroll
  for (int32_t i = 0; i < kLaneChannels; ++i) {
    const int32_t channel = 32 * i + static_cast<int32_t>(threadIdx.x % 32);
    if (channel >= head_dim) continue;
    const float key = keys.At(token, channel);
    if (is_first) {
      extent->first[i] = key;
      extent->low[i] = extent->high[i] = extent->sum[i] = extent->squares[i] = 0;
      continue;
    }
    const float x = key - extent->first[i];
    extent->low[i] = fminf(extent->low[i], x);
    extent->high[i] = fmaxf(extent->high[i], x);
    extent->sum[i] += x;
    extent->squares[i] = fmaf(x, x, extent->squares[i]);
  }
}

__device__ __forceinline__ float BoundOf(const ChoiceLaunch& c, Scorer scorer, const Extent& extent,
                                         int32_t num_tokens, const float* q) {
  const float inverse = 1.0f / static_cast<float>(num_tokens);
  float bound = 0;
#pragma unroll
  for (int32_t i = 0; i < kLaneChannels; ++i) {
    const int32_t channel = 32 * i + static_cast<int32_t>(threadIdx.x % 32);
    if (channel >= c.kv.head_dim) continue;
    const float x = q[channel] * c.attn_scale;
    if (scorer == Scorer::kPagesMinMax) {
      const float extreme = x > 0 ? extent.high[i] : extent.low[i];
      bound = fmaf(x, extent.first[i] + extreme, bound);
      continue;
    }
    const float mean = extent.sum[i] * inverse;
    const float variance = fmaf(-mean, mean, extent.squares[i] * inverse);
    bound = fmaf(x, extent.first[i] + mean, bound);
    bound = fmaf(fabsf(x), sqrtf(fmaxf(variance, 0.0f)), bound);
  }
  return WarpSum(bound);
}

__device__ void BoundUnit(const ChoiceLaunch& c, int32_t sequence, int32_t kv_head, int32_t unit) {
  const ChoiceParams& params = c.params[sequence];
  const DeviceSequence& where = c.step.sequences[sequence];
  const int32_t begin = unit * params.page;
  const int32_t end = min(begin + params.page, where.kv_len);
  Extent extent;
  for (int32_t pos = begin; pos < end; ++pos) {
    const int32_t page_id = c.step.page_ids[where.page_begin + pos / kTokensPerPage];
    AddKey(PageKeys(c.kv, page_id, kv_head), c.kv.head_dim, pos % kTokensPerPage, pos == begin,
           &extent);
  }
  const float* q = QueryOf(c, sequence);
  for (int32_t i = 0; i < c.gqa_ratio; ++i) {
    const int64_t head = int64_t{kv_head} * c.gqa_ratio + i;
    const float bound = BoundOf(c, params.scorer, extent, end - begin, q + head * c.kv.head_dim);
    if (threadIdx.x % 32 == 0)
      static_cast<float*>(params.scores)[head * c.max_tokens + unit] = bound;
  }
}

__global__ void __launch_bounds__(kThreads) BoundsKernel(ChoiceLaunch c) {
  extern __shared__ int32_t begins[];
  WaitForInputs();
  AllowNext();
  const auto units_of = [&](int32_t s) {
    const int32_t page = c.params[s].page;
    return (c.step.sequences[s].kv_len + page - 1) / page;
  };
  const auto items_of = [&](int32_t s) {
    const bool active = Chooses(c, s) && ScoresPages(c.params[s].scorer) && IsFresh(c, s);
    return active ? units_of(s) * c.kv.num_kv_heads : 0;
  };
  BeginsOfSequences(c.step.num_sequences, items_of, begins);
  const int32_t total = begins[c.step.num_sequences];
  const auto num_warps = static_cast<int32_t>(gridDim.x * (kThreads / 32));
  for (auto item = static_cast<int32_t>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
       item < total; item += num_warps) {
    const int32_t s = SequenceOf(begins, item);
    const int32_t units = units_of(s);
    BoundUnit(c, s, (item - begins[s]) / units, (item - begins[s]) % units);
  }
}

}  // namespace

cudaError_t LaunchBounds(const ChoiceLaunch& launch, const ChoiceGeometry& geometry,
                         cudaStream_t stream) {
  const size_t shared_bytes =
      sizeof(int32_t) * (static_cast<size_t>(launch.step.num_sequences) + 1);
  return Launch(BoundsKernel, dim3(static_cast<unsigned>(2 * geometry.num_sms)), dim3(kThreads),
                shared_bytes, stream, launch);
}

}  // namespace tidal
