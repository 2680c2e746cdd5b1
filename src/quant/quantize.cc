#include "quant/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/float16.h"
#include "quant/quant_blocks.h"

namespace tidal {
namespace {

// The nearest code of x = d * code, kept in [low, high]; 0 where all of a group is zero (d == 0).
int NearestCode(float x, float d, int low, int high) {
  if (d == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::clamp(std::nearbyint(x / d), static_cast<float>(low), static_cast<float>(high)));
}

// The value of the largest magnitude, with its sign: mapped to the lowest code, of which there is
// one more than positive.
float SignedPeak(const float* x, int n) {
  return *std::max_element(x, x + n, [](float a, float b) { return std::abs(a) < std::abs(b); });
}

void Quantize(const float* x, BlockQ4_0* block) {
  block->d = F32ToF16(SignedPeak(x, kQuantBlockSize) / -8);
  const float d = F16ToF32(block->d);
  for (int i = 0; i < 16; ++i) {
    const int low = NearestCode(x[i], d, -8, 7) + 8;
    const int high = NearestCode(x[i + 16], d, -8, 7) + 8;
    block->qs[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

void Quantize(const float* x, BlockQ4_1* block) {
  const auto [min, max] = std::minmax_element(x, x + kQuantBlockSize);
  block->d = F32ToF16((*max - *min) / 15);
  block->m = F32ToF16(*min);
  const float d = F16ToF32(block->d);
  const float m = F16ToF32(block->m);
  for (int i = 0; i < 16; ++i) {
    const int low = NearestCode(x[i] - m, d, 0, 15);
    const int high = NearestCode(x[i + 16] - m, d, 0, 15);
    block->qs[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

template <typename Block>
void StoreFiveBitCodes(const int codes[kQuantBlockSize], Block* block) {
  uint32_t fifth_bits = 0;
  for (int i = 0; i < 16; ++i) {
    block->qs[i] = static_cast<uint8_t>((codes[i] & 15) | ((codes[i + 16] & 15) << 4));
    fifth_bits |= static_cast<uint32_t>(codes[i] >> 4) << i;
    fifth_bits |= static_cast<uint32_t>(codes[i + 16] >> 4) << (i + 16);
  }
  std::memcpy(block->qh, &fifth_bits, sizeof(fifth_bits));
}

void Quantize(const float* x, BlockQ5_0* block) {
  block->d = F32ToF16(SignedPeak(x, kQuantBlockSize) / -16);
  const float d = F16ToF32(block->d);
  int codes[kQuantBlockSize];
  for (int i = 0; i < kQuantBlockSize; ++i) codes[i] = NearestCode(x[i], d, -16, 15) + 16;
  StoreFiveBitCodes(codes, block);
}

void Quantize(const float* x, BlockQ5_1* block) {
  const auto [min, max] = std::minmax_element(x, x + kQuantBlockSize);
  block->d = F32ToF16((*max - *min) / 31);
  block->m = F32ToF16(*min);
  const float d = F16ToF32(block->d);
  const float m = F16ToF32(block->m);
  int codes[kQuantBlockSize];
  for (int i = 0; i < kQuantBlockSize; ++i) codes[i] = NearestCode(x[i] - m, d, 0, 31);
  StoreFiveBitCodes(codes, block);
}

void Quantize(const float* x, BlockQ8_0* block) {
  block->d = F32ToF16(std::abs(SignedPeak(x, kQuantBlockSize)) / 127);
  const float d = F16ToF32(block->d);
  for (int i = 0; i < kQuantBlockSize; ++i) {
    block->qs[i] = static_cast<int8_t>(NearestCode(x[i], d, -127, 127));
  }
}

// The inverse of UnpackKScales.
void PackKScales(const uint8_t scales[8], const uint8_t mins[8], uint8_t packed[kKScaleBytes]) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | ((scales[g + 4] >> 4) << 6));
    packed[g + 4] = static_cast<uint8_t>(mins[g] | ((mins[g + 4] >> 4) << 6));
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 15) | ((mins[g + 4] & 15) << 4));
  }
}

// The part that Q4_K and Q5_K share: scales and minima of the groups, then codes of up to max_code.
template <typename Block>
void QuantizeKGroups(const float* x, int max_code, Block* block, uint8_t codes[kSuperBlockSize]) {
  float group_scale[8];
  float group_min[8];  // subtracted, so at least 0
  for (int g = 0; g < 8; ++g) {
    const auto [min, max] = std::minmax_element(x + 32 * g, x + 32 * (g + 1));
    group_min[g] = std::max(0.0F, -*min);
    group_scale[g] = (std::max(0.0F, *max) + group_min[g]) / static_cast<float>(max_code);
  }
  block->d = F32ToF16(*std::max_element(group_scale, group_scale + 8) / 63);
  block->dmin = F32ToF16(*std::max_element(group_min, group_min + 8) / 63);
  const float d = F16ToF32(block->d);
  const float dmin = F16ToF32(block->dmin);
  uint8_t scales[8];
  uint8_t mins[8];
  for (int g = 0; g < 8; ++g) {
    scales[g] = static_cast<uint8_t>(NearestCode(group_scale[g], d, 0, 63));
    mins[g] = static_cast<uint8_t>(NearestCode(group_min[g], dmin, 0, 63));
    const float scale = d * scales[g];
    const float min = dmin * mins[g];
    for (int i = 32 * g; i < 32 * (g + 1); ++i) {
      codes[i] = static_cast<uint8_t>(NearestCode(x[i] + min, scale, 0, max_code));
    }
  }
  PackKScales(scales, mins, block->scales);
}

void Quantize(const float* x, BlockQ4_K* block) {
  uint8_t codes[kSuperBlockSize];
  QuantizeKGroups(x, 15, block, codes);
  for (int e = 0; e < kSuperBlockSize / 2; ++e) {
    const int first = 64 * (e / 32) + e % 32;
    block->qs[e] = static_cast<uint8_t>(codes[first] | (codes[first + 32] << 4));
  }
}

void Quantize(const float* x, BlockQ5_K* block) {
  uint8_t codes[kSuperBlockSize];
  QuantizeKGroups(x, 31, block, codes);
  for (int e = 0; e < kSuperBlockSize / 2; ++e) {
    const int first = 64 * (e / 32) + e % 32;
    block->qs[e] = static_cast<uint8_t>((codes[first] & 15) | ((codes[first + 32] & 15) << 4));
  }
  std::fill(std::begin(block->qh), std::end(block->qh), uint8_t{0});
  for (int e = 0; e < kSuperBlockSize; ++e) {
    block->qh[e % 32] = static_cast<uint8_t>(block->qh[e % 32] | ((codes[e] >> 4) << (e / 32)));
  }
}

void Quantize(const float* x, BlockQ6_K* block) {
  float group_scale[16];
  for (int g = 0; g < 16; ++g) group_scale[g] = SignedPeak(x + 16 * g, 16) / -32;
  block->d = F32ToF16(std::abs(SignedPeak(group_scale, 16)) / 127);
  const float d = F16ToF32(block->d);
  std::fill(std::begin(block->ql), std::end(block->ql), uint8_t{0});
  std::fill(std::begin(block->qh), std::end(block->qh), uint8_t{0});
  for (int g = 0; g < 16; ++g) {
    block->scales[g] = static_cast<int8_t>(NearestCode(group_scale[g], d, -127, 127));
  }
  for (int e = 0; e < kSuperBlockSize; ++e) {
    const int code = NearestCode(x[e], d * block->scales[e / 16], -32, 31) + 32;
    const int half = e / 128;
    const int quarter = e / 32 % 4;
    uint8_t& low = block->ql[64 * half + 32 * (quarter % 2) + e % 32];
    uint8_t& high = block->qh[32 * half + e % 32];
    low = static_cast<uint8_t>(low | ((code & 15) << (4 * (quarter / 2))));
    high = static_cast<uint8_t>(high | ((code >> 4) << (2 * quarter)));
  }
}

template <typename Block>
void QuantizeBlocks(const float* src, std::byte* dst, int64_t n, int64_t quant_block_size) {
  for (int64_t done = 0; done < n; done += quant_block_size) {
    Block block;
    Quantize(src + done, &block);
    std::memcpy(dst, &block, sizeof(block));
    dst += sizeof(block);
  }
}

template <typename Convert>
void NarrowToHalves(const float* src, std::byte* dst, int64_t n, Convert convert) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = convert(src[i]);
    std::memcpy(dst + sizeof(bits) * static_cast<size_t>(i), &bits, sizeof(bits));
  }
}

}  // namespace

void QuantizeRow(DType dtype, const float* src, void* dst, int64_t n) {
  auto* bytes = static_cast<std::byte*>(dst);
  const int64_t size = InfoOf(dtype).quant_block_size;
  TIDAL_CHECK(n >= 0 && n % size == 0, "{} elements are not whole {} blocks of {}", n,
              NameOf(dtype), size);
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, sizeof(float) * static_cast<size_t>(n));
      return;
    case DType::kF16:
      return NarrowToHalves(src, bytes, n, F32ToF16);
    case DType::kBF16:
      return NarrowToHalves(src, bytes, n, F32ToBf16);
    case DType::kQ4_0:
      return QuantizeBlocks<BlockQ4_0>(src, bytes, n, size);
    case DType::kQ4_1:
      return QuantizeBlocks<BlockQ4_1>(src, bytes, n, size);
    case DType::kQ5_0:
      return QuantizeBlocks<BlockQ5_0>(src, bytes, n, size);
    case DType::kQ8_0:
      return QuantizeBlocks<BlockQ8_0>(src, bytes, n, size);
    case DType::kQ4_K:
      return QuantizeBlocks<BlockQ4_K>(src, bytes, n, size);
    case DType::kQ5_K:
      return QuantizeBlocks<BlockQ5_K>(src, bytes, n, size);
    case DType::kQ6_K:
      return QuantizeBlocks<BlockQ6_K>(src, bytes, n, size);
    case DType::kQ5_1:
      return QuantizeBlocks<BlockQ5_1>(src, bytes, n, size);
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
      TIDAL_CHECK(false, "there is no quantiser for {}", NameOf(dtype));
  }
}

}  // namespace tidal
