// Weights of the rarer types as the types that the kernels read.
#ifndef TIDAL_QUANT_WIDEN_H_
#define TIDAL_QUANT_WIDEN_H_

#include <cstdint>

#include "quant/dtype.h"

namespace tidal {

// Writes n consecutive elements of `dtype` as KeptAs(dtype). Q3_K and IQ4_NL keep their exact
// values. IQ4_XS rounds the scale of each 32 elements, and Q2_K each element, to f16: by at most
// 2^-11 of itself, or 2^-25 where it is below 2^-14. REQUIRES: KeptAs(dtype) != dtype; n a multiple
// of the block size of `dtype`; src holds BytesOf(dtype, n) bytes and dst BytesOf(KeptAs(dtype),
// n), both of any alignment.
void WidenRow(DType dtype, const void* src, void* dst, int64_t n);

}  // namespace tidal

#endif  // TIDAL_QUANT_WIDEN_H_
