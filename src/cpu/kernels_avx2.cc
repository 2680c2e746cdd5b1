// The kernels compiled for AVX2, FMA and F16C. Rules for this file: kernels.h.
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"

namespace tidal {
namespace avx2 {
namespace {
// clang-format off
#include "cpu/simd_avx2.h"  // first: the others are written in it
#include "cpu/elementwise-inl.h"
#include "cpu/attention-inl.h"
#include "cpu/dot_avx2.h"
#include "cpu/selection-inl.h"
#include "cpu/matmul_quantized-inl.h"
#include "cpu/matmul_full-inl.h"
// clang-format on
}  // namespace
}  // namespace avx2

const KernelTable kAvx2Kernels = {
    .matmul = avx2::kMatMul,
    .elementwise = avx2::kElementwise,
    .attention = avx2::kAttention,
    .selection = avx2::kSelection,
};

}  // namespace tidal
#endif
