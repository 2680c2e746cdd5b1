// The kernels of one ISA, as a table of functions. Each table is built by its own source file
// (kernels_portable.cc, kernels_avx2.cc, kernels_avx512.cc) with that ISA's flags; everything else
// in those files has internal linkage and uses C headers only, so that no inline function compiled
// for a newer ISA can be linked into code that runs everywhere.
#ifndef TIDAL_CPU_KERNELS_H_
#define TIDAL_CPU_KERNELS_H_

#include "cpu/attention_kernels.h"
#include "cpu/elementwise_kernels.h"
#include "cpu/matmul_kernels.h"
#include "cpu/selection_kernels.h"

// Before a loop with a constant count: its body is written out, so that arrays of vectors that it
// indexes live in registers.
#if defined(__clang__)
#define TIDAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TIDAL_UNROLL _Pragma("GCC unroll 16")
#endif
// Keeps a hot loop's registers apart from those of its caller.
#define TIDAL_NOINLINE __attribute__((noinline))

namespace tidal {

struct KernelTable {
  MatMulKernels matmul;
  ElementwiseKernels elementwise;
  AttentionKernels attention;
  SelectionKernels selection;
};

extern const KernelTable kPortableKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

}  // namespace tidal

#endif  // TIDAL_CPU_KERNELS_H_
