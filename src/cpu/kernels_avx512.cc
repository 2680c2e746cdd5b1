// The kernels compiled for AVX-512 (F, BW, DQ, VL, VNNI). Rules for this file: kernels.h.
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"

namespace tidal {
namespace avx512 {
namespace {
// clang-format off
#include "cpu/simd_avx512.h"  // first: the others are written in it
#include "cpu/elementwise-inl.h"
#include "cpu/attention-inl.h"
#include "cpu/dot_avx512.h"
#include "cpu/selection-inl.h"
#include "cpu/matmul_quantized-inl.h"
#include "cpu/matmul_full-inl.h"
// clang-format on
}  // namespace
}  // namespace avx512

const KernelTable kAvx512Kernels = {
    .matmul = avx512::kMatMul,
    .elementwise = avx512::kElementwise,
    .attention = avx512::kAttention,
    .selection = avx512::kSelection,
};

}  // namespace tidal
#endif
