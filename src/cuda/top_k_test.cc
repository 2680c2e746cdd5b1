// The top-k of a choice against a stable sort.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <string>

#include "cuda/selection_params.h"
#include "cuda/selection_test_bed.h"

namespace tidal {
namespace {

class CudaTopKTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT TESTED: there is no CUDA device here";
    int device = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&geometry_.num_sms, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&geometry_.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                           device);
    ASSERT_EQ(PrepareTopK(&geometry_), cudaSuccess);
  }

  // How the sets are found: by a threshold over all values, or by bins that were counted before,
  // with the device shared by `total_sets`.
  struct Way {
    bool by_bins = false;
    TopKShape shape;
    int32_t total_sets = 1;
  };

  // The values of each row in bins as merging leaves them: 32 to an octave, from 2^-58 to 2^6.
  static std::vector<uint32_t> BinsOf(const std::vector<float>& values, int32_t rows) {
    const size_t count = values.size() / static_cast<size_t>(rows);
    std::vector<uint32_t> bins(static_cast<size_t>(int64_t{rows} * kTopKBins), 0);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      // A float's octave and the next five bits of it are its upper bits but the sign.
      uint32_t bits = 0;
      const float value = std::abs(values[i]);
      std::memcpy(&bits, &value, 4);
      const int32_t bin = static_cast<int32_t>(bits >> 18) - (127 - 58) * 32;
      ++bins[i / count * kTopKBins + static_cast<size_t>(std::clamp(bin, 0, kTopKBins - 1))];
    }
    return bins;
  }

  // The chosen positions of each row of values [rows][count].
  std::vector<std::vector<int32_t>> Take(const std::vector<float>& values, int32_t rows,
                                         int32_t wanted, const Way& way) {
    const auto count = static_cast<int32_t>(values.size()) / rows;
    const auto max_tokens = static_cast<int32_t>((count + 63) / 64 * 64);
    std::vector<float> padded(static_cast<size_t>(int64_t{rows} * max_tokens), NAN);
    for (int32_t r = 0; r < rows; ++r)
      std::copy_n(values.begin() + int64_t{r} * count, count,
                  padded.begin() + int64_t{r} * max_tokens);
    std::vector<int32_t> pages(static_cast<size_t>(max_tokens / 64));
    std::iota(pages.begin(), pages.end(), 0);
    const DeviceBuffer device_values = OnDevice(padded);
    const DeviceBuffer ordered = OnDevice(padded);
    const DeviceBuffer device_pages = OnDevice(pages);
    const DeviceBuffer totals = OnDevice(std::vector<ChoiceTotals>(1));
    const DeviceBuffer slots = OnDevice(std::vector<int32_t>(padded.size(), -1));
    const DeviceBuffer counts = OnDevice(std::vector<int32_t>(static_cast<size_t>(rows), -1));
    const DeviceBuffer sequences =
        OnDevice(std::vector<DeviceSequence>{{.q_len = 1, .kv_len = count}});
    const DeviceBuffer flags = OnDevice(std::vector<uint8_t>{kChooses});
    const DeviceBuffer reports = OnDevice(std::vector<DeviceChoiceReport>(1));
    const DeviceBuffer bins = OnDevice(BinsOf(values, rows));
    ChoiceParams params;
    params.values = params.masses = device_values.as<float>();
    params.ordered = ordered.as<uint32_t>();
    params.totals = totals.as<ChoiceTotals>();
    params.slots = slots.as<int32_t>();
    params.counts = counts.as<int32_t>();
    params.capacity = max_tokens;
    params.num_sets = rows;
    params.always_end = count;
    params.wanted = wanted;
    if (way.by_bins) {
      params.bins = bins.as<uint32_t>();
      params.counts_bins = 1;
    }
    const DeviceBuffer device_params = OnDevice(std::vector<ChoiceParams>{params});
    ChoiceLaunch launch;
    launch.step = {sequences.as<DeviceSequence>(), device_pages.as<int32_t>(), flags.as<uint8_t>(),
                   1};
    launch.params = device_params.as<ChoiceParams>();
    launch.reports = reports.as<DeviceChoiceReport>();
    launch.num_heads = rows;
    launch.max_tokens = max_tokens;
    EXPECT_EQ(way.by_bins ? LaunchCounted(launch, geometry_, rows, way.total_sets, nullptr)
                          : LaunchSelect(launch, way.shape, rows, nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    if (way.by_bins) ExpectZeros(bins, rows);
    std::vector<int32_t> sizes(static_cast<size_t>(rows));
    cudaMemcpy(sizes.data(), counts.data(), sizes.size() * 4, cudaMemcpyDeviceToHost);
    std::vector<std::vector<int32_t>> sets;
    for (int32_t r = 0; r < rows; ++r) {
      std::vector<int32_t> set(static_cast<size_t>(std::max(sizes[static_cast<size_t>(r)], 0)));
      cudaMemcpy(set.data(), slots.as<int32_t>() + int64_t{r} * max_tokens, set.size() * 4,
                 cudaMemcpyDeviceToHost);
      sets.push_back(std::move(set));
    }
    return sets;
  }

  // Left for the next choice.
  static void ExpectZeros(const DeviceBuffer& device_bins, int32_t rows) {
    std::vector<uint32_t> bins(static_cast<size_t>(int64_t{rows} * kTopKBins), 1);
    cudaMemcpy(bins.data(), device_bins.data(), bins.size() * 4, cudaMemcpyDeviceToHost);
    EXPECT_EQ(bins, std::vector<uint32_t>(bins.size(), 0));
  }

  void Check(const std::vector<float>& values, int32_t rows, int32_t wanted) {
    const auto count = static_cast<int32_t>(values.size()) / rows;
    const auto max_tokens = static_cast<int32_t>((count + 63) / 64 * 64);
    std::vector<std::vector<int32_t>> expected;
    for (int32_t r = 0; r < rows; ++r) {
      const float* row = values.data() + int64_t{r} * count;
      std::vector<int32_t> order;
      for (int32_t i = 0; i < count; ++i)
        if (!std::isnan(row[i])) order.push_back(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return row[a] > row[b]; });
      order.resize(std::min(order.size(), static_cast<size_t>(wanted)));
      std::sort(order.begin(), order.end());
      expected.push_back(std::move(order));
    }
    // Every size of clusters, values in shared memory and not.
    for (const int32_t total_sets :
         {1, geometry_.num_sms / 4, geometry_.num_sms / 2, geometry_.num_sms}) {
      TopKShape shape = ShapeOfTopK(geometry_, max_tokens, total_sets);
      for (const bool in_shared : {true, false}) {
        if (!in_shared) shape.shared_ordered = 0;
        EXPECT_EQ(Take(values, rows, wanted, {.shape = shape}), expected)
            << count << " values, wanted " << wanted << ", blocks " << shape.cluster
            << (in_shared ? "" : ", from device memory");
        if (HasFailure()) return;
      }
      // Bins are of probabilities: of no negative values.
      if (std::any_of(values.begin(), values.end(), [](float value) { return value < 0; }))
        continue;
      EXPECT_EQ(Take(values, rows, wanted, {.by_bins = true, .total_sets = total_sets}), expected)
          << count << " values, wanted " << wanted << ", by bins, for " << total_sets << " sets";
      if (HasFailure()) return;
    }
  }

  ChoiceGeometry geometry_;
};

TEST_F(CudaTopKTest, EverySmallSize) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1);
  for (const bool are_positive : {false, true}) {
    for (const int32_t count : {1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 1025}) {
      std::vector<float> values(static_cast<size_t>(count * 3));
      for (float& value : values) value = are_positive ? std::exp(normal(random)) : normal(random);
      for (const int32_t wanted : {0, 1, 2, count / 2, count - 1, count, count + 5}) {
        Check(values, 3, std::max(wanted, 0));
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaTopKTest, Ties) {
  std::mt19937 random(2);
  for (const float least : {-1.0f, 0.0f, 0.1f}) {
    for (const uint32_t levels : {1u, 2u, 5u}) {
      std::vector<float> values(20000);
      for (float& value : values) value = least + static_cast<float>(random() % levels);
      for (const int32_t wanted : {1, 100, 4096, 19999}) Check(values, 1, wanted);
    }
  }
}

// As many values in the last bin as are compared one by one, one more, and all; below the first bin
// and beyond the last.
TEST_F(CudaTopKTest, FullBins) {
  std::mt19937 random(5);
  for (const float scale : {0x1p-70f, 0x1p-40f, 0x1p20f}) {
    for (const int32_t in_bin : {1023, 1024, 1025, 30000}) {
      std::vector<float> values(30000, 3 * scale);
      for (int32_t i = 0; i < in_bin; ++i)
        values[static_cast<size_t>(i)] = scale * (1 + 0x1p-12f * static_cast<float>(random() % 64));
      std::shuffle(values.begin(), values.end(), random);
      const int32_t above = 30000 - in_bin;
      for (const int32_t wanted : {above, above + 1, above + in_bin / 2, 29999})
        Check(values, 1, wanted);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaTopKTest, OddValues) {
  std::mt19937 random(3);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float odd[] = {0.0f, -0.0f, kInf, -kInf, NAN, 1e-40f, -1e-40f, 3.0f, 3.0000002f, -3.0f};
  std::vector<float> values(5000);
  for (float& value : values) value = odd[random() % 10];
  for (const int32_t wanted : {1, 400, 700, 1500, 3000, 4400, 5000}) Check(values, 1, wanted);
}

TEST_F(CudaTopKTest, Many) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 3);
  for (const int32_t count : {100000, 262144}) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = std::exp(normal(random));
    for (const int32_t wanted : {1, 1024, 50000, count}) Check(values, 1, wanted);
  }
}

}  // namespace
}  // namespace tidal
