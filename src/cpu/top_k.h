// The largest of many values, exactly: linear in their number, ties to the smaller position.
//
// How       a histogram over the leading bits of the values (an order-preserving integer form of
//           floats) gives the bin that the k-th largest lies in; one vectorised pass collects what
//           lies above that bin and what lies in it; only the bin's members are compared among
//           themselves.
// Bytes     two reads of the values.
// Numerics  comparisons only. NaN is below everything and never chosen.
// Oracle    a stable sort in top_k_test.cc.
#ifndef TIDAL_CPU_TOP_K_H_
#define TIDAL_CPU_TOP_K_H_

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/selection_kernels.h"

namespace tidal {

// Sign, exponent and two bits of the mantissa: a bin is a quarter of an octave.
inline constexpr int kTopKBins = 2048;

// What one thread needs; reused between calls.
struct TopKScratch {
  std::vector<uint32_t> bins;     // [kTopKBins], zeros between calls
  std::vector<int32_t> above;     // [max values + 1]
  std::vector<int32_t> within;    // [max values + 1]
  std::vector<float> bin_values;  // [max values]

  void Reserve(int64_t max_values);
};

// A contiguous run of values: positions begin .. end - 1 of `values`.
struct ValueRange {
  const float* values;
  int32_t begin;
  int32_t end;
};

// Counts a range into bins [kTopKBins].
void CountIntoBins(const ValueRange& range, uint32_t* bins);

// The positions of the k largest of the range, ascending, to `positions` [k]; returns how many:
// fewer than k only where NaN leaves fewer. scratch->bins holds the range's counts (CountIntoBins)
// and is zeroed. REQUIRES: 0 <= k <= end - begin.
int32_t TopK(const SelectionKernels& kernels, const ValueRange& range, int32_t k,
             TopKScratch* scratch, int32_t* positions);

// Chooses by share instead of number.
struct MassTarget {
  double share;   // stop when the chosen values' sum reaches it
  double have;    // sum of what is chosen already
  int32_t size;   // number of that
  int32_t floor;  // do not stop below this size
  int32_t ceil;   // stop at this size; 0: never
  double scale;   // values are multiplied by it
};
// The fewest positions of the range in descending order of value that reach the target, ascending,
// to `positions` [end - begin]; returns how many.
int32_t TopMass(const SelectionKernels& kernels, const ValueRange& range, const MassTarget& target,
                TopKScratch* scratch, int32_t* positions);

// The positions of the k largest in descending order of value (ties: ascending position).
int32_t TopKSorted(const SelectionKernels& kernels, const ValueRange& range, int32_t k,
                   TopKScratch* scratch, int32_t* positions);

}  // namespace tidal

#endif  // TIDAL_CPU_TOP_K_H_
