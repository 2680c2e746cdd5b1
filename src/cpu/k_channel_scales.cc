#include "cpu/k_channel_scales.h"

#include <algorithm>
#include <cmath>

namespace tidal {
namespace {

// The channel that RoPE turns together with `channel`; itself where none.
int32_t PartnerOf(const ModelConfig& config, int32_t channel) {
  if (channel >= config.rope_dim) return channel;
  if (config.rope_style == RopeStyle::kInterleaved) return channel ^ 1;
  const int32_t half = config.rope_dim / 2;
  return channel < half ? channel + half : channel - half;
}

}  // namespace

std::vector<float> KChannelScales(const ModelConfig& config, std::span<const float> k_bias) {
  std::vector<float> scales;
  if (k_bias.empty()) return scales;
  std::vector<float> sizes(static_cast<size_t>(config.head_dim));
  for (int32_t kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
    const std::span<const float> bias =
        k_bias.subspan(static_cast<size_t>(kv_head * config.head_dim), sizes.size());
    for (int32_t channel = 0; channel < config.head_dim; ++channel) {
      const float partner = bias[static_cast<size_t>(PartnerOf(config, channel))];
      sizes[static_cast<size_t>(channel)] =
          std::max(std::abs(bias[static_cast<size_t>(channel)]), std::abs(partner));
    }
    std::vector<float> sorted = sizes;
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    // What the projection itself adds is about 1 in size: a bias below that does not stand out.
    const float usual = std::max(sorted[sorted.size() / 2], 1.0F);
    for (const float size : sizes) {
      scales.push_back(std::isfinite(size)
                           ? std::exp2(std::floor(std::log2(std::max(size / usual, 1.0F))))
                           : 1.0F);
    }
  }
  return scales;
}

}  // namespace tidal
