#include "cpu/isa.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "cpu/cpu_executor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tidal {
namespace {

#if defined(__x86_64__)

// The state components that the operating system saves (XCR0); 0 without XSAVE.
uint64_t SavedState() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0) return 0;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

bool HasAll(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

struct X86Isas {
  bool avx2 = false;
  bool avx512 = false;
};

X86Isas DetectX86() {
  constexpr uint64_t kAvxState = 0x6;      // XMM, upper halves of YMM
  constexpr uint64_t kAvx512State = 0xe6;  // and mask registers, upper ZMM, ZMM16 to 31
  X86Isas found;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return found;
  const bool avx = HasAll(ecx, bit_AVX | bit_FMA | bit_F16C);
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
  const uint64_t state = SavedState();
  found.avx2 = avx && HasAll(ebx, bit_AVX2) && (state & kAvxState) == kAvxState;
  found.avx512 = found.avx2 && (state & kAvx512State) == kAvx512State &&
                 HasAll(ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) &&
                 HasAll(ecx, bit_AVX512VNNI);
  return found;
}

#endif

}  // namespace

std::vector<Isa> MachineIsas() {
  std::vector<Isa> isas = {Isa::kPortable};
#if defined(__x86_64__)
  const X86Isas found = DetectX86();
  if (found.avx2) isas.push_back(Isa::kAvx2);
  if (found.avx512) isas.push_back(Isa::kAvx512);
#endif
  return isas;
}

const KernelTable& KernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return kAvx2Kernels;
  if (isa == Isa::kAvx512) return kAvx512Kernels;
#endif
  TIDAL_CHECK(isa == Isa::kPortable, "no kernels for {}", NameOf(isa));
  return kPortableKernels;
}

Result<Isa> ResolveIsa(Isa isa) {
  const std::vector<Isa> isas = MachineIsas();
  if (isa == Isa::kAuto) return isas.back();
  if (std::find(isas.begin(), isas.end(), isa) != isas.end()) return isa;
  std::string names;
  for (Isa has : isas) names += fmt::format("{}{}", names.empty() ? "" : ", ", NameOf(has));
  return Unsupported("this machine does not have the instruction set {}, only: {}", NameOf(isa),
                     names);
}

}  // namespace tidal
