// The operations of simd_portable.h for simd_test.cc.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/simd_ops.h"

namespace tidal {
namespace portable {
namespace {
// clang-format off
#include "cpu/simd_portable.h"  // first: the other is written in it
#include "cpu/simd_ops-inl.h"
// clang-format on
}  // namespace
}  // namespace portable

const SimdOps kPortableSimdOps = portable::kOps;

}  // namespace tidal
