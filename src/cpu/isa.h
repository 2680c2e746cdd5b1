// Which instruction sets this machine has, and the kernels for each.
#ifndef TIDAL_CPU_ISA_H_
#define TIDAL_CPU_ISA_H_

#include <vector>

#include "cpu/kernels.h"
#include "executor/options.h"

namespace tidal {

// Those whose kernels run here (the operating system saves their registers, too), slowest first,
// never kAuto. kAvx2 means AVX2, FMA and F16C; kAvx512 in addition F, BW, DQ, VL and VNNI.
std::vector<Isa> MachineIsas();

// The ISA that `isa` means on this machine, never kAuto. kUnsupported, naming what the machine has.
Result<Isa> ResolveIsa(Isa isa);

// REQUIRES: isa is one of MachineIsas().
const KernelTable& KernelsFor(Isa isa);

}  // namespace tidal

#endif  // TIDAL_CPU_ISA_H_
