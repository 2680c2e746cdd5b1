#include "quant/dtype.h"

#include <cstring>
#include <iterator>
#include <string>

#include "base/check.h"
#include "base/float16.h"
#include "quant/quant_blocks.h"

namespace tidal {
namespace {

// Indexed by DType.
constexpr DTypeInfo kInfos[] = {
    {"F32", 0, 1, 4},
    {"F16", 1, 1, 2},
    {"BF16", 30, 1, 2},
    {"Q4_0", 2, kQuantBlockSize, sizeof(BlockQ4_0)},
    {"Q4_1", 3, kQuantBlockSize, sizeof(BlockQ4_1)},
    {"Q5_0", 6, kQuantBlockSize, sizeof(BlockQ5_0)},
    {"Q8_0", 8, kQuantBlockSize, sizeof(BlockQ8_0)},
    {"Q4_K", 12, kSuperBlockSize, sizeof(BlockQ4_K)},
    {"Q5_K", 13, kSuperBlockSize, sizeof(BlockQ5_K)},
    {"Q6_K", 14, kSuperBlockSize, sizeof(BlockQ6_K)},
    {"Q5_1", 7, kQuantBlockSize, sizeof(BlockQ5_1)},
    {"Q2_K", 10, kSuperBlockSize, sizeof(BlockQ2_K)},
    {"Q3_K", 11, kSuperBlockSize, sizeof(BlockQ3_K)},
    {"IQ4_NL", 20, kQuantBlockSize, sizeof(BlockIQ4_NL)},
    {"IQ4_XS", 23, kSuperBlockSize, sizeof(BlockIQ4_XS)},
};
static_assert(std::size(kInfos) == kNumDTypes);

// Types that files have and we do not read, so that the error can say which one it met.
struct ForeignType {
  uint32_t ggml_type;
  const char* name;
};
constexpr ForeignType kForeignTypes[] = {
    {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
    {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},  {39, "MXFP4"},
};

// The dequantisers below keep the order of operations that the format's definition has, so that
// every float32 result is reproducible to the bit (the build turns contraction into fused
// operations off for this folder).

void Dequantize(const BlockQ4_0& block, float* x) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < kQuantBlockSize / 2; ++i) {
    x[i] = static_cast<float>((block.qs[i] & 15) - 8) * d;
    x[i + 16] = static_cast<float>((block.qs[i] >> 4) - 8) * d;
  }
}

void Dequantize(const BlockQ4_1& block, float* x) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  for (int i = 0; i < kQuantBlockSize / 2; ++i) {
    x[i] = static_cast<float>(block.qs[i] & 15) * d + m;
    x[i + 16] = static_cast<float>(block.qs[i] >> 4) * d + m;
  }
}

// The 32 codes of a Q5_0 or Q5_1 block.
template <typename Block>
void FiveBitCodes(const Block& block, int codes[kQuantBlockSize]) {
  uint32_t high = 0;
  std::memcpy(&high, block.qh, sizeof(high));
  for (int i = 0; i < kQuantBlockSize / 2; ++i) {
    codes[i] = (block.qs[i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
    codes[i + 16] = (block.qs[i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
  }
}

void Dequantize(const BlockQ5_0& block, float* x) {
  const float d = F16ToF32(block.d);
  int codes[kQuantBlockSize];
  FiveBitCodes(block, codes);
  for (int i = 0; i < kQuantBlockSize; ++i) x[i] = static_cast<float>(codes[i] - 16) * d;
}

void Dequantize(const BlockQ5_1& block, float* x) {
  const float d = F16ToF32(block.d);
  const float m = F16ToF32(block.m);
  int codes[kQuantBlockSize];
  FiveBitCodes(block, codes);
  for (int i = 0; i < kQuantBlockSize; ++i) x[i] = static_cast<float>(codes[i]) * d + m;
}

void Dequantize(const BlockQ8_0& block, float* x) {
  const float d = F16ToF32(block.d);
  for (int i = 0; i < kQuantBlockSize; ++i) x[i] = static_cast<float>(block.qs[i]) * d;
}

void Dequantize(const BlockQ4_K& block, float* x) {
  uint8_t scales[8];
  uint8_t mins[8];
  UnpackKScales(block.scales, scales, mins);
  for (int g = 0; g < 8; ++g) {
    const float scale = F16ToF32(block.d) * static_cast<float>(scales[g]);
    const float min = F16ToF32(block.dmin) * static_cast<float>(mins[g]);
    const uint8_t* run = block.qs + 32 * (g / 2);
    const int shift = 4 * (g % 2);
    for (int i = 0; i < 32; ++i) {
      x[32 * g + i] = scale * static_cast<float>((run[i] >> shift) & 15) - min;
    }
  }
}

void Dequantize(const BlockQ5_K& block, float* x) {
  uint8_t scales[8];
  uint8_t mins[8];
  UnpackKScales(block.scales, scales, mins);
  for (int g = 0; g < 8; ++g) {
    const float scale = F16ToF32(block.d) * static_cast<float>(scales[g]);
    const float min = F16ToF32(block.dmin) * static_cast<float>(mins[g]);
    const uint8_t* run = block.qs + 32 * (g / 2);
    const int shift = 4 * (g % 2);
    for (int i = 0; i < 32; ++i) {
      const int q = ((run[i] >> shift) & 15) | (((block.qh[i] >> g) & 1) << 4);
      x[32 * g + i] = scale * static_cast<float>(q) - min;
    }
  }
}

void Dequantize(const BlockQ6_K& block, float* x) {
  const float d = F16ToF32(block.d);
  for (int e = 0; e < kSuperBlockSize; ++e) {
    const int half = e / 128;  // which run of 64 low and 32 high bytes
    const int quarter = e / 32 % 4;
    const int i = e % 32;
    const int low = (block.ql[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2))) & 15;
    const int high = (block.qh[32 * half + i] >> (2 * quarter)) & 3;
    const float scale = d * static_cast<float>(block.scales[e / 16]);
    x[e] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

void Dequantize(const BlockQ2_K& block, float* x) {
  for (int e = 0; e < kSuperBlockSize; ++e) {
    const uint8_t packed = block.scales[e / 16];
    const float scale = F16ToF32(block.d) * static_cast<float>(packed & 15);
    const float min = F16ToF32(block.dmin) * static_cast<float>(packed >> 4);
    x[e] = scale * static_cast<float>(LowTwoBits(block.qs, e)) - min;
  }
}

void Dequantize(const BlockQ3_K& block, float* x) {
  for (int e = 0; e < kSuperBlockSize; ++e) {
    const float scale = F16ToF32(block.d) * static_cast<float>(ScaleOf(block, e / 16));
    x[e] = scale * static_cast<float>(CodeOf(block, e) - 4);
  }
}

// 32 elements of IQ4_NL or IQ4_XS.
void DequantizeIq4(const uint8_t* qs, float scale, float* x) {
  for (int i = 0; i < kQuantBlockSize / 2; ++i) {
    x[i] = scale * static_cast<float>(kIq4Values[qs[i] & 15]);
    x[i + 16] = scale * static_cast<float>(kIq4Values[qs[i] >> 4]);
  }
}

void Dequantize(const BlockIQ4_NL& block, float* x) {
  DequantizeIq4(block.qs, F16ToF32(block.d), x);
}

void Dequantize(const BlockIQ4_XS& block, float* x) {
  for (int g = 0; g < kSuperBlockSize / 32; ++g) {
    const float scale = F16ToF32(block.d) * static_cast<float>(ScaleOf(block, g));
    DequantizeIq4(block.qs + 16 * g, scale, x + 32 * g);
  }
}

template <typename Block>
void DequantizeBlocks(const std::byte* src, float* dst, int64_t n, int64_t quant_block_size) {
  for (int64_t done = 0; done < n; done += quant_block_size) {
    Block block;  // a copy, because src may have any alignment
    std::memcpy(&block, src, sizeof(block));
    Dequantize(block, dst + done);
    src += sizeof(block);
  }
}

template <typename Convert>
void WidenHalves(const std::byte* src, float* dst, int64_t n, Convert convert) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, src + sizeof(bits) * static_cast<size_t>(i), sizeof(bits));
    dst[i] = convert(bits);
  }
}

}  // namespace

const DTypeInfo& InfoOf(DType dtype) { return kInfos[static_cast<size_t>(dtype)]; }

DType KeptAs(DType dtype) {
  switch (dtype) {
    case DType::kQ3_K:
      return DType::kQ6_K;
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
      return DType::kQ8_0;
    case DType::kQ2_K:
      return DType::kF16;
    default:
      return dtype;
  }
}

int64_t BytesOf(DType dtype, int64_t elements) {
  const DTypeInfo& info = InfoOf(dtype);
  TIDAL_CHECK(elements >= 0 && elements % info.quant_block_size == 0,
              "{} elements are not whole {} blocks of {}", elements, info.name,
              info.quant_block_size);
  return elements / info.quant_block_size * info.quant_block_bytes;
}

std::string NameOfGgmlType(uint32_t ggml_type) {
  for (const DTypeInfo& info : kInfos) {
    if (info.ggml_type == ggml_type) return info.name;
  }
  for (const ForeignType& foreign : kForeignTypes) {
    if (foreign.ggml_type == ggml_type) return foreign.name;
  }
  return fmt::format("type {}", ggml_type);
}

Result<DType> DTypeFromGgml(uint32_t ggml_type) {
  std::string supported;
  for (int i = 0; i < kNumDTypes; ++i) {
    if (kInfos[i].ggml_type == ggml_type) return static_cast<DType>(i);
    supported += fmt::format("{}{}", i == 0 ? "" : ", ", kInfos[i].name);
  }
  return Unsupported("{} (number {}) is not supported; supported are {}", NameOfGgmlType(ggml_type),
                     ggml_type, supported);
}

void DequantizeRow(DType dtype, const void* src, float* dst, int64_t n) {
  const auto* bytes = static_cast<const std::byte*>(src);
  const int64_t size = InfoOf(dtype).quant_block_size;
  TIDAL_CHECK(n >= 0 && n % size == 0, "{} elements are not whole {} blocks of {}", n,
              NameOf(dtype), size);
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, sizeof(float) * static_cast<size_t>(n));
      return;
    case DType::kF16:
      return WidenHalves(bytes, dst, n, F16ToF32);
    case DType::kBF16:
      return WidenHalves(bytes, dst, n, Bf16ToF32);
    case DType::kQ4_0:
      return DequantizeBlocks<BlockQ4_0>(bytes, dst, n, size);
    case DType::kQ4_1:
      return DequantizeBlocks<BlockQ4_1>(bytes, dst, n, size);
    case DType::kQ5_0:
      return DequantizeBlocks<BlockQ5_0>(bytes, dst, n, size);
    case DType::kQ8_0:
      return DequantizeBlocks<BlockQ8_0>(bytes, dst, n, size);
    case DType::kQ4_K:
      return DequantizeBlocks<BlockQ4_K>(bytes, dst, n, size);
    case DType::kQ5_K:
      return DequantizeBlocks<BlockQ5_K>(bytes, dst, n, size);
    case DType::kQ6_K:
      return DequantizeBlocks<BlockQ6_K>(bytes, dst, n, size);
    case DType::kQ5_1:
      return DequantizeBlocks<BlockQ5_1>(bytes, dst, n, size);
    case DType::kQ2_K:
      return DequantizeBlocks<BlockQ2_K>(bytes, dst, n, size);
    case DType::kQ3_K:
      return DequantizeBlocks<BlockQ3_K>(bytes, dst, n, size);
    case DType::kIQ4_NL:
      return DequantizeBlocks<BlockIQ4_NL>(bytes, dst, n, size);
    case DType::kIQ4_XS:
      return DequantizeBlocks<BlockIQ4_XS>(bytes, dst, n, size);
  }
}

}  // namespace tidal
