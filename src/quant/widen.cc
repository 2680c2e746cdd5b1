#include "quant/widen.h"

#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/float16.h"
#include "quant/quant_blocks.h"

namespace tidal {
namespace {

// Each of these writes what one block of the file becomes.

void Widen(const BlockQ3_K& from, BlockQ6_K* to) {
  *to = {};
  to->d = from.d;
  for (int g = 0; g < kSuperBlockSize / 16; ++g)
    to->scales[g] = static_cast<int8_t>(ScaleOf(from, g));
  for (int e = 0; e < kSuperBlockSize; ++e) {
    const int code = CodeOf(from, e) - 4 + 32;
    const int quarter = e / 32 % 4;
    uint8_t& low = to->ql[64 * (e / 128) + 32 * (quarter % 2) + e % 32];
    uint8_t& high = to->qh[32 * (e / 128) + e % 32];
    low = static_cast<uint8_t>(low | ((code & 15) << (4 * (quarter / 2))));
    high = static_cast<uint8_t>(high | ((code >> 4) << (2 * quarter)));
  }
}

void WidenIq4(const uint8_t* qs, BlockQ8_0* to) {
  for (int i = 0; i < kQuantBlockSize / 2; ++i) {
    to->qs[i] = kIq4Values[qs[i] & 15];
    to->qs[i + 16] = kIq4Values[qs[i] >> 4];
  }
}

void Widen(const BlockIQ4_NL& from, BlockQ8_0* to) {
  to->d = from.d;
  WidenIq4(from.qs, to);
}

struct EightBlocks {
  BlockQ8_0 blocks[kSuperBlockSize / kQuantBlockSize];
};

void Widen(const BlockIQ4_XS& from, EightBlocks* to) {
  for (int g = 0; g < kSuperBlockSize / kQuantBlockSize; ++g) {
    to->blocks[g].d = F32ToF16(F16ToF32(from.d) * static_cast<float>(ScaleOf(from, g)));
    WidenIq4(from.qs + 16 * g, &to->blocks[g]);
  }
}

struct Halves {
  uint16_t bits[kSuperBlockSize];
};

void Widen(const BlockQ2_K& from, Halves* to) {
  float values[kSuperBlockSize];
  DequantizeRow(DType::kQ2_K, &from, values, kSuperBlockSize);
  for (int e = 0; e < kSuperBlockSize; ++e) to->bits[e] = F32ToF16(values[e]);
}

template <typename From, typename To>
void WidenBlocks(const void* src, void* dst, int64_t num_blocks) {
  const auto* from_bytes = static_cast<const std::byte*>(src);
  auto* to_bytes = static_cast<std::byte*>(dst);
  for (int64_t i = 0; i < num_blocks; ++i, from_bytes += sizeof(From), to_bytes += sizeof(To)) {
    From from;
    To to;
    std::memcpy(&from, from_bytes, sizeof(from));
    Widen(from, &to);
    std::memcpy(to_bytes, &to, sizeof(to));
  }
}

}  // namespace

void WidenRow(DType dtype, const void* src, void* dst, int64_t n) {
  const int64_t size = InfoOf(dtype).quant_block_size;
  TIDAL_CHECK(n >= 0 && n % size == 0, "{} elements are not whole {} blocks of {}", n,
              NameOf(dtype), size);
  switch (dtype) {
    case DType::kQ2_K:
      return WidenBlocks<BlockQ2_K, Halves>(src, dst, n / size);
    case DType::kQ3_K:
      return WidenBlocks<BlockQ3_K, BlockQ6_K>(src, dst, n / size);
    case DType::kIQ4_NL:
      return WidenBlocks<BlockIQ4_NL, BlockQ8_0>(src, dst, n / size);
    case DType::kIQ4_XS:
      return WidenBlocks<BlockIQ4_XS, EightBlocks>(src, dst, n / size);
    default:
      TIDAL_CHECK(false, "{} is not widened", NameOf(dtype));
  }
}

}  // namespace tidal
