// Plain round-to-nearest quantisers, the inverse of DequantizeRow up to rounding. They serve tests
// and test models: they do not search for better scales, as a tool that ships models would.
#ifndef TIDAL_QUANT_QUANTIZE_H_
#define TIDAL_QUANT_QUANTIZE_H_

#include <cstdint>

#include "quant/dtype.h"

namespace tidal {

// Packs n consecutive elements. Deterministic. With `range` the largest minus the smallest value of
// a quant group, zero counted in, an element is off by at most about range / 2^bits. REQUIRES:
// KeptAs(dtype)
// == dtype; n a multiple of the block size; every src[i] finite and of a magnitude that f16 scales
// can carry (at most 65504); dst holds BytesOf(dtype, n) bytes, any alignment.
void QuantizeRow(DType dtype, const float* src, void* dst, int64_t n);

}  // namespace tidal

#endif  // TIDAL_QUANT_QUANTIZE_H_
