// The operations of simd_avx2.h for simd_test.cc.
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/simd_ops.h"

namespace tidal {
namespace avx2 {
namespace {
// clang-format off
#include "cpu/simd_avx2.h"  // first: the other is written in it
#include "cpu/simd_ops-inl.h"
// clang-format on
}  // namespace
}  // namespace avx2

const SimdOps kAvx2SimdOps = avx2::kOps;

}  // namespace tidal
#endif
