// Tests that run once for each instruction set that the program has kernels for.
#ifndef TIDAL_CPU_ISA_TEST_UTIL_H_
#define TIDAL_CPU_ISA_TEST_UTIL_H_

#include <algorithm>
#include <gtest/gtest.h>
#include <vector>

#include "cpu/isa.h"

namespace tidal {

// Those that this machine lacks are skipped, loudly.
class IsaTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = MachineIsas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam())
                   << ": its kernels were NOT tested";
  }
};

}  // namespace tidal

#endif  // TIDAL_CPU_ISA_TEST_UTIL_H_
