// The kernels compiled for any machine. Rules for this file: kernels.h.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"

namespace tidal {
namespace portable {
namespace {
// clang-format off
#include "cpu/simd_portable.h"  // first: the others are written in it
#include "cpu/elementwise-inl.h"
#include "cpu/attention-inl.h"
#include "cpu/dot_portable.h"
#include "cpu/selection-inl.h"
#include "cpu/matmul_quantized-inl.h"
#include "cpu/matmul_full-inl.h"
// clang-format on
}  // namespace
}  // namespace portable

const KernelTable kPortableKernels = {
    .matmul = portable::kMatMul,
    .elementwise = portable::kElementwise,
    .attention = portable::kAttention,
    .selection = portable::kSelection,
};

}  // namespace tidal
