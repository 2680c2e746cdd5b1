#include "cpu/top_k.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/check.h"

namespace tidal {
namespace {

constexpr int kBinShift = 21;

// Ascending with the value; adding 0 makes -0 the same as 0.
uint32_t OrderedBits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

bool IsNumber(float value) { return value == value; }

// The least value of a bin; NaN, which nothing reaches, where all are above infinity.
float LeastOfBin(int bin) {
  if (bin >= kTopKBins) return std::numeric_limits<float>::quiet_NaN();
  const uint32_t ordered = static_cast<uint32_t>(bin) << kBinShift;
  const bool is_negative = (ordered & 0x80000000u) == 0;
  const auto least = std::bit_cast<float>(is_negative ? ~ordered : ordered & 0x7fffffffu);
  return is_negative && !IsNumber(least) ? -std::numeric_limits<float>::infinity() : least;
}

// Keeps of within[0 .. count) the `need` largest, in place and ascending. REQUIRES: need < count.
void KeepLargest(const float* values, int32_t need, int32_t count, TopKScratch* scratch) {
  float* bin_values = scratch->bin_values.data();
  int32_t* within = scratch->within.data();
  for (int32_t i = 0; i < count; ++i) bin_values[i] = values[within[i]];
  std::nth_element(bin_values, bin_values + need - 1, bin_values + count, std::greater<>());
  const float least = bin_values[need - 1];
  const auto larger = static_cast<int32_t>(
      std::count_if(bin_values, bin_values + need, [&](float v) { return v > least; }));
  int32_t ties = need - larger;
  int32_t kept = 0;
  for (int32_t i = 0; i < count; ++i) {
    const float value = values[within[i]];
    if (!(value > least) && (!(value == least) || ties-- <= 0)) continue;
    within[kept++] = within[i];
  }
}

int32_t MergeAscending(const TopKScratch& scratch, int32_t num_above, int32_t num_within,
                       int32_t* positions) {
  const auto* end =
      std::merge(scratch.above.data(), scratch.above.data() + num_above, scratch.within.data(),
                 scratch.within.data() + num_within, positions);
  return static_cast<int32_t>(end - positions);
}

}  // namespace

void TopKScratch::Reserve(int64_t max_values) {
  bins.resize(kTopKBins);
  if (static_cast<int64_t>(bin_values.size()) >= max_values) return;
  above.resize(static_cast<size_t>(max_values) + 1);
  within.resize(static_cast<size_t>(max_values) + 1);
  bin_values.resize(static_cast<size_t>(max_values));
}

void CountIntoBins(const ValueRange& range, uint32_t* bins) {
  for (int32_t pos = range.begin; pos < range.end; ++pos) {
    const float value = range.values[pos];
    // NaN has bits above infinity's; it belongs below.
    const uint32_t bin = IsNumber(value) ? OrderedBits(value) >> kBinShift : 0;
    ++bins[bin];
  }
}

int32_t TopK(const SelectionKernels& kernels, const ValueRange& range, int32_t k,
             TopKScratch* scratch, int32_t* positions) {
  TIDAL_CHECK(k >= 0 && k <= range.end - range.begin, "top {} of {}", k, range.end - range.begin);
  int64_t above = 0;
  int bin = kTopKBins;
  while (bin > 0 && above + scratch->bins[static_cast<size_t>(bin - 1)] < k)
    above += scratch->bins[static_cast<size_t>(--bin)];
  --bin;  // the bin of the k-th largest
  std::fill(scratch->bins.begin(), scratch->bins.end(), 0);
  if (k == 0) return 0;
  int32_t num_above = 0;
  int32_t num_within = 0;
  kernels.collect(range.values, range.begin, range.end, LeastOfBin(bin), LeastOfBin(bin + 1),
                  scratch->above.data(), &num_above, scratch->within.data(), &num_within);
  const int32_t need = k - num_above;
  if (need > 0 && need < num_within) KeepLargest(range.values, need, num_within, scratch);
  return MergeAscending(*scratch, num_above, std::clamp(need, 0, num_within), positions);
}

int32_t TopMass(const SelectionKernels& kernels, const ValueRange& range, const MassTarget& target,
                TopKScratch* scratch, int32_t* positions) {
  double have = target.have;
  int32_t size = target.size;
  const auto is_done = [&](double sum, int32_t count) {
    return (sum >= target.share && count >= target.floor) ||
           (target.ceil != 0 && count >= target.ceil);
  };
  if (is_done(have, size) || range.begin >= range.end) return 0;
  double sums[kTopKBins] = {};
  for (int32_t pos = range.begin; pos < range.end; ++pos) {
    const float value = range.values[pos];
    if (!IsNumber(value)) continue;
    const uint32_t bin = OrderedBits(value) >> kBinShift;
    ++scratch->bins[bin];
    sums[bin] += static_cast<double>(value) * target.scale;
  }
  int bin = kTopKBins - 1;
  for (; bin > 0; --bin) {
    const auto count = static_cast<int32_t>(scratch->bins[static_cast<size_t>(bin)]);
    if (is_done(have + sums[bin], size + count)) break;
    have += sums[bin];
    size += count;
  }
  std::fill(scratch->bins.begin(), scratch->bins.end(), 0);
  int32_t num_above = 0;
  int32_t num_within = 0;
  kernels.collect(range.values, range.begin, range.end, LeastOfBin(bin), LeastOfBin(bin + 1),
                  scratch->above.data(), &num_above, scratch->within.data(), &num_within);
  int32_t* within = scratch->within.data();
  std::sort(within, within + num_within, [&](int32_t a, int32_t b) {
    const float x = range.values[a];
    const float y = range.values[b];
    return x != y ? x > y : a < b;
  });
  int32_t taken = 0;
  for (; taken < num_within && !is_done(have, size); ++taken, ++size)
    have += static_cast<double>(range.values[within[taken]]) * target.scale;
  std::sort(within, within + taken);
  return MergeAscending(*scratch, num_above, taken, positions);
}

int32_t TopKSorted(const SelectionKernels& kernels, const ValueRange& range, int32_t k,
                   TopKScratch* scratch, int32_t* positions) {
  CountIntoBins(range, scratch->bins.data());
  const int32_t count = TopK(kernels, range, k, scratch, positions);
  std::sort(positions, positions + count, [&](int32_t a, int32_t b) {
    const float x = range.values[a];
    const float y = range.values[b];
    return x != y ? x > y : a < b;
  });
  return count;
}

}  // namespace tidal
